"""A child and the job it does: alone, or waiting until it is."""

import errno
import fcntl
import os
import subprocess
import sys
import time

import pytest

from limbeck.jobs.queue import open_database
from limbeck.storage.database import Resource
from limbeck.storage.ledger import Ledger, now
from limbeck.worker import ending, labor, readying

ARN = "arn:aws:bedrock:us-east-1:000000000000:model-import-job/abcdefghijkl"


@pytest.fixture
def ledger(settings):
    made = Ledger(open_database(settings.database))
    yield made
    made.engine.dispose()


def put(ledger, kind="model-import-job", status="InProgress", **facts):
    moment = now()
    row = Resource(
        arn=ARN,
        kind=kind,
        name="brought",
        status=status,
        created=moment,
        modified=moment,
        request={},
        facts={"model": "brought", "source": "s3://nobody/weights/", **facts},
    )
    ledger.create(row)


def child(settings):
    command = [sys.executable, "-m", "limbeck.worker.labor", str(os.getpid()), ARN, str(settings.home)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def test_a_second_child_of_a_job_waits_for_the_first_and_leaves_a_job_that_has_ended(settings, ledger):
    put(ledger)
    log = ending.log_of(ARN, settings)
    log.parent.mkdir(parents=True)
    with log.open("ab") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = child(settings)
        time.sleep(3)
        assert second.poll() is None and ledger.row(ARN).status == "InProgress"
        ledger.change(ARN, "Completed", end=True)
        before = ledger.row(ARN).modified
    assert second.wait(20) == 0
    assert (ledger.row(ARN).status, ledger.row(ARN).modified) == ("Completed", before)


def test_a_job_that_cannot_be_done_says_why(settings, ledger):
    put(ledger)
    ending.log_of(ARN, settings).parent.mkdir(parents=True)
    assert child(settings).wait(20) == 0
    row = ledger.row(ARN)
    assert row.status == "Failed" and "nobody" in row.facts["failureMessage"]


def test_a_full_disk_is_the_machines_fault_and_not_ours(settings, ledger, monkeypatch):
    put(ledger)

    def full(row, bench):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(labor, "_work", lambda kind: full)
    assert labor._do(ledger.row(ARN), labor.Bench(settings, ledger, None, None)) == 0
    told = ledger.row(ARN).facts["failureMessage"]
    assert told.startswith("the service's disk is full: ") and "ours" not in told


def test_a_failed_update_leaves_what_stands(ledger):
    put(ledger, "custom-model-deployment", "Active", hosts="old", next={"hosts": "new", "model": "arn:new"})
    assert ending.is_due(ledger.row(ARN))
    ending.fail(ARN, "no such file", ledger)
    row = ledger.row(ARN)
    assert (row.status, row.facts["hosts"], row.facts["failureMessage"]) == ("Active", "old", "no such file")
    assert row.facts["updateDetails"] == {"modelArn": "arn:new", "updateStatus": "UpdateFailed"}
    assert not ending.is_due(row)


def test_an_update_that_succeeds_takes_the_failure_of_the_one_before_back(settings, ledger, monkeypatch):
    put(ledger, "custom-model-deployment", "Active", hosts="old", next={"hosts": "new", "model": "arn:new"})
    ending.fail(ARN, "no such file", ledger)
    ledger.change(ARN, facts={"next": {"hosts": "new", "model": "arn:new"}})
    for looked_at in ("find", "gguf_of"):
        monkeypatch.setattr(readying, looked_at, lambda *_: None)
    labor._do(ledger.row(ARN), labor.Bench(settings, ledger, None, None))
    facts = ledger.row(ARN).facts
    assert (facts["hosts"], facts["failureMessage"]) == ("new", None)


def test_a_failure_takes_no_end_back(ledger):
    put(ledger, status="Completed")
    ending.fail(ARN, "too late", ledger)
    assert ledger.row(ARN).status == "Completed" and "failureMessage" not in ledger.row(ARN).facts


def test_jobs_that_train_nothing_begin_without_torch():
    code = (
        "import sys\n"
        "from limbeck.worker import batch, evaluation, importing, readying\n"
        "assert not {'torch', 'transformers', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
