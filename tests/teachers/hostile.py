"""An OpenAI-compatible server that does what servers do to one, and a loop whose time jumps to the next event.

The server lives on the client's own loop, on real sockets, so that nothing happens but what both do; the loop polls the
sockets and, where nothing is ready, moves its clock to its next timer instead of waiting. A stall of five minutes, a
Retry-After of twenty seconds take no time at all, and nothing depends on how busy the machine is.
"""

import asyncio
import json
import selectors
import socket
import struct
from collections import Counter, deque

PROMPT_TOKENS = 30
WORK_SECONDS = 2.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """Real sockets, virtual time."""

    QUIET = 3  # looks at the sockets, some tenths of a millisecond apart, before time moves

    def __init__(self):
        self.now = 1000.0
        self.servers = []
        super().__init__(_Jumping(self))

    def time(self):
        return self.now

    def close(self):
        if not self.is_closed():
            for server in self.servers:
                server.close()
            self.run_until_complete(asyncio.sleep(0.001))
        super().close()


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop):
        super().__init__()
        self.loop = loop

    def select(self, timeout=None):
        for _ in range(VirtualLoop.QUIET):
            found = super().select(0 if timeout == 0 else 0.0002)
            if found or timeout == 0:
                return found
        if timeout is None:  # only another thread can go on
            return super().select(0.01)
        self.loop.now += timeout
        return []


class Hostile:
    """Answers ``script(user text)``, unless a fault is waiting: ``faults`` are taken one a request, then all is well."""

    def __init__(self, script=lambda text: text.split()[-1], faults=(), logprobs=None, model="wise"):
        self.script, self.logprobs, self.model = script, logprobs, model
        self.faults = deque(faults)
        self.seen = []  # (time, user text, body)
        self.delivered = Counter()  # whole good answers, by user text
        self.at_once = []  # how many requests were under way, at each
        self._under_way = 0
        self.billed = 0  # tokens of everything it worked on, delivered or not
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"

    def loop(self):
        """A loop with this server on it."""
        made = VirtualLoop()
        made.servers.append(made.run_until_complete(asyncio.start_server(self._serve, sock=self._socket.dup())))
        return made

    def close(self):
        self._socket.close()

    async def _serve(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:])}
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                self._under_way += 1
                self.at_once.append(self._under_way)
                try:
                    await asyncio.sleep(WORK_SECONDS)
                    await self._answer(head[0], headers, body, writer)
                finally:
                    self._under_way -= 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, line, headers, body, writer):
        assert line.startswith("POST /v1/chat/completions ")
        text = body["messages"][-1]["content"]
        self.seen.append((asyncio.get_running_loop().time(), text, body))
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, tuple):  # a status, with headers
            status, more = fault
            await respond(writer, b'{"error": {"message": "not now"}}', status, more)
            return
        good = self._good(text, body)
        if fault in ("reset", "stall", "cut"):
            self.billed += good["usage"]["total_tokens"]
            raw = json.dumps(good).encode()
            if fault == "stall":
                await asyncio.sleep(100_000)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(raw) + raw[: len(raw) // 2])
            await writer.drain()
            if fault == "reset":  # not an end but a break: RST
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            raise ConnectionResetError
        if fault == "no connection":
            writer.transport.abort()
            raise ConnectionResetError
        spoiled = _spoil(good, fault)
        self.billed += good["usage"]["total_tokens"]
        self.delivered[text] += fault in (None, "wrong length", "no logprobs", "no usage")
        await respond(writer, spoiled if isinstance(spoiled, bytes) else json.dumps(spoiled).encode())

    def _good(self, text, body):
        said = self.script(text)
        limit = body.get("max_tokens", body.get("max_completion_tokens"))
        tokens = len(said.encode()) + 1
        cut = tokens > limit
        said, tokens = (said.encode()[:limit].decode(), limit) if cut else (said, tokens)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": said},
            "finish_reason": "length" if cut else "stop",
        }
        if body.get("logprobs") and self.logprobs:
            choice["logprobs"] = {"content": self.logprobs(said, cut, body["top_logprobs"])}
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens, "total_tokens": PROMPT_TOKENS + tokens}
        return {"object": "chat.completion", "model": self.model, "choices": [choice], "usage": usage}


def _spoil(good, fault):
    choice = good["choices"][0]
    match fault:
        case "wrong json":
            return b'{"choices": [{"message": '
        case "html":
            return b"<html>Bad gateway</html>"
        case "deep json":
            return b"[" * 100_000
        case "wrong model":
            return {**good, "model": "cheap"}
        case "empty choices":
            return {**good, "choices": []}
        case "no usage":
            return {key: value for key, value in good.items() if key != "usage"}
        case "lone surrogate":
            choice["message"]["content"] = "\ud800"
        case "no text":
            choice["message"]["content"] = ["x"]
        case "unknown end":
            choice["finish_reason"] = None
        case "wrong length":
            if choice.get("logprobs"):
                choice["logprobs"]["content"] = choice["logprobs"]["content"][:-1]
        case "filtered":
            choice["finish_reason"], choice["message"]["content"] = "content_filter", "I"
        case "no logprobs":
            choice.pop("logprobs", None)
        case None:
            pass
        case _:
            raise AssertionError(fault)
    return good


async def respond(writer, body, status=200, more=()):
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in dict(more).items())]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await writer.drain()


BAD_REPLIES = (
    "wrong json",
    "html",
    "deep json",
    "wrong model",
    "empty choices",
    "lone surrogate",
    "no text",
    "unknown end",
)
FAULTS = (
    (429, ()), (429, (("Retry-After", "20"),)), (500, ()), (503, (("Retry-After", "3"),)), (529, ()),
    "reset", "cut", "stall", "no connection", *BAD_REPLIES, "wrong length", "no usage",
)  # fmt: skip
