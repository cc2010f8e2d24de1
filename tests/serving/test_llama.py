"""llama.cpp for real: slots, cancellation, grammars, crashes, and how much memory it takes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest
from tests.factory import message
from tests.serving.conftest import CONTEXT, answered, busy, start_llama, tokens_of

import limbeck
from limbeck.errors import DamagedArtifact, InvalidInput, ModelFailed, ModelTimedOut
from limbeck.models.catalog import ModelSource, find
from limbeck.serving.base import Generate, Piece
from limbeck.serving.chat import Conversation, Sampling, Turn
from limbeck.serving.footprint import REFERENCE_BYTES, GGUFHeader, gguf_header, llama_bytes
from limbeck.serving.launch import answer_once, launcher
from limbeck.serving.pool import ReplicaPool
from limbeck.settings import Settings

pytestmark = pytest.mark.real

QUESTIONS = [
    "What is the capital of France?", "Name three colors.", "What is 2 plus 2?", "Write a haiku about rain.",
    "Why is the sky blue?", "How many legs has a spider?", "Translate hello into German.", "What is DNA?",
    "Tell me about whales.", "Who wrote Hamlet?", "What is a prime number?", "Name a fruit.", "What is gravity?",
    "Give me a synonym of fast.", "What do bees make?", "Is ice cold?",
]  # fmt: skip
ENDLESS = 'root ::= "a" root'


def test_sixteen_at_once_answer_as_one_after_another(run, source):
    """Greedily, and where the two likeliest tokens are nearly equal either may come: sums are taken in another order."""

    async def play():
        replica = await start_llama(source.path, slots=16)
        try:
            asked = [Generate(await tokens_of(replica, text), 8, logprobs=2) for text in QUESTIONS]
            alone = [await answered(replica, one) for one in asked]
            return alone, await asyncio.gather(*(answered(replica, one) for one in asked))
        finally:
            await replica.close()

    alone, together = run(play())
    same = 0
    for (text, done, one), (other_text, other_done, other) in zip(alone, together, strict=True):
        tokens, others = ([token for piece in pieces for token in piece.logprobs] for pieces in (one, other))
        differ = next((i for i, (a, b) in enumerate(zip(tokens, others, strict=False)) if a.token_id != b.token_id), -1)
        if differ < 0:
            assert (text, done) == (other_text, other_done)
            same += 1
        else:
            (_, _, first), (_, _, second) = tokens[differ].top
            assert first - second < 0.1, (text, other_text)
    assert same >= 12


def test_an_answer_given_up_frees_its_slot(run, llama):
    asked = Generate((5, 6, 7), CONTEXT - 10, grammar=ENDLESS)

    async def play():
        async with aclosing(llama.generate(asked)) as said:
            await anext(said)
            assert await busy(llama) == 1
        for _ in range(100):
            if await busy(llama) == 0:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the slot is still at work after two seconds")

    run(play())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"grammar": "root ::= ("}, "refuses the request: .*grammar"),
        ({"grammar": "root ::= missing"}, "refuses the request: .*grammar"),
        ({"grammar": "%llguidance {}\nstart: /a/"}, "expected GBNF"),
        ({"json_schema": {"type": "nonsense"}}, "schema cannot be followed: .*Invalid type: nonsense"),
        ({"json_schema": {"type": "array", "uniqueItems": True}}, "schema cannot be followed: .*uniqueItems"),
        ({"json_schema": {"properties": {"a": {"$ref": "#/b"}}}}, "schema cannot be followed: .*does not exist"),
    ],
)
def test_a_grammar_or_schema_that_cannot_be_followed_is_refused(run, llama, asked, message):
    with pytest.raises(InvalidInput, match=message):
        run(answered(llama, Generate((5, 6, 7), 4, **asked)))


def test_an_answer_follows_its_schema(run, llama):
    schema = {
        "type": "object",
        "properties": {"name": {"enum": ["Ada", "Grace"]}, "age": {"type": "integer", "minimum": 1, "maximum": 99}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    for temperature in (0.0, 1.5):
        tokens = run(tokens_of(llama, "Invent a person."))
        text, done, _ = run(answered(llama, Generate(tokens, 60, temperature, json_schema=schema)))
        made = json.loads(text)
        assert done.reason == "end" and set(made) == {"name", "age"}
        assert text == json.dumps(made)  # no space where none is wanted
        assert made["name"] in {"Ada", "Grace"} and 1 <= made["age"] <= 99


def test_killed_in_the_middle_of_an_answer_it_fails_and_the_pool_goes_on(run, source):
    async def play():
        launch = launcher(lambda source: source.path, home=Path("/nowhere"), slots=2, threads=1, context_tokens=CONTEXT)
        async with ReplicaPool(launch, memory_bytes=2_000_000_000) as pool:
            replica = await pool.replica(source)
            first = pool.health()[0].pid
            async with aclosing(replica.generate(Generate((5, 6, 7), 200, grammar=ENDLESS))) as said:
                assert isinstance(await anext(said), Piece)
                os.kill(first, signal.SIGKILL)
                with pytest.raises(ModelFailed, match="killed by SIGKILL"):
                    async for _ in said:
                        pass
            assert (await answered(replica, Generate((5, 6, 7), 3)))[1].response_tokens == 3
            last = pool.health()[0].pid
            assert last != first
        return first, last

    for pid in run(play()):
        assert not Path(f"/proc/{pid}").exists()


def test_a_replica_that_says_nothing_is_given_up(run, source):
    async def play():
        replica = await start_llama(source.path, slots=1, stall_seconds=0.5)
        try:
            async with aclosing(replica.generate(Generate((5, 6, 7), 200, grammar=ENDLESS))) as said:
                await anext(said)
                os.kill(replica.pid, signal.SIGSTOP)
                with pytest.raises(ModelTimedOut, match=r"not a token for 0\.5 seconds"):
                    async for _ in said:
                        pass
        finally:
            os.kill(replica.pid, signal.SIGCONT)
            await replica.close()

    run(play())


def test_a_file_that_is_no_model_fails_with_what_llama_said(run, tmp_path):
    (tmp_path / "bad.gguf").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelFailed, match=r"could not be loaded(.|\n)*invalid magic"):
        run(start_llama(tmp_path / "bad.gguf"))
    with pytest.raises(DamagedArtifact, match=r"bad\.gguf: no GGUF file"):
        gguf_header(tmp_path / "bad.gguf")


def test_a_log_is_kept_where_one_is_wanted(run, tmp_path):
    log = tmp_path / "logs" / "model.log"
    with pytest.raises(ModelFailed):
        run(start_llama(tmp_path / "missing.gguf", log=log))
    assert "failed to load model" in log.read_text()


def test_only_who_has_its_key_is_answered_and_only_on_loopback(llama):
    listening = Path("/proc/net/tcp").read_text()
    assert f"0100007F:{llama.process.port:04X} 00000000:0000 0A" in listening
    code = f"""import urllib.request, urllib.error
