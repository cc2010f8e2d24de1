"""Answers, kept under the hash of what was asked, so that no question is paid for twice.

One SQLite file for all jobs of a home. A group of answers is stored in one transaction: after a crash each group
is there whole or not at all. Arrays are stored as little-endian bytes; nothing is pickled.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from limbeck.errors import DamagedArtifact, StorageFailed
from limbeck.records import Answer, SoftLabels

__all__ = ["AnswerStore"]

_SCHEMA = """
create table if not exists answers (
    key            text primary key,
    model          text not null,
    text           text not null,
    token_ids      blob not null,
    finish_reason  text not null,
    prompt_tokens  integer not null,
    top_k          integer not null,
    top_ids        blob,
    top_logprobs   blob,
    tail_logprob   blob,
    answered_at    real not null,
    counted_tokens integer,
    seconds        real
) without rowid
"""

_ADDED = {"counted_tokens": "integer", "seconds": "real"}
"""Columns that files from before they were known lack."""

BUSY_SECONDS = 60.0
"""How long another process's write is waited for."""

_COLUMNS = (
    "key, model, text, token_ids, finish_reason, prompt_tokens, top_k, top_ids, top_logprobs, tail_logprob,"
    " answered_at, counted_tokens, seconds"
)


class AnswerStore:
    """The answers of a home. Use as a context manager; one store a thread."""

    def __init__(self, path: Path) -> None:
        """Raises `DamagedArtifact` for a file that is no such store, as all methods do; `StorageFailed` for one that is
        busy, read-only or without room.
        """
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._asking():
            self._database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("pragma synchronous = normal")
            self._database.execute(_SCHEMA)
            self._add_columns()

    def __enter__(self) -> AnswerStore:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Tell what SQLite refuses: its file's fault, or its place's, which costs no answer that is there."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StorageFailed(f"{self._path}: {error}; its answers are kept: try again when it can be used") from None
        except sqlite3.DatabaseError as error:
            raise DamagedArtifact(
                f"{self._path}: not a database of answers ({error}); move it away to start anew"
            ) from None

    def _add_columns(self) -> None:
        there = {row[1] for row in self._database.execute("pragma table_info(answers)")}
        for name, kind in _ADDED.items():
            if name not in there:
                try:
                    self._database.execute(f"alter table answers add column {name} {kind}")
                except sqlite3.OperationalError as error:  # another process was first
                    if "duplicate column" not in str(error):
                        raise

    def known(self, keys: Sequence[str]) -> set[str]:
        """Those of ``keys`` that are answered."""
        found: set[str] = set()
        for start in range(0, len(keys), 500):
            some = keys[start : start + 500]
            marks = ",".join("?" * len(some))
            query = f"select key from answers where key in ({marks})"  # noqa: S608 (question marks only)
            with self._asking():
                found.update(row[0] for row in self._database.execute(query, some))
        return found

    def get(self, key: str) -> Answer:
        """The answer stored under ``key``; KeyError where there is none."""
        with self._asking():
            row = self._database.execute(
                "select text, token_ids, finish_reason, prompt_tokens, top_k, top_ids, top_logprobs, tail_logprob,"
                " counted_tokens, seconds from answers where key = ?",
                (key,),
            ).fetchone()
        if row is None:
            raise KeyError(key)
        text, token_ids, finish_reason, prompt_tokens, k, top_ids, top_logprobs, tail, counted, seconds = row
        soft = None
        if k:
            soft = SoftLabels(
                np.frombuffer(top_ids, "<i4").reshape(-1, k),
                np.frombuffer(top_logprobs, "<f4").reshape(-1, k),
                np.frombuffer(tail, "<f4"),
            )
        tokens = tuple(np.frombuffer(token_ids, "<i4").tolist())
        return Answer(text, tokens, finish_reason, prompt_tokens, soft, counted, seconds)

    def put(self, model: str, answers: Mapping[str, Answer] | Iterable[tuple[str, Answer]]) -> None:
        """Store a group of answers by key, all or none. A key that is there already keeps its answer."""
        pairs = answers.items() if isinstance(answers, Mapping) else answers
        rows = [_row(key, model, answer) for key, answer in pairs]
        with self._asking():
            self._database.execute("begin immediate")
            try:
                self._database.executemany(
                    f"insert or ignore into answers ({_COLUMNS}) values ({','.join('?' * 13)})",  # noqa: S608 (marks only)
                    rows,
                )
                self._database.execute("commit")
            except BaseException:
                if self._database.in_transaction:  # a full disk has ended it already
                    self._database.execute("rollback")
                raise


def _row(key: str, model: str, answer: Answer) -> tuple[Any, ...]:
    soft = answer.soft_labels
    return (
        key,
        model,
        answer.text,
        np.asarray(answer.token_ids, "<i4").tobytes(),
        answer.finish_reason,
        answer.prompt_tokens,
        soft.k if soft else 0,
        soft.top_ids_TK.astype("<i4").tobytes() if soft else None,
        soft.top_logprobs_TK.astype("<f4").tobytes() if soft else None,
        soft.tail_logprob_T.astype("<f4").tobytes() if soft else None,
        time.time(),
        answer.counted_tokens,
        answer.seconds,
    )
