"""A worker process beside the service: begun with it, begun again if it dies, ended with it."""

from __future__ import annotations

import asyncio
import logging
import os

from limbeck.jobs.child import program
from limbeck.settings import Settings

__all__ = ["Keeper"]

log = logging.getLogger(__name__)

PAUSE_SECONDS = 2.0
"""Before a worker that died is begun again."""

END_SECONDS = 15.0
"""What a worker has to end, once asked: its child's grace, and a little."""


class Keeper:
    """Keeps one worker process running."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to keep it."""
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """End the worker; a job under way writes its checkpoint and waits for the next one."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        process = self._process
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), END_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()

    async def _keep(self) -> None:
        command = program("limbeck.worker.shift", str(os.getpid()), str(self._settings.home))
        while True:
            try:
                self._settings.logs.mkdir(parents=True, exist_ok=True)
                with (self._settings.logs / "worker.log").open("ab") as out:
                    self._process = await asyncio.create_subprocess_exec(
                        *command, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out
                    )
            except OSError as error:  # no memory, no room on the disk, too many files: it may pass
                log.error("the worker could not be begun (%s); again in %g s", error, PAUSE_SECONDS)
            else:
                status = await self._process.wait()
                log.error("the worker ended with status %d; begun again, see logs/worker.log", status)
            await asyncio.sleep(PAUSE_SECONDS)
