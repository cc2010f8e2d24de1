"""Invocation logs become rows: the prompts of real traffic, and what was answered, if that is to be learned.

Reads what Amazon Bedrock (and Limbeck's own service) writes under `[prefix/]AWSLogs/<account>/
BedrockModelInvocationLogs/<region>/YYYY/MM/DD/HH/`: gzipped JSON lines, a record a line, large bodies aside under
`data/`. DuckDB unpacks, parses and filters them and folds equal conversations, in bounded memory and on disk beyond
it; what it hands to Python, one record that fits at a time, is a request's messages (`invocations` reads them). Each
file is read once. A file that DuckDB refuses is read again as far as it goes.

Every record ends in exactly one place: a row, or a line of the passed over, with its file, its number and the reason.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from json import loads
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from limbeck.intake.log_files import LogFiles
from limbeck.intake.log_records import REASONS, Asked, LogRecords, opened
from limbeck.intake.rows import Row
from limbeck.progress import Progress, Silent, StopSignal
from limbeck.recipe import Recipe
from limbeck.records import Message, Prompt, digest
from limbeck.storage.objects import Objects

__all__ = ["Asked", "LogTable", "bring_logs", "extract_logs", "passed_over_of", "read_logs"]


_TURN = '{"role":"%s","content":"'

_CHAT = f"""
    '[' || replace(replace(replace(replace(asked[2:-3],
        '["system","', '{_TURN % "system"}'), '["user","', '{_TURN % "user"}'),
        '"],{_TURN % "user"}', '"}},{_TURN % "user"}'), '"],["assistant","', '"}},{_TURN % "assistant"}') || '}}'
    || case when answered is null then ''
            else ',{{"role":"assistant","content":' || to_json(substring(answered, 2)) || '}}' end || ']'
"""
"""SQL for the messages of a chat: a conversation in canonical form, and its answer, written anew by their text. Inside
a JSON string every quote follows a backslash, so the seams of the turns are found nowhere else."""


class LogTable:
    """A log, read, filtered and folded: what it holds, and its rows. Made by `read_logs`."""

    def __init__(self, database: duckdb.DuckDBPyConnection, files: LogFiles) -> None:
        self._database, self._files = database, files

    @property
    def counts(self) -> Counter[str]:
        """How many records became what: ``taken``, or the reason why not."""
        reasons = "select why, told, count(*) from fates group by why, told order by min(pos)"
        found = Counter({told or REASONS[why - 1]: int(count) for why, told, count in self._all(reasons)})
        ((taken,),) = self._all("select count(*) from folded")
        return Counter({"taken": taken} if taken else {}) + found

    def rows(self) -> Iterator[Row]:
        """The rows in the order of the log, each different conversation once."""
        found = self._database.execute(
            "select asked, answered, file, pos - first + 1, copies, sent, differ"
            " from folded join records using (pos) join places using (file) order by pos"
        )
        while some := found.fetchmany(1000):
            for asked, answered, file, line, copies, sent, differ in some:
                yield Row(
                    Prompt(tuple(Message(role, text) for role, text in loads(asked))),
                    None if answered is None else answered[1:],
                    line,
                    file=self._files.files[file].name,
                    copies=copies,
                    origin="log",
                    metadata=tuple(loads(one) for one in sent or ()),
                    differ=differ,
                )

    def write_rows(self, path: Path) -> None:
        """The rows as chat, a line each: messages, the label as the last, metadata, and where it was logged."""
        self._copy(
            f"select ({_CHAT})::json as messages, sent[1]::json as metadata,"  # noqa: S608
            " {'file': name, 'line': pos - first + 1, 'copies': copies, 'differ': differ, 'others': sent[2:]::json[]}"
            " as log"
            " from folded join records using (pos) join places using (file) order by pos",
            path,
            "format json",
        )

    def write_passed_over(self, path: Path) -> None:
        """A CSV of every record that became no row: file, line (of its records) and reason."""
        firsts = dict(self._all("select file, first from places"))
        # Numbers alone are put in order; names and reasons come after.
        self._copy(
            "select $names[file + 1] as file, pos - $firsts[file + 1] + 1 as line,"
            " coalesce(told, $reasons[why]) as reason from (select * from fates order by pos)",
            path,
            "format csv",
            {
                "names": [file.name for file in self._files.files],
                "firsts": [firsts.get(at) for at in range(len(self._files.files))],
                "reasons": list(REASONS),
            },
        )

    def _copy(self, query: str, path: Path, form: str, values: Mapping[str, Any] | None = None) -> None:
        """Let DuckDB write a file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # two starts of one job may both write it
        quoted = str(beside).replace("'", "''")
        try:
            self._database.execute(f"copy ({query}) to '{quoted}' ({form})", values)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)

    def _all(self, query: str) -> list[Any]:
        return self._database.execute(query).fetchall()


