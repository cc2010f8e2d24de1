"""The process of a replica that is transformers: one model, and as much of llama.cpp's `/completion` as `completion`
asks for.

    python -m limbeck.serving.reference_process    # reads its settings from standard input, see `child`

Settings: `model` (a name for `catalog.find`), `home`, `threads`, `context_tokens`, `key`. All computing is done by one
thread, a token at a time; answers under way take turns.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from torch import Tensor

from limbeck.errors import LimbeckError
from limbeck.inference.child import begin
from limbeck.inference.engine import Engine
from limbeck.inference.telling import REPLACEMENT, Telling
from limbeck.models.loading import load
from limbeck.records import GenerationSettings
from limbeck.settings import Settings

__all__ = ["main"]


def main() -> None:
    """Load the model, tell the port, serve until the parent ends it."""
    settings, ready = begin()
    try:
        machine = replace(Settings.read(Path(settings["home"])), threads=settings["threads"])
        engine = Engine(load(settings["model"], machine))
    except LimbeckError as error:
        sys.exit(str(error))
    listener = socket.create_server(("127.0.0.1", 0))
    context_tokens = min(settings["context_tokens"], engine.loaded.context_tokens)
    ready(listener.getsockname()[1], context_tokens)
    app = _app(engine, settings["key"], context_tokens)
    config = uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


def _app(engine: Engine, key: str, context_tokens: int) -> Starlette:
    worker = ThreadPoolExecutor(1)

    async def completion(request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {key}":
            error = {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}
            return JSONResponse({"error": error}, 401)
        events = _events(engine, await request.json(), context_tokens)
        return StreamingResponse(_sent(events, worker), media_type="text/event-stream")

    return Starlette(routes=[Route("/completion", completion, methods=["POST"])])


async def _sent(events: Iterator[dict[str, Any]], worker: ThreadPoolExecutor) -> AsyncIterator[bytes]:
    """The events as lines, each computed by the worker; it hears of it when nobody reads them any more."""
    loop = asyncio.get_running_loop()
    try:
        while (event := await loop.run_in_executor(worker, next, events, None)) is not None:
            yield f"data: {json.dumps(event)}\n\n".encode()
    finally:
        worker.submit(events.close)  # type: ignore[attr-defined]  # after the step under way


def _events(engine: Engine, asked: dict[str, Any], context_tokens: int) -> Iterator[dict[str, Any]]:
    """One answer as llama.cpp would tell it: text when its characters are whole, and in the last event what is left.

    A character that is cut off by the answer's length is left out.
    """
    greedy = "temperature" not in asked["samplers"]
    prompt = asked["prompt"]
    settings = GenerationSettings(
        max_tokens=min(asked["n_predict"], context_tokens - len(prompt)),
        temperature=0.0 if greedy else asked["temperature"],
        top_p=asked["top_p"],
        seed=asked["seed"],
    )
    telling, ended, count = Telling(engine.renderer.text), False, 0
    for token, logits_V in engine.steps(prompt, settings):
        count += 1
        ended = token in engine.renderer.stop_ids
        if ended:
            break
        piece = telling.add(token)
        told = [_probabilities(engine, token, piece, logits_V, asked["n_probs"])] if asked["n_probs"] else []
        yield {"stop": False, "content": piece, "tokens_predicted": count, "completion_probabilities": told}
    rest = telling.rest()
    yield {
        "stop": True,
        "content": rest if ended else rest.rstrip(REPLACEMENT),
        "stop_type": "eos" if ended else "limit",
        "tokens_predicted": count,
    }


def _probabilities(engine: Engine, token: int, text: str, logits_V: Tensor, count: int) -> dict[str, Any]:
    """A token and the likeliest in its place, under the model's own distribution."""
    logprobs_V = logits_V.cpu().double().log_softmax(-1)
    top_K, ids_K = logprobs_V.topk(min(count, len(logprobs_V)))
    top = [
        {"id": other, "token": engine.renderer.text([other]), "logprob": logprob}
        for other, logprob in zip(ids_K.tolist(), top_K.tolist(), strict=True)
    ]
    return {
        "id": token,
        "token": text,
        "bytes": list(text.encode()),
        "logprob": float(logprobs_V[token]),
        "top_logprobs": top,
    }


if __name__ == "__main__":
    main()
