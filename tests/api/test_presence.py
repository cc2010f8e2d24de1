"""Work ends when its client leaves, and not before."""

import asyncio

import pytest

from limbeck.api.presence import while_present


def present(leaves_after=None):
    """A client that leaves after some seconds, or never."""

    async def receive():
        if leaves_after is None:
            await asyncio.Event().wait()
        await asyncio.sleep(leaves_after)
        return {"type": "http.disconnect"}

    return receive


def test_work_is_done_while_the_client_is_there():
    done = []

    async def work():
        await asyncio.sleep(0.01)
        done.append(True)

    asyncio.run(while_present(present(), work()))
    assert done == [True]


def test_work_is_cancelled_when_the_client_leaves_and_cleans_up_first():
    closed = []

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            closed.append(True)

    asyncio.run(asyncio.wait_for(while_present(present(0.01), work()), 5))
    assert closed == [True]


def test_what_work_raises_is_raised():
    async def work():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(while_present(present(), work()))


def test_cancelled_from_outside_it_takes_its_work_with_it():
    closed = []

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def both():
        task = asyncio.ensure_future(while_present(present(), work()))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(both()) and closed == [True]