try: urllib.request.urlopen("http://127.0.0.1:{llama.process.port}/completion", b'{{"prompt": [5]}}')
except urllib.error.HTTPError as error: print(error.code)"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "401\n"


def test_a_replica_dies_with_its_parent(source):
    code = f"""import asyncio, pathlib
from tests.serving.conftest import start_llama
async def main():
    replica = await start_llama(pathlib.Path({str(source.path)!r}))
    print(replica.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with parent:
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
    deadline = time.monotonic() + 5
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    if runs(pid):
        os.kill(pid, signal.SIGKILL)
        raise AssertionError("it outlives its parent")


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_its_memory_is_reckoned_from_the_files_header(run, llama, source):
    header = gguf_header(source.path)
    assert header == GGUFHeader(context_tokens=8192, cache_bytes_per_token=30 * 3 * (64 + 64) * 2)
    reckoned = llama_bytes(source.path, header, 4, CONTEXT, 16 << 20)
    status = Path(f"/proc/{llama.pid}/status").read_text()
    taken = 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert taken < reckoned < 2 * taken


def test_what_llama_cannot_host_goes_to_transformers(tiny_folder, source):
    launch = launcher(lambda found: found.path if found is source else None, home=Path("/nowhere"), slots=3, threads=1)
    weights = json.loads((tiny_folder / "config.json").read_text())
    made = launch(ModelSource("tiny", tiny_folder, None))
    layers = 4 * (48 * 48 * 2 + 48 * 16 * 2 + 3 * 48 * 96 + 2 * 48)
    assert made.memory_bytes - REFERENCE_BYTES == 4 * (layers + 48 + 48 * weights["vocab_size"])
    assert made.slots == 3
    assert launch(source).memory_bytes > source.path.stat().st_size + 3 * 8192 * 23_040


def test_one_question_is_answered_as_by_the_loaded_weights_and_the_host_ends_with_it(run, taught_folder):
    settings = Settings(taught_folder.parent.parent.parent, threads=1)
    turns = (Turn("system", ("Name the intent.",)), Turn("user", (message(3)[0],)))
    question = Conversation(turns, Sampling(max_tokens=6, temperature=0.0))

    async def whole():
        return "".join([piece async for piece in answer_once(find("taught", settings), question, settings)])

    async def given_up():
        async with aclosing(answer_once(find("taught", settings), question, settings)) as pieces:
            return await anext(pieces), psutil.Process().children()

    before = set(psutil.Process().children())
    said = limbeck.load("taught", home=settings.home).answer(message(3)[0], max_tokens=6)
    assert run(whole()) == said != ""
    first, while_it_answered = run(given_up())
    assert first and len(set(while_it_answered) - before) == 1
    assert set(psutil.Process().children()) == before


def test_hosting_needs_no_torch():
    code = "import sys, limbeck.serving.launch; print({'torch', 'transformers', 'xllamacpp'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
