"""Rows of a job for other tools: JSON lines as they are, Parquet, and the two training formats.

| format    | a line, or a row, is                                                                          |
|-----------|-----------------------------------------------------------------------------------------------|
| `jsonl`   | everything known of an example                                                                |
| `parquet` | the same, in typed columns                                                                    |
| `openai`  | `{"messages": [{"role", "content"}, …]}` with the answer as last turn                         |
| `bedrock` | `{"schemaVersion": "bedrock-conversation-2024", "system", "messages"}` with the answer as last turn |

The training formats take what was kept, unless a filter says otherwise; a row without an answer is in neither.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

from limbeck.storage.paths import literally
from limbeck.storage.workspace import writing
from limbeck.views.rows import KEYS, Row

__all__ = ["Format", "lines", "write", "write_parquet"]

Format = Literal["jsonl", "parquet", "openai", "bedrock"]

COLUMNS = {
    **dict.fromkeys(KEYS, "VARCHAR"),
    **dict.fromkeys(("seed", "line", "copies", "prompt_tokens", "response_tokens"), "BIGINT"),
    "settings": "MAP(VARCHAR, DOUBLE)",
    "scores": "MAP(VARCHAR, DOUBLE)",
    "metadata": "MAP(VARCHAR, VARCHAR)",
    "others": "MAP(VARCHAR, VARCHAR)[]",
    "messages": "STRUCT(role VARCHAR, text VARCHAR)[]",
}


def write(rows: Iterable[Row], form: Format, file: IO[str]) -> int:
    """Write lines of a text format; gives how many."""
    count = 0
    for line in lines(rows, form):
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
        count += 1
    return count


def lines(rows: Iterable[Row], form: Format) -> Iterator[Row]:
    """The objects of a text format."""
    for row in rows:
        if form == "jsonl":
            yield row
        elif row["response"] is not None:
            yield _openai(row) if form == "openai" else _bedrock(row)


def write_parquet(rows: Iterable[Row], path: Path) -> int:
    """Write a Parquet file, whole or not at all; gives how many rows."""
    # Loaded here: a tenth of a second that the other formats need not wait.
    import duckdb

    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder, duckdb.connect() as database:
        source, made = Path(folder, "rows.jsonl"), Path(folder, "rows.parquet")
        with writing(source) as file:
            count = write(rows, "jsonl", file)
        database.execute("set autoinstall_known_extensions = false")
        database.execute(
            "copy (select * from read_json($source, format = 'newline_delimited', columns = $columns,"
            " maximum_object_size = 64000000)) to $made (format parquet, compression zstd)".replace(
                "$made", _quoted(str(made))
            ),
            {"source": literally(source), "columns": COLUMNS},
        )
        made.replace(path)
    return count


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _openai(row: Row) -> dict[str, Any]:
    turns = [{"role": turn["role"], "content": turn["text"]} for turn in row["messages"]]
    return {"messages": [*turns, {"role": "assistant", "content": row["response"]}]}


def _bedrock(row: Row) -> dict[str, Any]:
    turns = [*row["messages"], {"role": "assistant", "text": row["response"]}]
    system = [{"text": turn["text"]} for turn in turns if turn["role"] == "system"]
    said = [{"role": turn["role"], "content": [{"text": turn["text"]}]} for turn in turns if turn["role"] != "system"]
    about = {"schemaVersion": "bedrock-conversation-2024"}
    return {**about, "system": system, "messages": said} if system else {**about, "messages": said}
