"""A stage for the runtime's tests: scripted replicas behind the real faces, on a real server on loopback."""

import asyncio
import json
import socket
import threading
from contextlib import aclosing
from pathlib import Path

import boto3
import uvicorn
from botocore.config import Config
from openai import OpenAI as OpenAIClient
from tests.conftest import make_tokenizer

from limbeck.api.bedrock import Bedrock
from limbeck.api.openai import OpenAI
from limbeck.api.presence import while_present
from limbeck.api.runtime import Runtime
from limbeck.errors import InvalidInput
from limbeck.records import Hosted
from limbeck.serving.base import Done, Piece, TokenLogprob
from limbeck.wire.exchange import Request

MODEL = "huggingface.stage-v1:0"
IMPORTED = "arn:aws:bedrock:us-east-1:000000000000:imported-model/abcdef012345"
CONTEXT = 4096


def make_front(folder: Path) -> Path:
    """What the front desk reads of a model: all but its weights."""
    make_tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": CONTEXT}))
    return folder


class ScriptedPool:
    """One replica, whose answer is ``script`` (a token each) or what ``script`` raises; the same for every model."""

    def __init__(self):
        self.asked = []
        self.begun = self.ended = 0
        self.reset()

    def reset(self):
        self.script = ["There", " is", " a", " leak", "."]
        self.refusal = None
        self.gate = None  # after the first token the answer waits for it
        self.asked.clear()

    async def replica(self, source):
        if self.refusal is not None:
            raise self.refusal
        return self

    async def generate(self, asked):
        self.asked.append(asked)
        self.begun += 1
        try:
            async with aclosing(self._said(asked)) as said:
                async for one in said:
                    yield one
        finally:
            self.ended += 1

    async def _said(self, asked):
        prompt, text = len(asked.token_ids), ""
        for count, token in enumerate(self.script):
            if isinstance(token, Exception):
                raise token
            if count == asked.max_tokens:
                yield Done("length", prompt, count)
                return
            for stop in asked.stop:
                if stop in text + token:
                    yield Piece((text + token).partition(stop)[0][len(text) :])
                    yield Done("stop_sequence", prompt, count + 1, stop)
                    return
            text += token
            top = ((count, token, -0.25), (9, "x", -2.0))[: asked.logprobs]
            yield Piece(token, (TokenLogprob(count, token, -0.25, top),) if asked.logprobs else ())
            while self.gate is not None and not self.gate.is_set():
                await asyncio.sleep(0.005)
        yield Done("end", prompt, len(self.script))


class _Served:
    """The faces as an application: what `api.app` does besides is not this stage's."""

    def __init__(self, *faces):
        self._faces = faces

    async def __call__(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        method, path, query = scope["method"], scope["raw_path"].decode(), scope["query_string"].decode()
        request = Request(method, path, query, headers, body, "request-1", "ada")
        face = next(face for face in self._faces if face.has(method, path))
        await while_present(receive, self._respond(face, request, send))

    async def _respond(self, face, request, send):
        try:
            found = await face.answer(request)
        except Exception as error:
            found = face.fault(error, request.id)
        raw = [(name.encode(), value.encode()) for name, value in found.headers.items()]
        await send({"type": "http.response.start", "status": found.status, "headers": raw})
        if found.stream is not None:
            async with aclosing(found.stream) as pieces:
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": found.body})


class Stage:
    """A server, its pool and its log."""

    def __init__(self, settings, front):
        self.pool, self.log, self.latencies = ScriptedPool(), [], []

        def resolve(model_id):
            if model_id not in (MODEL, IMPORTED):
                raise InvalidInput("The provided model identifier is invalid.")
            return Hosted(f"arn of {model_id}", str(front), imported=model_id == IMPORTED)

        def measure(invocation, seconds, first):
            self.latencies.append((invocation.operation, seconds, first))

        self.runtime = Runtime(settings, resolve, self.pool, self.log.append, measure)
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # from here on a client waits instead of being refused
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        openai = OpenAI(self.runtime, lambda: [(MODEL, 1_700_000_000)])
        served = _Served(Bedrock(settings, self.runtime), openai)
        config = uvicorn.Config(served, log_level="error", access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self._thread.start()
        self._listener = listener

    def bedrock(self):
        return boto3.client(
            "bedrock-runtime",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=Config(retries={"total_max_attempts": 1}),
        )

    def openai(self):
        return OpenAIClient(base_url=f"{self.url}/v1", api_key="any", max_retries=0)

    @property
    def tokenizer(self):
        return self.runtime.model(self.runtime.resolve(MODEL)).tokenizer

    def logged(self):
        """The last request's invocation, once it is written."""
        self.runtime._scribe.submit(int).result(5)
        return self.log[-1]

    def close(self):
        self._server.should_exit = True
        self._thread.join(10)
        self._listener.close()
        self.runtime.close()


def said(text):
    """A user's turn."""
    return {"role": "user", "content": [{"text": text}]}
