"""A worker beside the service is begun again, whatever it ended of."""

import asyncio
import errno
import logging
import sys

from limbeck.worker import keeper
from limbeck.worker.keeper import Keeper


def test_a_worker_that_cannot_be_begun_is_tried_again(settings, monkeypatch, caplog):
    begin, refusals = asyncio.create_subprocess_exec, [OSError(errno.EAGAIN, "no more processes")] * 2
    up = asyncio.Event()

    async def begun(*_, **how):
        if refusals:
            raise refusals.pop()
        made = await begin(sys.executable, "-c", "import time; time.sleep(60)", **how)
        up.set()
        return made

    async def keep():
        kept = Keeper(settings)
        await kept.start()
        await asyncio.wait_for(up.wait(), 10)
        await kept.stop()

    monkeypatch.setattr(asyncio, "create_subprocess_exec", begun)
    monkeypatch.setattr(keeper, "PAUSE_SECONDS", 0.01)
    with caplog.at_level(logging.ERROR):
        asyncio.run(keep())
    assert [record.message for record in caplog.records] == [
        "the worker could not be begun ([Errno 11] no more processes); again in 0.01 s"
    ] * 2
