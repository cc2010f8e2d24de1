"""The invocation log says who asked, as STS does."""

import gzip
import json
from datetime import UTC, datetime

import pytest

from limbeck.records import Invocation
from limbeck.serving.logbook import Logbook
from limbeck.storage.objects import Buckets


@pytest.mark.parametrize(
    ("caller", "arn"),
    [
        ("ada", "arn:aws:iam::000000000000:user/ada"),
        ("desk/monday", "arn:aws:sts::000000000000:assumed-role/desk/monday"),
    ],
)
def test_a_record_names_a_user_or_the_session_of_a_role(settings, caller, arn):
    buckets = Buckets(settings.buckets)
    buckets.make_bucket("log")
    logbook = Logbook(settings, buckets, lambda: {"s3Config": {"bucketName": "log"}})
    logbook.record(Invocation("one", datetime.now(UTC), "Converse", "model", caller, {}, {}, {}, 1, 1))
    logbook.close()
    (found,) = buckets.list("log")
    assert json.loads(gzip.decompress(b"".join(buckets.read("log", found.key))))["identity"] == {"arn": arn}
