"""Tables become rows: CSV and Parquet, of which some columns are named.

A CSV file is UTF-8 with a header; a row with more or fewer fields than the header is a fault of its own. Parquet is
read by DuckDB, a thousand rows at a time. An empty cell is as good as none.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb

from limbeck.errors import InvalidInput
from limbeck.storage.paths import literally

__all__ = ["COLUMNS", "TABLES", "read_table"]

TABLES = (".csv", ".parquet")

COLUMNS = ("prompt", "completion", "system", "context")
"""What a column can be; without a word of the recipe, the columns of these names are."""


def read_table(path: Path, named: Mapping[str, str] | None) -> Iterator[tuple[int, dict[str, str] | str]]:
    """The rows of a table, each with its line: the cells by what they are, or what is wrong with the row.

    Raises `InvalidInput` for a file that is no table, or that lacks a column that was named.
    """
    yield from (_read_csv if path.suffix == ".csv" else _read_parquet)(path, named)


def _chosen(path: Path, there: list[str], named: Mapping[str, str] | None) -> dict[str, str]:
    """The columns to read, by what they are."""
    chosen = dict(named) if named else {name: name for name in COLUMNS if name in there}
    missing = [column for column in chosen.values() if column not in there]
    if missing or "prompt" not in chosen:
        wanted = ", ".join(missing) or "prompt"
        raise InvalidInput(
            f"{path.name}: no column {wanted} among {', '.join(there[:12]) or 'none'};"
            " say which is which with source.columns: {prompt: …, completion: …}"
        )
    return chosen


def _read_csv(path: Path, named: Mapping[str, str] | None) -> Iterator[tuple[int, dict[str, str] | str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            chosen = _chosen(path, header, named)
            places = {what: header.index(column) for what, column in chosen.items()}
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    yield reader.line_num, f"{len(cells)} fields; expected {len(header)}, as in the header"
                else:
                    yield reader.line_num, {what: cells[place] for what, place in places.items() if cells[place]}
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}; expected a CSV file") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path.name}: {error}; expected CSV in UTF-8") from None


def _read_parquet(path: Path, named: Mapping[str, str] | None) -> Iterator[tuple[int, dict[str, str] | str]]:
    offline: dict[str, Any] = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    with duckdb.connect(config={**offline, "threads": "1"}) as database:
        try:
            there = [
                str(name)
                for name, *_ in database.execute("describe from read_parquet($1)", [literally(path)]).fetchall()
            ]
            chosen = _chosen(path, there, named)
            columns = ", ".join('"{}"::varchar'.format(column.replace('"', '""')) for column in chosen.values())
            found = database.execute(f"select {columns} from read_parquet($1)", [literally(path)])  # noqa: S608 (quoted)
            line = 0
            while some := found.fetchmany(1000):
                for cells in some:
                    line += 1
                    yield line, {what: cell for what, cell in zip(chosen, cells, strict=True) if cell}
        except duckdb.Error as error:
            raise InvalidInput(f"{path.name}: {str(error).splitlines()[0]}; expected a Parquet file") from None
