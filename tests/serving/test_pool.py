"""Loading once, waiting, room, idleness, crashes: with scripted replicas, by the clock of the tests."""

import asyncio
import os
import re
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.serving.conftest import answered

from limbeck.errors import DamagedArtifact, InvalidInput, ModelFailed, NotReady
from limbeck.models.catalog import ModelSource
from limbeck.serving.base import Done, Generate, Piece
from limbeck.serving.completion import NeverAsked
from limbeck.serving.metrics import Metrics
from limbeck.serving.pool import Launch, ReplicaPool
from limbeck.serving.scripted import ScriptedReplica

ASKED = Generate((72, 105), 100)


class Stage:
    """A launcher of scripted replicas that remembers what it began, and can be made slow or unlucky."""

    def __init__(self, size=100, slots=2):
        self.size, self.slots = size, slots
        self.begun: list[tuple[str, ScriptedReplica]] = []
        self.seconds = 0.0
        self.failures = 0
        self.prepared, self.faults = 0, []

    def __call__(self, source: ModelSource) -> Launch:
        self.prepared += 1
        if self.faults:
            raise self.faults.pop()

        async def start():
            await asyncio.sleep(self.seconds)
            if self.failures:
                self.failures -= 1
                raise ModelFailed(f"{source.id}: could not be loaded")
            replica = ScriptedReplica(lambda tokens: f"I am {source.id}.")
            self.begun.append((source.id, replica))
            return replica

        return Launch(self.size, self.slots, start)

    @property
    def names(self):
        return [name for name, _ in self.begun]


def model(name: str) -> ModelSource:
    return ModelSource(name, Path("/models") / name, None)


def pooled(play, stage=None, **settings):
    """Run ``play(pool, stage)`` with a pool of 1,000 bytes, and close it."""
    stage = stage or Stage()

    async def whole():
        async with ReplicaPool(stage, **({"memory_bytes": 1000, "wait_seconds": 5.0} | settings)) as pool:
            await play(pool, stage)
        assert not any(replica.alive for _, replica in stage.begun)
        return pool.metrics.render().decode()

    return asyncio.run(asyncio.wait_for(whole(), 20))


async def said(pool, name: str) -> str:
    return (await answered(await pool.replica(model(name)), ASKED))[0]


def test_a_model_is_loaded_on_first_use_and_kept():
    async def play(pool, stage):
        assert pool.health() == []
        assert [await said(pool, "a"), await said(pool, "b"), await said(pool, "a")] == [
            "I am a.",
            "I am b.",
            "I am a.",
        ]
        assert stage.names == ["a", "b"]
        assert [(health.model, health.state) for health in pool.health()] == [("a", "ready"), ("b", "ready")]

    text = pooled(play)
    assert 'limbeck_requests_total{model="a",outcome="end"} 2.0' in text
    assert 'limbeck_response_tokens_total{model="a"} 14.0' in text
    assert 'limbeck_load_seconds_count{model="b"} 1.0' in text
    assert "limbeck_replicas 0.0" in text and "limbeck_replica_memory_bytes 0.0" in text


def test_many_first_requests_share_one_load():
    async def play(pool, stage):
        stage.seconds = 0.1
        assert set(await asyncio.gather(*(said(pool, "a") for _ in range(10)))) == {"I am a."}
        assert stage.names == ["a"]

    pooled(play)


def test_the_same_folder_with_other_contents_is_another_model():
    async def play(pool, stage):
        for fingerprint in ("1", "2", "1"):
            await pool.replica(ModelSource("a", Path("/a"), None, fingerprint))
        assert stage.names == ["a", "a"]

    pooled(play)


def test_a_folder_that_is_replaced_where_it_lies_is_another_model(tmp_path):
    async def play(pool, stage):
        source = ModelSource("a", tmp_path, None)
        for weights in ("one", "one", "another"):
            (tmp_path / "model.safetensors").write_text(weights)
            os.utime(tmp_path / "model.safetensors", (0, 0))
            await pool.replica(source)
        assert stage.names == ["a", "a"]

    pooled(play)


def test_a_model_that_is_cut_on_first_use_is_one_before_and_after(tmp_path):
    (tmp_path / "whole.gguf").write_text("whole")
    source = ModelSource("a", tmp_path / "cut.gguf", None, cut_from=(tmp_path / "whole.gguf", (0, 2)))

    async def play(pool, stage):
        for _ in range(2):
            await pool.replica(source)
            source.path.write_text("cut")
        assert stage.names == ["a"]

    pooled(play)


