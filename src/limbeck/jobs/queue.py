"""The durable queue: dbos behind two small classes, so that nothing else knows its name.

`Queue` enqueues inside a transaction that is already open: a job's row and its place in the queue come to be
together or not at all. `Laborers` takes jobs and runs them, each as one durable step; a worker that dies leaves its
jobs to the others.

What dbos does not do by itself, and is done here:
- A dead worker's jobs are not moved: every worker beats, and any of them resumes what a silent one held.
- Two processes under one executor id run a job twice: each worker has an id of its own.
- A new version of the code would strand the jobs of the old: the version is pinned.
- Values would be pickled: they are JSON.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta

from dbos import DBOS, DBOSClient, DBOSConfig, WorkflowStatus
from dbos import DBOSPortableJSONSerializer as Json
from sqlalchemy.engine import Connection, Engine

from limbeck.storage.database import migrate, reached
from limbeck.storage.ledger import Ledger, now

__all__ = ["Laborers", "Queue", "open_database"]

log = logging.getLogger(__name__)

WORKFLOW = "job"
VERSION = "1"
"""Raised only when a job begun by the code before cannot be gone on with."""

BEAT_SECONDS = 1.0
DEAD_SECONDS = 6.0
"""A worker not heard of for so long is taken for dead: five beats missed, which a busy machine does not do."""

POLL_SECONDS = 0.5


def open_database(url: str) -> Engine:
    """An engine on the service's database, its tables and the queue's brought to this version first.

    Raises `InvalidInput` for a database that does not answer.
    """
    engine = reached(url)
    migrate(engine)
    logging.getLogger("dbos").setLevel(logging.WARNING)
    DBOS.migrate(_url(engine))
    return engine


class Queue:
    """Where jobs are put."""

    def __init__(self, engine: Engine) -> None:
        self._client = DBOSClient(system_database_engine=engine, serializer=Json(), dbos_system_schema="dbos")

    def waiting(self, jobs: Collection[str]) -> set[str]:
        """Those of ``jobs`` that are in a queue, and that nobody has begun."""
        found = self._client.list_workflows(workflow_ids=list(jobs), status="ENQUEUED", load_input=False)
        return {one.workflow_id for one in found}

    def put(self, connection: Connection, queue: str, job: str, arn: str) -> None:
        """Enqueue ``arn`` under the id ``job``, in the transaction of ``connection``."""
        self._client.enqueue_in_transaction(
            connection,
            {"workflow_name": WORKFLOW, "queue_name": queue, "workflow_id": job, "app_version": VERSION},
            arn,
        )


class Laborers:
    """One worker process: takes jobs from the queues and has them done."""

    def __init__(
        self,
        engine: Engine,
        ledger: Ledger,
        queues: Mapping[str, int],
        work: Callable[[str], None],
        look: Callable[[], None] = lambda: None,
    ) -> None:
        """``queues`` maps a queue's name to how many of its jobs this process runs at once.

        ``work`` does one job, by ARN, and may be called again for one that was broken off. ``look`` is called with
        every beat.
        """
        self.id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._ledger, self._queues, self._work, self._look = ledger, queues, work, look
        self._url = _url(engine)

    def start(self) -> None:
        """Begin to take jobs."""
        self._ledger.beat(self.id)
        config: DBOSConfig = {
            "name": "limbeck",
            "system_database_url": self._url,
            "executor_id": self.id,
            "application_version": VERSION,
            "serializer": Json(),
            "log_level": "ERROR",
            "use_listen_notify": False,
        }
        DBOS(config=config)
        work = self._work

        @DBOS.workflow(name=WORKFLOW)
        def job(arn: str) -> None:
            DBOS.run_step({"name": "work"}, work, arn)

        DBOS.listen_queues(list(self._queues))
        DBOS.launch()
        for name, at_once in self._queues.items():
            DBOS.register_queue(
                name, worker_concurrency=at_once, polling_interval_sec=POLL_SECONDS, on_conflict="always_update"
            )
        threading.Thread(target=self._beat, daemon=True, name="heartbeat").start()

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            try:
                self._ledger.beat(self.id)
                self._reap()
                self._look()
            except Exception:
                log.exception("a heartbeat failed; the next is in %g s", BEAT_SECONDS)

    def _reap(self) -> None:
        """Take up the jobs of workers that are not heard of any more: one of the living does, not each of them."""
        silent_since = now() - timedelta(seconds=DEAD_SECONDS)
        alive = {self.id, *self._ledger.alive(silent_since)}
        for worker in {one.executor_id for one in self._held() if one.executor_id} - alive:
            if self._ledger.inherit(worker, silent_since):
                for one in self._held(worker):
                    log.warning("job %s was held by %s, which is gone; it is taken up again", one.workflow_id, worker)
                    DBOS.resume_workflow(one.workflow_id, queue_name=one.queue_name)

    def _held(self, worker: str | None = None) -> list[WorkflowStatus]:
        """The jobs that are begun, by ``worker`` or by anybody."""
        return DBOS.list_workflows(
            status="PENDING", queue_name=list(self._queues), executor_id=worker, load_input=False
        )


def _url(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)
