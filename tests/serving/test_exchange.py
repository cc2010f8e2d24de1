"""An answer comes as it is written, is whole or says why not, and is broken off where nobody reads on."""

import asyncio

import pytest

from limbeck.serving.exchange import MOST_WAITING, BrokenOff, Stalled, exchange

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(text):
    return b"%x\r\n%s\r\n" % (len(text), text)


def asked(script, read, stall_seconds=5.0):
    """What ``read`` makes of the answer that ``script`` writes, what was asked, and whether the asker hung up."""

    async def one():
        heard = asyncio.Event()
        seen = []

        async def serve(reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            seen.append(head + await reader.readexactly(length))
            try:
                await script(writer)
                if not writer.is_closing():
                    await reader.read()
            except ConnectionError:
                pass  # as it should be: nobody listens any more
            finally:
                heard.set()
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            async with exchange(port, "/completion", {"Authorization": "Bearer k"}, b"{}", stall_seconds) as answer:
                found = await read(answer)
            await asyncio.wait_for(heard.wait(), 5)
        return found, seen[0]

    return asyncio.run(one())


async def pieces(answer):
    found = [await answer.wait_for_head()]
    while piece := await answer.read():
        found.append(piece)
    return found


def writes(*parts, then=None):
    async def script(writer):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.02)
        if then == "ends":
            writer.close()

    return script


def test_pieces_come_one_by_one_whatever_the_packets():
    whole = HEAD + chunk(b"one") + chunk(b"two") + b"0\r\n\r\n"
    found, request = asked(writes(HEAD + chunk(b"one"), chunk(b"two"), b"0\r\n\r\n"), pieces)
    assert found == [200, b"one", b"two"]
    assert request.startswith(b"POST /completion HTTP/1.1\r\n") and request.endswith(b"\r\n\r\n{}")
    assert b"Authorization: Bearer k\r\n" in request
    found, _ = asked(writes(*(whole[at : at + 1] for at in range(len(whole)))), pieces)
    assert (found[0], b"".join(found[1:])) == (200, b"onetwo")


def test_a_refusal_is_read_whole():
    async def read(answer):
        return await answer.wait_for_head(), await answer.read_all()

    found, _ = asked(writes(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 6\r\n\r\nre", b"fuse"), read)
    assert found == (400, b"refuse")


@pytest.mark.parametrize(
    "parts", [[HEAD + chunk(b"one")], [b"HTTP/1.1 200 OK\r\nContent-Le"], [b""], [HEAD + b"zz\r\n"]]
)
def test_an_answer_that_is_not_whole_is_broken_off(parts):
    with pytest.raises(BrokenOff):
        asked(writes(*parts, then="ends"), pieces)


def test_a_process_that_says_nothing_is_not_waited_for():
    with pytest.raises(Stalled):
        asked(writes(HEAD, chunk(b"one")), pieces, stall_seconds=0.2)


def test_who_reads_slowly_does_not_gather_everything():
    size = 40 * MOST_WAITING

    async def script(writer):
        writer.write(HEAD)
        for _ in range(40):
            writer.write(chunk(b"x" * MOST_WAITING))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    async def read(answer):
        await answer.wait_for_head()
        await asyncio.sleep(0.3)
        first = await answer.read()
        return len(first), len(first) + len(await answer.read_all())

    (first, total), _ = asked(script, read)
    assert (first < 3 * MOST_WAITING, total) == (True, size)


def test_nobody_who_listens_is_told_at_once():
    async def one():
        async with exchange(1, "/completion", {}, b"", 1.0):
            raise AssertionError("there is nobody")

    with pytest.raises(ConnectionRefusedError):
        asyncio.run(one())