def test_a_slow_load_is_not_waited_for_and_goes_on():
    async def play(pool, stage):
        stage.seconds = 0.3
        with pytest.raises(NotReady, match="a is being loaded; ask again"):
            await pool.replica(model("a"))
        assert pool.health()[0].state == "loading"
        await asyncio.sleep(0.4)
        assert await said(pool, "a") == "I am a."
        assert stage.names == ["a"]

    pooled(play, wait_seconds=0.05)


def test_a_client_that_leaves_while_a_model_is_loaded_stops_nothing():
    async def play(pool, stage):
        stage.seconds = 0.1
        waiting = asyncio.create_task(pool.replica(model("a")))
        await asyncio.sleep(0.02)
        waiting.cancel()
        assert await said(pool, "a") == "I am a." and stage.names == ["a"]

    pooled(play)


def test_room_is_made_by_ending_the_least_recently_used():
    async def play(pool, stage):
        for name in "abca":
            await said(pool, name)
        await said(pool, "d")
        assert [health.model for health in pool.health()] == ["a", "c", "d"]
        assert [replica.alive for _, replica in stage.begun] == [True, False, True, True]
        assert sum(health.memory_bytes for health in pool.health()) == 900
        assert await said(pool, "b") == "I am b."

    assert 'limbeck_evictions_total{model="b",why="room"} 1.0' in pooled(play, Stage(300))


def test_a_replica_at_work_is_never_ended_to_make_room():
    async def play(pool, stage):
        async with aclosing((await pool.replica(model("a"))).generate(ASKED)) as answer:
            await anext(answer)
            with pytest.raises(NotReady, match="b waits for memory"):
                await pool.replica(model("b"))
            assert {health.state for health in pool.health()} == {"ready", "waiting for memory"}
            rest = [part async for part in answer]
        assert isinstance(rest[-1], Done)
        assert await said(pool, "b") == "I am b."
        assert [health.model for health in pool.health()] == ["b"]

    pooled(play, Stage(600), wait_seconds=0.1)


def test_many_models_in_little_room_are_all_answered():
    async def play(pool, stage):
        stage.seconds = 0.005
        names = [f"m{i % 7}" for i in range(60)]
        assert await asyncio.gather(*(said(pool, name) for name in names)) == [f"I am {name}." for name in names]
        assert sum(replica.alive for _, replica in stage.begun) <= 3

    pooled(play, Stage(300))


def test_a_model_larger_than_the_budget_is_refused_with_both_sizes():
    async def play(pool, stage):
        with pytest.raises(InvalidInput, match=r"a takes about 3\.00 GB .* there are 2\.00 GB .*LIMBECK_MEMORY"):
            await pool.replica(model("a"))
        assert stage.names == [] and pool.health() == []

    pooled(play, Stage(3_000_000_000), memory_bytes=2_000_000_000)


def test_an_unused_replica_is_ended_and_loaded_again_when_asked():
    async def play(pool, stage):
        await said(pool, "a")
        await asyncio.sleep(0.4)
        assert pool.health() == [] and not stage.begun[0][1].alive
        assert await said(pool, "a") == "I am a." and stage.names == ["a", "a"]

    assert 'limbeck_evictions_total{model="a",why="idle"} 1.0' in pooled(play, idle_seconds=0.2)


def test_a_dead_replica_is_replaced_for_the_next_request():
    async def play(pool, stage):
        replica = await pool.replica(model("a"))
        stage.begun[0][1].alive = False
        assert (await answered(replica, ASKED))[0] == "I am a."
        assert stage.names == ["a", "a"]

    assert 'limbeck_restarts_total{model="a"} 1.0' in pooled(play)


def test_a_dead_replica_is_replaced_before_anybody_asks():
    async def play(pool, stage):
        await said(pool, "a")
        stage.begun[0][1].alive = False
        await asyncio.sleep(1.3)
        assert stage.names == ["a", "a"] and pool.health()[0].state == "ready"

    pooled(play)