@contextmanager
def read_logs(
    files: LogFiles,
    asked: Asked,
    scratch: Path,
    threads: int = 1,
    progress: Progress | None = None,
    stop: StopSignal | None = None,
) -> Iterator[LogTable]:
    """Read every file once. ``scratch`` holds what does not fit in memory, and is emptied again."""
    stop = stop or StopSignal()
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch, prefix="logs-") as folder, opened(Path(folder), threads) as database:
        reading = LogRecords(database, files, asked, Path(folder))
        total = sum(file.size for file in files.files)
        with (progress or Silent()).task("invocation logs", total / 1e6, "MB") as task:
            for batch in files.batches():
                stop.check()
                reading.read(batch)
                task.advance(sum(files.files[place].size for place in batch) / 1e6)
        reading.fold()
        yield LogTable(database, files)


def bring_logs(
    recipe: Recipe, folder: Path, objects: Objects | None, progress: Progress, stop: StopSignal, threads: int = 1
) -> Recipe:
    """The recipe with the rows of its logs among its prompt files; as it is, if it has none.

    They are read once and then lie in ``folder``: a log that grows changes no job that has begun.
    """
    logs = recipe.source.logs
    if logs is None:
        return recipe
    asked = Asked(logs.filter, recipe.responses_of, logs.sample)
    path = folder / digest([logs.uri, asked.filters, asked.responses_of, asked.most])[:12] / "logs.jsonl"
    if not path.exists():
        counts = extract_logs(
            objects, logs.uri, path, *vars(asked).values(), threads=threads, progress=progress, stop=stop
        )
        told = ", ".join(f"{number:,} {what}" for what, number in counts.items())
        progress.say(f"invocation logs: {told} ({passed_over_of(path)} says why)")
    source = recipe.source.model_copy(update={"prompts": (*recipe.source.prompt_files, path)})
    return recipe.model_copy(update={"source": source})


def extract_logs(
    objects: Objects | None,
    uri: str,
    path: Path,
    filters: Mapping[str, Any] | None = None,
    responses_of: str | None = None,
    most: int | None = None,
    *,
    threads: int = 1,
    progress: Progress | None = None,
    stop: StopSignal | None = None,
) -> Counter[str]:
    """Write the log records under ``uri`` that fit as rows into ``path``; gives how many became what.

    With ``responses_of``, only records of exactly that model are taken, with their responses as labels; without it
    only prompts are, of any model. Beside ``path`` a CSV (`passed_over_of`) says of each record that was not taken why.
    Raises `InvalidInput` if no log is there.
    """
    asked = Asked(filters, responses_of, most)
    with read_logs(LogFiles(uri, objects), asked, path.parent, threads, progress, stop) as table:
        table.write_rows(path)
        table.write_passed_over(passed_over_of(path))
        return table.counts


def passed_over_of(path: Path) -> Path:
    """Where it is told why a record became none of the rows in ``path``: `rows.passed-over.csv` beside `rows.jsonl`."""
    return path.with_name(f"{path.stem}.passed-over.csv")
