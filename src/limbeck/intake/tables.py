"""Tables become rows: CSV and Parquet, of which some columns are named.

A CSV file is UTF-8 with a header, which says what parts the cells: a comma, a semicolon or a tab. A row with more or
fewer fields than the header is a fault of its own, and so is one with a stray quote or byte: those after it are read
all the same. Parquet is read by DuckDB, a thousand rows at a time. An empty cell is as good as none.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import duckdb

from limbeck.errors import InvalidInput
from limbeck.records import Fault
from limbeck.storage.paths import literally

__all__ = ["COLUMNS", "TABLES", "read_table"]

TABLES = (".csv", ".tsv", ".parquet")

COLUMNS = ("prompt", "completion", "system", "context")
"""What a column can be; without a word of the recipe, the columns of these names are, in any case."""

DELIMITERS = ",;\t"
"""What may part the cells of a CSV file; of those with which its header has prompts, the first."""

MAXIMUM_CELL = 10_000_000
"""The most characters of a cell, as a line of JSONL has at most so many bytes."""

Cells = dict[str, str]
"""The cells of a row, by what they are."""


class _Wrong(NamedTuple):
    """What is wrong with a record."""

    found: str
    expected: str


def read_table(path: Path, named: Mapping[str, str] | None, name: str) -> Iterator[tuple[int, Cells] | Fault]:
    """The rows of the table called ``name``, each with the line it ends on, or what is wrong with a row.

    Raises `InvalidInput` for a file that is no table, or in which a column that was named is not there just once.
    """
    for line, cells in (_read_parquet if path.suffix.lower() == ".parquet" else _read_csv)(path, named, name):
        if isinstance(cells, _Wrong):
            yield Fault(name, line, "row", cells.found, cells.expected)
        elif long := [what for what, cell in cells.items() if len(cell) > MAXIMUM_CELL]:
            yield Fault(name, line, long[0], "a longer cell", f"at most {MAXIMUM_CELL:,} characters")
        else:
            yield line, cells


def _places(there: list[str], named: Mapping[str, str] | None, name: str) -> dict[str, int]:
    """Where the columns to read stand among those that are ``there``, by what they are."""
    names = _names(there, named)
    chosen = named or {what: what for what in COLUMNS if what in names}
    missing = [column for column in chosen.values() if column not in names]
    if missing or "prompt" not in chosen:
        wanted = ", ".join(missing) or "prompt"
        raise InvalidInput(
            f"{name}: no column {wanted} among {', '.join(column[:80] for column in there[:12]) or 'none'};"
            " say which is which with source.columns: {prompt: …, completion: …}"
        )
    if twice := [column for column in chosen.values() if names.count(column) > 1]:
        raise InvalidInput(f"{name}: {names.count(twice[0])} columns {twice[0]} in the header; expected one")
    unread = ", ".join(column[:80] for column in names if column not in chosen)
    if unread and not named and "completion" not in chosen:
        raise InvalidInput(
            f"{name}: no column completion, and nothing is read of {unread}; say with source.columns which holds the"
            " answers, or, where there are none, {prompt: prompt}"
        )
    return {what: names.index(column) for what, column in chosen.items()}


def _names(there: list[str], named: Mapping[str, str] | None) -> list[str]:
    """What columns are called: as the recipe names them, or in small letters without spaces around."""
    return there if named else [column.strip().casefold() for column in there]


def _read_csv(path: Path, named: Mapping[str, str] | None, name: str) -> Iterator[tuple[int, Cells | _Wrong]]:
    csv.field_size_limit(MAXIMUM_CELL)  # the limit is the process's; nobody else here reads what others wrote as CSV
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            delimiter, said = _delimiter(file, named)
            records = _records(file, delimiter)
            if said:
                next(records)
            _, header = next(records, (1, []))
            if isinstance(header, _Wrong):
                raise InvalidInput(f"{name}: the header: found {header.found}; expected {header.expected}")
            places = _places(header, named, name)
            for line, cells in records:
                if isinstance(cells, _Wrong):
                    yield line, cells
                elif len(cells) != len(header):
                    yield line, _Wrong(f"{len(cells)} fields", f"{len(header)}, as in the header")
                else:
                    yield line, {what: cells[place] for what, place in places.items() if cells[place]}
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}; expected a CSV file") from None


def _delimiter(file: TextIO, named: Mapping[str, str] | None) -> tuple[str, bool]:
    """What parts the cells, and whether the first line says so (`sep=;`, as spreadsheets do) and is no header."""
    first = file.readline(MAXIMUM_CELL).rstrip("\r\n")
    file.seek(0)
    if said := re.fullmatch(f"sep=([{DELIMITERS}])", first):
        return said[1], True
    prompt = (named or {}).get("prompt", "prompt")
    fitting = (sign for sign in DELIMITERS if prompt in _names(next(csv.reader([first], delimiter=sign), []), named))
    return next(fitting, max(DELIMITERS, key=first.count)), False  # a header without prompts is told cell by cell


def _records(file: TextIO, delimiter: str) -> Iterator[tuple[int, list[str] | _Wrong]]:
    """The records of a CSV file, each with its last line, or with the one on which something is wrong.

    After a fault the reading goes on with the next line.
    """
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    while True:
        begun = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield _misread(str(error), begun, reader.line_num)
            continue
        if stray := [c for cell in cells for c in _STRAY.findall(cell)]:
            yield reader.line_num, _Wrong(f"byte 0x{ord(stray[0]) - 0xDC00:02x}", "UTF-8")
        elif cells:
            yield reader.line_num, cells


_STRAY = re.compile("[\udc80-\udcff]")
"""What a byte becomes that is not UTF-8."""


def _misread(error: str, begun: int, ended: int) -> tuple[int, _Wrong]:
    """What Python's reader says of a record, in words, with the line to look at."""
    if error == "unexpected end of data":
        found = f"a quote that nothing closes up to the file's end, line {ended}"
        return begun, _Wrong(found, 'a quote at the end of the cell; a quote inside is doubled ("")')
    if error.startswith("field larger"):
        return begun, _Wrong("a longer cell, or a quote that nothing closes", f"at most {MAXIMUM_CELL:,} characters")
    if "expected after" in error:
        return ended, _Wrong(
            "text after the quote that ends a cell", 'the next cell; a quote inside a cell is doubled ("")'
        )
    return ended, _Wrong(error, "CSV")


def _read_parquet(path: Path, named: Mapping[str, str] | None, name: str) -> Iterator[tuple[int, Cells]]:
    offline: dict[str, Any] = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    with duckdb.connect(config={**offline, "threads": "1"}) as database:
        try:
            there = [
                str(column)
                for column, *_ in database.execute("describe from read_parquet($1)", [literally(path)]).fetchall()
            ]
            places = _places(there, named, name)
            columns = ", ".join('"{}"::varchar'.format(there[at].replace('"', '""')) for at in places.values())
            found = database.execute(f"select {columns} from read_parquet($1)", [literally(path)])  # noqa: S608 (quoted)
            line = 0
            while some := found.fetchmany(1000):
                for cells in some:
                    line += 1
                    yield line, {what: cell for what, cell in zip(places, cells, strict=True) if cell}
        except duckdb.Error as error:
            raise InvalidInput(f"{name}: {str(error).splitlines()[0]}; expected a Parquet file") from None
