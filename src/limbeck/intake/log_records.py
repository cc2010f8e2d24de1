"""The records of a log in DuckDB: what is asked of a record, and the tables its files end in.

Each record is one row of ``records``: its place in the whole log, its file, why it is passed over (or 0), and of those
that fit the conversation in canonical form, which is the text whose hash is the prompt's id. So equal conversations are
equal text, and are folded by it, whatever their bodies looked like. What Python is asked for a record that fits, with a
message or an answer that needs more than its text compared, `invocations` answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from json import dumps, loads
from json.encoder import encode_basestring as quoted
from pathlib import Path
from typing import Any

import duckdb
from duckdb.func import SPECIAL
from duckdb.sqltypes import VARCHAR

from limbeck.errors import InvalidInput
from limbeck.intake.invocations import answer_in, metadata_in, turns_in, was_cut_off
from limbeck.intake.log_files import LogFiles, salvage
from limbeck.storage.paths import literally

__all__ = ["Asked", "LogRecords", "condition", "opened"]

MAXIMUM_RECORD_BYTES = 10_000_000
"""A longer record is refused unread."""

MEMORY = "400MB"
"""What DuckDB may take; beyond it writes to disk."""

REASONS = (
    "no record of an invocation",
    "the invocation failed",
    "does not fit the filters",
    "of another model",
    "the file is damaged here",
    "the same prompt as an earlier record",
    "outside the sample",
)
"""Why a record becomes no row: the n-th is ``why`` = n. The last two are found when all is read; 0 has words of its
own, if it has any."""

FOLDED, LEFT_OUT = len(REASONS) - 1, len(REASONS)

_TEXT = r'"[\pL\pN](?:[^"\\]|\\[^u])*"'
"""A JSON string that begins with a letter or digit and has no escape but those of one character."""


def _text_in(column: str, head: str = "", tail: str = "") -> str:
    """SQL for the JSON string in ``column`` where that is all there is: bare, or in one block of text."""
    cases = []
    for before, after in (("", ""), ('[{"text":', "}]"), ('[{"type":"text","text":', "}]")):
        first, last = head + before, after + tail
        inner = f"substring({column}, {len(first) + 1}, length({column}) - {len(first) + len(last)})"
        cases.append(f"when regexp_full_match({column}, '{re.escape(first)}{_TEXT}{re.escape(last)}') then {inner}")
    return f"case {' '.join(cases)} end"


_PLAIN = f"""
case when body.messages is null then '[["user",' || {_text_in("body.prompt")} || ']]'
     else case when body."system" is null then '['
               else '[["system",' || {_text_in('body."system"')} || '],' end
          || '["user",' || {_text_in("body.messages", '[{"role":"user","content":', "}]")} || ']]'
end
"""
"""The canonical form of the commonest shapes, one question with or without a system prompt, without asking Python;
null for every other. A test holds both to the same words."""

_SENT = r"""
case when regexp_full_match(requestMetadata, '\{(?:"[^"\\]*":"[^"\\]*",?)*\}') then requestMetadata
     when json_type(requestMetadata) = 'OBJECT' then metadata(requestMetadata) end
"""
"""A record's metadata: as they stand where they are plainly keys with text; other keys as Python takes them."""


@dataclass(frozen=True)
class Asked:
    """What is wanted of a log."""

    filters: Mapping[str, Any] | None = None
    """One member of the API's union; see `limbeck.filters`."""
    responses_of: str | None = None
    """Take only records of exactly this model, and their responses as labels; None: prompts alone, of any model."""
    most: int | None = None
    """A sample of so many different prompts, the same whenever the prompts are; None: all."""


