import multiprocessing
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from limbeck.errors import DamagedArtifact, StorageFailed
from limbeck.records import Answer, SoftLabels
from limbeck.storage import answers
from limbeck.storage.answers import AnswerStore


def soft(tokens=3, k=4):
    generator = np.random.default_rng(0)
    return SoftLabels(
        generator.integers(0, 100_000, (tokens, k), dtype=np.int32),
        generator.normal(size=(tokens, k)).astype(np.float32),
        np.full(tokens, -np.inf, np.float32),
    )


def test_an_answer_comes_back_bit_for_bit(tmp_path):
    given = Answer("café ☕", (1, 70_000, 2), "stop", 17, soft())
    with AnswerStore(tmp_path / "a.sqlite") as store:
        store.put("m", {"k": given, "bare": Answer("", (), "length", 1)})
    with AnswerStore(tmp_path / "a.sqlite") as store:
        found = store.get("k")
        assert (found.text, found.token_ids, found.finish_reason, found.prompt_tokens) == (
            "café ☕",
            (1, 70_000, 2),
            "stop",
            17,
        )
        for name in ("top_ids_TK", "top_logprobs_TK", "tail_logprob_T"):
            assert np.array_equal(getattr(found.soft_labels, name), getattr(given.soft_labels, name))
        assert store.get("bare").soft_labels is None
        assert store.known(["k", "x", "bare"]) == {"k", "bare"}
        with pytest.raises(KeyError):
            store.get("x")


def test_a_group_is_stored_whole_or_not_at_all(tmp_path):
    def group():
        yield "a", Answer("a", (1,), "stop", 1)
        raise RuntimeError

    with AnswerStore(tmp_path / "a.sqlite") as store:
        with pytest.raises(RuntimeError):
            store.put("m", group())
        assert store.known(["a"]) == set()


def test_the_first_answer_to_a_question_stays(tmp_path):
    with AnswerStore(tmp_path / "a.sqlite") as store:
        store.put("m", {"k": Answer("first", (1,), "stop", 1)})
        store.put("m", {"k": Answer("second", (2,), "stop", 1)})
        assert store.get("k").text == "first"


def test_more_keys_than_a_query_holds_are_found(tmp_path):
    with AnswerStore(tmp_path / "a.sqlite") as store:
        store.put("m", {str(i): Answer("", (), "stop", 1) for i in range(1501)})
        assert len(store.known([str(i) for i in range(2000)])) == 1501


def _write(path, start):
    with AnswerStore(path) as store:
        for i in range(start, start + 50):
            store.put("m", {str(i): Answer(str(i), (i,), "stop", 1)})


def test_several_processes_write_at_once_and_lose_nothing(tmp_path):
    path = tmp_path / "a.sqlite"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, 50 * i)) for i in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with AnswerStore(path) as store:
        assert len(store.known([str(i) for i in range(150)])) == 150


def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path):
    path = tmp_path / "a.sqlite"
    path.write_text("not a database, but long enough to be looked at as one" * 40)
    with pytest.raises(DamagedArtifact, match=r"a\.sqlite: not a database of answers"):
        AnswerStore(path)
    assert path.read_text().startswith("not a database")


def test_a_store_that_cannot_be_used_now_is_not_called_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "BUSY_SECONDS", 0.0)
    path = tmp_path / "a.sqlite"
    with AnswerStore(path) as store:
        store.put("m", {"k": Answer("first", (1,), "stop", 1)})
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("begin immediate")
            with pytest.raises(StorageFailed, match=r"a\.sqlite: database is locked; its answers are kept"):
                store.put("m", {"x": Answer("second", (2,), "stop", 1)})
        assert store.known(["k", "x"]) == {"k"}
    with pytest.raises(StorageFailed, match="unable to open database file"):
        AnswerStore(tmp_path)
