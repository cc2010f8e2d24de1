"""What a worker makes of how a child ended."""

import logging
import sys

import pytest
import sqlalchemy as sa
from tests.worker.test_labor import ARN, put
from tests.worker.test_labor import ledger as ledger  # a fixture

from limbeck.jobs.child import spawn
from limbeck.worker import shift
from limbeck.worker.shift import ATTEMPTS, Shift


class Scripted(Shift):
    """Its children end as they are told, and do to the row what they are told."""

    def __init__(self, settings, ledger, ends):
        super().__init__(settings, ledger, lambda: False)
        self.ends = list(ends)

    def _child(self, arn):
        status, done = self.ends.pop(0)
        done()
        return status


def nothing():
    pass


@pytest.mark.parametrize(("status", "how"), [(-9, "was killed by signal 9"), (3, "ended with status 3")])
def test_a_job_whose_child_dies_again_and_again_is_given_up(settings, ledger, status, how):
    put(ledger)
    Scripted(settings, ledger, [(status, nothing)] * ATTEMPTS).work(ARN)
    row = ledger.row(ARN)
    assert row.status == "Failed" and f"{how}" in row.facts["failureMessage"]
    assert f"{ATTEMPTS} times in a row" in row.facts["failureMessage"]


def test_a_child_that_died_once_is_followed_by_one_that_ends_it(settings, ledger):
    put(ledger)
    ends = [(-9, nothing), (0, lambda: ledger.change(ARN, "Completed", end=True))]
    Scripted(settings, ledger, ends).work(ARN)
    assert ledger.row(ARN).status == "Completed"


def test_what_is_asked_while_a_child_ends_is_done_by_another_and_is_no_death(settings, ledger, caplog):
    put(ledger, "custom-model-deployment", "Active", next={"hosts": "one"})

    def update():
        ledger.change(ARN, facts={"next": {"hosts": "two"}})

    def settle():
        ledger.change(ARN, without=("next",))

    with caplog.at_level(logging.WARNING):
        Scripted(settings, ledger, [(0, update)] * 5 + [(0, settle)]).work(ARN)
    assert (ledger.row(ARN).status, caplog.records) == ("Active", [])


def away(ledger, monkeypatch, times):
    """Have the database be away the next ``times`` times that a row is asked for."""
    row, left = ledger.row, [times]

    def asked(arn):
        if left[0]:
            left[0] -= 1
            raise sa.exc.OperationalError("select", {}, Exception("the server closed the connection"))
        return row(arn)

    monkeypatch.setattr(ledger, "row", asked)
    return left


def test_a_database_that_is_away_is_waited_for(settings, ledger, monkeypatch):
    put(ledger)
    monkeypatch.setattr(shift, "AWAY_SECONDS", 0.0)
    left = away(ledger, monkeypatch, 3)
    Scripted(settings, ledger, [(0, lambda: ledger.change(ARN, "Completed", end=True))]).work(ARN)
    assert (ledger.row(ARN).status, left) == ("Completed", [0])


def test_a_child_works_on_while_the_database_is_away(settings, ledger, monkeypatch):
    put(ledger)

    class Sleeping(Shift):
        def _begin(self, arn):
            return spawn([sys.executable, "-c", "import time; time.sleep(1.5)"], settings.logs / "child.log")

    for name in ("LOOK_SECONDS", "TOUCH_SECONDS"):
        monkeypatch.setattr(shift, name, 0.1)
    left = away(ledger, monkeypatch, 3)
    assert Sleeping(settings, ledger, lambda: False)._child(ARN) == 0
    assert left == [0]