def test_a_request_whose_replica_dies_in_the_middle_fails_and_the_next_does_not():
    async def play(pool, stage):
        async with aclosing((await pool.replica(model("a"))).generate(ASKED)) as answer:
            assert isinstance(await anext(answer), Piece)
            stage.begun[0][1].alive = False
            with pytest.raises(ModelFailed):
                await anext(answer)
        assert await said(pool, "a") == "I am a."

    assert 'limbeck_requests_total{model="a",outcome="ModelErrorException"} 1.0' in pooled(play)


def test_a_request_that_was_never_heard_is_asked_again_once():
    async def play(pool, stage):
        replica = await pool.replica(model("a"))
        first = stage.begun[0][1]

        async def deaf(asked):
            first.alive = False
            raise NeverAsked("gone")
            yield

        first.generate = deaf
        assert (await answered(replica, ASKED))[0] == "I am a." and stage.names == ["a", "a"]

    pooled(play)


def test_a_model_that_cannot_be_loaded_says_why_and_is_tried_again_after_a_while():
    async def play(pool, stage):
        stage.failures = 2
        for _ in range(2):  # the second is the first retry, at once
            with pytest.raises(ModelFailed, match="a: could not be loaded"):
                await pool.replica(model("a"))
        with pytest.raises(ModelFailed, match="a: could not be loaded"):  # not tried: a second has to pass
            await pool.replica(model("a"))
        assert pool.health() == []
        await asyncio.sleep(1.05)
        assert await said(pool, "a") == "I am a."

    pooled(play)


@pytest.mark.parametrize("fault", [DamagedArtifact("a: no tokenizer.json"), OSError(28, "No space left on device")])
def test_a_model_that_cannot_be_prepared_is_not_prepared_for_each_request(fault):
    async def play(pool, stage):
        stage.faults = [fault] * 2
        for _ in range(5):
            with pytest.raises(type(fault), match=re.escape(str(fault))):
                await pool.replica(model("a"))
        assert stage.prepared == 2  # the second is the first retry, at once
        await asyncio.sleep(1.05)
        assert await said(pool, "a") == "I am a."

    pooled(play)


def test_crash_after_crash_is_answered_more_and_more_slowly():
    async def play(pool, stage):
        replica = await pool.replica(model("a"))
        for _ in range(2):
            stage.begun[-1][1].alive = False
            began = asyncio.get_running_loop().time()
            await pool.replica(model("a"))
            waited = asyncio.get_running_loop().time() - began
        assert waited >= 0.9 and pool.health()[0].crashes == 2
        await answered(replica, ASKED)
        assert pool.health()[0].crashes == 0

    pooled(play)


def test_requests_beyond_the_slots_wait_their_turn():
    async def play(pool, stage):
        replica = await pool.replica(model("a"))
        most = 0

        async def watched():
            nonlocal most
            async for _ in replica.generate(ASKED):
                most = max(most, stage.begun[0][1].under_way)

        waiting = [asyncio.create_task(watched()) for _ in range(6)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        text = pool.metrics.render().decode()
        assert 'limbeck_requests_queued{model="a"} 4.0' in text
        assert 'limbeck_requests_under_way{model="a"} 6.0' in text
        await asyncio.gather(*waiting)
        assert most == 2

    assert 'limbeck_requests_queued{model="a"} 0.0' in pooled(play)


def test_an_answer_given_up_frees_its_slot_and_counts_as_canceled():
    async def play(pool, stage):
        replica = await pool.replica(model("a"))
        for _ in range(3):
            async with aclosing(replica.generate(ASKED)) as answer:
                await anext(answer)
        assert stage.begun[0][1].under_way == 0 and pool.health()[0].requests == 0
        assert await said(pool, "a") == "I am a."

    assert 'limbeck_requests_total{model="a",outcome="canceled"} 3.0' in pooled(play, Stage(slots=1))


def test_a_closed_pool_begins_nothing():
    async def play(pool, stage):
        stage.seconds = 1.0
        waiting = asyncio.create_task(pool.replica(model("a")))
        await asyncio.sleep(0.05)
        await pool.close()
        for request in (waiting, pool.replica(model("b"))):
            with pytest.raises(NotReady):
                await request
        assert stage.names == []

    pooled(play)


def test_two_pools_count_apart():
    one, other = Metrics(), Metrics()
    one.loads.labels("a").observe(1)
    assert b'limbeck_load_seconds_count{model="a"}' in one.render()
    assert b'limbeck_load_seconds_count{model="a"}' not in other.render()
