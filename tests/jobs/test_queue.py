"""The durable queue with real worker processes: nothing is lost, nothing is done by two at once, the dead are replaced."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from limbeck.jobs.queue import Queue, open_database
from limbeck.storage.database import Resource
from limbeck.storage.ledger import Ledger, now

WORKER = """
import os, sys, time
from pathlib import Path
from limbeck.jobs.queue import Laborers, open_database
from limbeck.storage.ledger import Ledger

url, folder, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])

def work(arn):
    name = arn.replace(":", "-")
    with (folder / f"{name}.begun").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(seconds)
    with (folder / f"{name}.done").open("a") as file:
        file.write(f"{os.getpid()}\\n")

ledger = Ledger(open_database(url))
laborers = Laborers(ledger.engine, ledger, {"jobs": 1}, work)
laborers.start()
print("ready", flush=True)
time.sleep(600)
"""


class Workers:
    def __init__(self, url, folder):
        self.url, self.folder, self.processes = url, folder, []

    def start(self, seconds=0.2):
        command = [sys.executable, "-c", WORKER, self.url, str(self.folder), str(seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    def lines(self, name, what="done"):
        path = self.folder / f"arn-{name}.{what}"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def wait(self, condition, seconds=60):
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "it did not come about in time"
            time.sleep(0.1)


@pytest.fixture(params=["sqlite", "postgres"])
def workers(request, tmp_path):
    url = f"sqlite:///{tmp_path / 'rows.sqlite'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres")
    found = Workers(url, tmp_path)
    yield found
    for process in found.processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def put(workers):
    ledger = Ledger(open_database(workers.url))
    queue = Queue(ledger.engine)

    def put(name, fail=False):
        moment = now()
        row = Resource(
            arn=f"arn:{name}",
            kind="job",
            name=name,
            status="InProgress",
            created=moment,
            modified=moment,
            request={},
            facts={},
        )

        def then(connection):
            queue.put(connection, "jobs", name, row.arn)
            if fail:
                raise RuntimeError("afterwards something went wrong")

        ledger.create(row, then=then)

    yield put
    ledger.engine.dispose()


def test_a_job_of_a_killed_worker_is_done_by_another_once(workers, put):
    first = workers.start(seconds=600)
    put("taken")
    workers.wait(lambda: workers.lines("taken", "begun"))
    first.send_signal(signal.SIGKILL)
    second = workers.start()
    workers.wait(lambda: workers.lines("taken"))
    assert workers.lines("taken") == [second.pid]
    assert workers.lines("taken", "begun") == [first.pid, second.pid]


def test_a_job_put_while_nobody_works_is_done_when_somebody_comes_and_one_rolled_back_never(workers, put):
    with pytest.raises(RuntimeError):
        put("undone", fail=True)
    put("early")
    workers.start()
    workers.wait(lambda: workers.lines("early"))
    time.sleep(1)
    assert workers.lines("undone", "begun") == []


def test_two_workers_share_the_jobs_and_do_none_twice(workers, put):
    names = [f"shared{number}" for number in range(8)]
    workers.start(seconds=0.4)
    workers.start(seconds=0.4)
    for name in names:
        put(name)
    workers.wait(lambda: all(workers.lines(name) for name in names))
    assert all(len(workers.lines(name, "begun")) == 1 for name in names)
    assert len({workers.lines(name)[0] for name in names}) == 2


def test_importing_the_queue_wakes_nothing_heavy():
    code = "import sys, limbeck.jobs.queue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": _src()}).returncode == 0


def _src():
    return str(Path(__file__).parents[2] / "src")
