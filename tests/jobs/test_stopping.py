"""What waits can be stopped where it waits, whether or not anybody works."""

import pytest

from limbeck.jobs.queue import Queue, open_database
from limbeck.jobs.stopping import end_waiting
from limbeck.storage.database import Resource
from limbeck.storage.ledger import Ledger, now


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(open_database(f"sqlite:///{tmp_path / 'rows.sqlite'}"))
    yield made
    made.engine.dispose()


def put(ledger, queue, name, enqueue=True):
    stages = {
        "validationDetails": {"status": "InProgress", "lastModifiedTime": "2026-01-01T00:00:00+00:00"},
        "trainingDetails": {"status": "NotStarted", "lastModifiedTime": "2026-01-01T00:00:00+00:00"},
    }
    row = Resource(
        arn=f"arn:job/{name}",
        kind="job",
        name=name,
        status="InProgress",
        created=now(),
        modified=now(),
        request={},
        facts={"statusDetails": stages},
    )
    ledger.create(row, then=lambda connection: queue.put(connection, "jobs", name, row.arn) if enqueue else None)
    return row.arn


def test_a_job_that_waits_and_is_stopping_ends_with_its_stage(ledger):
    queue = Queue(ledger.engine)
    stopped, going, begun = put(ledger, queue, "a"), put(ledger, queue, "b"), put(ledger, queue, "c", enqueue=False)
    for arn in (stopped, begun):
        ledger.change(arn, "Stopping")
    end_waiting(ledger, queue)
    row = ledger.row(stopped)
    assert (row.status, row.ended) == ("Stopped", row.modified)
    assert [stage["status"] for stage in row.facts["statusDetails"].values()] == ["Stopped", "NotStarted"]
    assert [ledger.row(arn).status for arn in (going, begun)] == ["InProgress", "Stopping"]