@contextmanager
def opened(folder: Path, threads: int) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory that spills into ``folder``, and downloads nothing."""
    database = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "memory_limit": MEMORY,
            "temp_directory": str(folder / "spilled"),
            "threads": str(threads),
        }
    )
    try:
        database.execute("set enable_progress_bar = false")  # its own, printed in notebooks
        yield database
    finally:
        database.close()


class LogRecords:
    """The way of records into the tables ``records`` (a line a record), ``places`` (a file), ``folded`` (a row) and
    ``fates`` (a record that became no row)."""

    def __init__(self, database: duckdb.DuckDBPyConnection, files: LogFiles, asked: Asked, folder: Path) -> None:
        self._database, self._files, self._asked, self._folder = database, files, asked, folder
        self._condition, self._values = condition(asked.filters)
        self._rescued = folder / "rescued.json"
        self._count = 0
        self._failure: Exception | None = None
        for function, takes in ((self._turns, 4), (self._answer, 2), (self._metadata, 1)):
            name, types = function.__name__.strip("_"), [VARCHAR] * takes
            database.create_function(name, function, types, VARCHAR, null_handling=SPECIAL)  # type: ignore[arg-type]
        database.execute(
            "create table records (pos bigint, file integer, why utinyint, asked varchar, answered varchar,"
            " metadata varchar);"
            " create table names (file integer, name varchar)"
        )
        names = [one.name for one in files.files]
        database.execute("insert into names select unnest(range(len($1)))::integer, unnest($1)", [names])

    def read(self, batch: list[int]) -> None:
        """Put the records of some files into the table; of a damaged one, what can be read."""
        with self._files.at_hand(batch, self._folder) as paths:
            try:
                self._insert(paths)
                return
            except duckdb.Error:
                self._raise_failure()
            for path, place in paths.items():
                try:
                    self._insert({path: place})
                except duckdb.Error:
                    self._raise_failure()
                    self._rescue(Path(path), place)

    def fold(self) -> None:
        """Fold equal conversations, and give every record its fate."""
        taken = "why = 0 and starts_with(asked, '[') and (answered is null or starts_with(answered, '='))"
        sample, rest = "", str(FOLDED)
        if self._asked.most is not None:
            sample = f"order by key limit {int(self._asked.most)}"
            kept = "md5_number(asked) in (select key from folded)"
            rest = f"case when {kept} then {FOLDED} else {LEFT_OUT} end"
        self._database.execute(  # nothing here comes from outside
            f"""
            create table places as
                select file, name, first from (select file, min(pos) as first from records group by file)
                join names using (file);
            create table folded as
                select key, min(pos) as pos, sum(copies)::bigint as copies,
                    list(metadata order by pos) filter (metadata is not null) as sent,
                    coalesce(min(least_answer) <> max(most_answer), false) as differ
                from (
                    select md5_number(asked) as key, metadata, min(pos) as pos, count(*) as copies,
                        min(hash(answered)) filter (answered is not null) as least_answer,
                        max(hash(answered)) filter (answered is not null) as most_answer
                    from records where {taken} group by key, metadata
                ) group by key {sample};
            create table fates as
                select pos, file, case when why > 0 or told is not null then why else {rest} end::utinyint as why, told
                from (
                    select *, case when why > 0 or {taken} then null
                        else substring(case when starts_with(asked, '!') then asked else answered end, 2) end as told
                    from records
                ) where why > 0 or told is not null or pos not in (select pos from folded);
            """  # noqa: S608
        )

    def _insert(self, paths: Mapping[str, int]) -> None:
        """One statement, which leaves all or nothing."""
        with_responses = self._asked.responses_of is not None
        output = ", output: 'STRUCT(outputBodyJson JSON, outputBodyS3Path VARCHAR)'" if with_responses else ""
        answered = "answer(output.outputBodyJson, output.outputBodyS3Path)" if with_responses else "null"
        other = "modelId is distinct from $model" if with_responses else "false"
        values: dict[str, Any] = {
            **self._values,
            "paths": list(paths),
            "read": [literally(path) for path in paths],
            "packed": "none" if set(paths) == {str(self._rescued)} else "gzip",
            "places": list(paths.values()),
            "count": self._count,
        }
        if with_responses:
            values["model"] = self._asked.responses_of
        (inserted,) = self._database.execute(
            f"""
            insert into records
            select $count + row_number() over (), * from (select file, why,
                case when why = 0 then coalesce({_PLAIN},
                    turns(body."system", body.messages, body.prompt, input.inputBodyS3Path)) end,
                case when why = 0 then {answered} end,
                case when why = 0 then {_SENT} end
            from (
                select *, input.inputBodyJson as body, $places[list_position($paths, filename)] as file,
                    case when schemaType is distinct from 'ModelInvocationLog' then 1
                         when coalesce(errorCode, '') <> '' then 2
                         when not ({self._condition}) then 3
                         when {other} then 4 else 0 end as why
                from read_ndjson($read, compression = $packed, filename = true, ignore_errors = true,
                    maximum_object_size = {MAXIMUM_RECORD_BYTES}, columns = {{
                        schemaType: 'VARCHAR', modelId: 'VARCHAR', errorCode: 'VARCHAR', requestMetadata: 'JSON',
                        input: 'STRUCT(inputBodyJson STRUCT("system" JSON, messages JSON, prompt JSON),
                                       inputBodyS3Path VARCHAR)'{output}}})
            ))
            """,  # noqa: S608
            values,
        ).fetchone() or (0,)
        self._count += inserted

    def _rescue(self, path: Path, place: int) -> None:
        lines = self._rescued
        whole = salvage(path, lines, MAXIMUM_RECORD_BYTES)
        if lines.stat().st_size:
            self._insert({str(lines): place})
        lines.unlink()
        if not whole:
            self._count += 1
            self._database.execute(
                "insert into records values (?, ?, ?, null, null, null)",
                (self._count, place, REASONS.index("the file is damaged here") + 1),
            )

    def _turns(self, system: str | None, messages: str | None, prompt: str | None, aside: str | None) -> str:
        """The conversation in canonical form, or after a "!" why there is none."""
        try:
            if aside is None:
                found = turns_in(*(part and loads(part) for part in (system, messages, prompt)))
            else:
                body = self._files.body(aside)
                found = turns_in(body.get("system"), body.get("messages"), body.get("prompt"))
            text = "[" + ",".join([f'["{role}",{quoted(text)}]' for role, text in found]) + "]"
            text.encode()
            return text
        except Exception as error:
            return self._reason(error)

    def _answer(self, response: str | None, aside: str | None) -> str:
        """The answer after a "=", or after a "!" why there is none."""
        try:
            body = loads(response or "null") if aside is None else self._files.body(aside)
            if was_cut_off(body):
                return "!the answer was cut off"
            answer = answer_in(body) or ""
            answer.encode()
            return f"={answer}" if answer.strip() else "!no text was answered"
        except Exception as error:
            return self._reason(error)

    def _metadata(self, sent: str | None) -> str | None:
        """What was sent along as keys with text; none where Python cannot read it."""
        try:
            return dumps(metadata_in(loads(sent or "{}")), ensure_ascii=False, separators=(",", ":"))
        except (RecursionError, ValueError):
            return None

    def _reason(self, error: Exception) -> str:
        """A record's fault as its reason. DuckDB tells a Python error only as text: any other is kept, to be raised."""
        if isinstance(error, InvalidInput):
            return f"!cannot be read: {error}"
        if isinstance(error, UnicodeError):
            return "!cannot be read: half of a surrogate pair"
        if isinstance(error, AttributeError | IndexError | KeyError | RecursionError | TypeError | ValueError):
            return "!cannot be read: a body of another form"
        self._failure = error
        raise error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def condition(filters: Mapping[str, Any] | None) -> tuple[str, dict[str, str]]:
    """``filters`` in SQL over the column requestMetadata, and the values of its parameters."""
    values: dict[str, str] = {}

    def one(form: str, value: Any) -> str:
        if form in ("andAll", "orAll"):
            parts = [one(*next(iter(part.items()))) for part in value]
            return f"({(' and ' if form == 'andAll' else ' or ').join(parts)})"
        ((key, wanted),) = value.items()
        at = len(values) // 2
        values[f"key{at}"], values[f"value{at}"] = f'$."{key}"', wanted
        compare = "is not distinct from" if form == "equals" else "is distinct from"
        return f"json_extract_string(requestMetadata, $key{at}) {compare} $value{at}"

    return (one(*next(iter(filters.items()))), values) if filters else ("true", values)
