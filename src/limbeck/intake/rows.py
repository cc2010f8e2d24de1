"""One line of JSONL becomes a prompt with or without its label, or the list of all that is wrong with it.

Three shapes, told apart row by row by their keys:

    {"schemaVersion": "bedrock-conversation-2024", "system": [{"text"}], "messages": [{"role", "content": [{"text"}]}]}
    {"messages": [{"role", "content": "text"}], "metadata"?: {key: text}}  OpenAI chat
    {"prompt": "text", "completion": "text"}                             completion may be left out

A conversation that ends with the assistant is a labelled pair: its last turn is the label. What only the teacher is to
see stands in ``"context"`` beside the last two shapes, or in any of them between two marks (`droppable`).

Rows as other services export them are turned into chat first (`exports`); a file that ends in `.csv`, `.tsv` or
`.parquet` is a table (`tables`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from limbeck.errors import InvalidInput
from limbeck.intake.documents import TEXT_SUFFIXES
from limbeck.intake.droppable import Marks, with_context, without
from limbeck.intake.exports import as_chat
from limbeck.intake.faults import Faults, described, flaw, listed, loaded
from limbeck.intake.tables import TABLES, read_table
from limbeck.records import Fault, Message, Origin, Prompt, Role

__all__ = ["MAXIMUM_LINE_BYTES", "SCHEMA_VERSION", "Row", "parse_row", "read_rows"]

SCHEMA_VERSION = "bedrock-conversation-2024"

MAXIMUM_LINE_BYTES = 10_000_000
"""A longer line is refused unread: it is a file in the wrong format, not a prompt."""

COUNTED = range(1, 10**12 + 1)
"""What the line of a record can be, and the number of its copies: sums of them stay small numbers."""


@dataclass(frozen=True)
class Row:
    """A valid row: the prompt, its label if it has one, its line (from 1) and its file."""

    prompt: Prompt
    label: str | None
    line: int
    whole: Prompt | None = None
    """The prompt with what only the teacher sees; None where that is nothing."""
    file: str = field(default="", compare=False)
    copies: int = 1
    """How many records were the same; only a log's are folded before they are rows."""
    origin: Origin = "given"
    metadata: tuple[Mapping[str, str], ...] = ()
    """What was sent along with it; with several copies, each different one."""
    differ: bool = False
    """Whether the copies had different labels; the first one's is kept."""


def read_rows(
    path: Path, marks: Marks | None = None, columns: Mapping[str, str] | None = None, name: str | None = None
) -> Iterator[Row | list[Fault]]:
    """The rows of a file in order, one line in memory at a time; a faulty row comes as its list of faults.

    What stands between the ``marks`` is for the teacher alone. Empty lines are passed over. Faults call the file
    ``name``, or by its own. Raises `InvalidInput` if it cannot be opened.
    """
    name = name or path.name
    if path.suffix.lower() in TABLES:
        for found in read_table(path, columns, name):
            if isinstance(found, Fault):
                yield [found]
            else:
                number, cells = found
                yield _understood(_chat(cells), Faults(name, number), marks)
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}; expected a file of JSON lines") from None
    with file:
        if other := _another_kind(file.peek(4096), path.suffix.lower()):
            raise InvalidInput(f"{name}: {other}")
        number = 0
        while line := file.readline(MAXIMUM_LINE_BYTES + 1):
            number += 1
            if len(line) > MAXIMUM_LINE_BYTES:
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAXIMUM_LINE_BYTES)
                limit = f"at most {MAXIMUM_LINE_BYTES:,} bytes"
                yield [Fault(name, number, "line", "a longer line", limit)]
            elif line.strip():
                yield parse_row(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, name, number, marks)


def _another_kind(head: bytes, suffix: str) -> str | None:
    """What a file is, by how it begins and ends in its name, that has no rows to be told the faults of."""
    if head.startswith(b"\x1f\x8b"):
        return "packed with gzip; expected a file of JSON lines, unpacked"
    if head.startswith(b"PK\x03\x04"):
        return "a zip archive, as spreadsheets are; expected a file of JSON lines, or a table as .csv or .parquet"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in head[:2]:
        return "UTF-16, as PowerShell's > writes it; expected UTF-8 (iconv -f UTF-16 -t UTF-8 makes it that)"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    first = text.partition(b"\n")[0].rstrip()
    if re.match(rb"\[\s*\{", text) or (first.startswith(b"[") and not first.endswith(b"]")):
        return "a JSON array; expected a file of JSON lines, an object a line (jq -c '.[]' makes it one)"
    if re.match(rb'\{\s*\n\s*"', text):
        return "an object over several lines; expected a file of JSON lines, an object a line (jq -c . makes it one)"
    if (suffix in TEXT_SUFFIXES and not text.startswith(b"{")) or re.match(rb'\{\s*"input"\s*:[^{}]*\}$', first):
        return (
            "text, which continued pre-training reads (`limbeck pretrain --text`); expected a file of JSON lines with"
            ' "messages", or "prompt" and "completion"'
        )
    return None


def parse_row(line: bytes, file: str, number: int, marks: Marks | None = None) -> Row | list[Fault]:
    """Read one line; give the row, or every fault found in it."""
    faults = Faults(file, number)
    row = loaded(line, faults)
    return faults.found if row is None else _understood(as_chat(row, faults), faults, marks)


def _understood(row: dict[str, Any], faults: Faults, marks: Marks | None) -> Row | list[Fault]:
    """The row that an object is, or every fault found in it."""
    file, number = faults.file, faults.line
    if "schemaVersion" in row or isinstance(row.get("system"), list) or _has_content_blocks(row):
        messages = _read_bedrock(row, faults)
    elif "messages" in row:
        messages = _read_openai(row, faults)
    elif "prompt" in row or "completion" in row:
        messages = _read_pair(row, faults)
    else:
        return faults.add("line", listed(row), '"messages", or "prompt" and "completion"').found

    if not faults.found:
        _check_turns(messages, faults)
    context = faults.text("context", row["context"]) if "context" in row else ""
    sent = {"metadata": row.get("metadata"), **{f"log.others[{at}]": one for at, one in enumerate(_others(row))}}
    metadata = [one for where, one in sent.items() if _is_metadata(one, where, faults)]
    logged = _read_log(row, faults)
    if faults.found:
        return faults.found
    label = messages.pop().text if messages[-1].role == "assistant" else None
    prompt = Prompt(tuple(messages))
    whole = with_context(prompt, context) if context else prompt
    if marks is not None:
        try:
            prompt = without(prompt, marks)
        except InvalidInput as error:
            return faults.add("messages", str(error), f"{marks[0]}…{marks[1]} around a part of a turn").found
    made = Row(prompt, label, number, whole if whole != prompt else None, file, metadata=tuple(metadata))
    if logged is None:
        return made
    place = {"file": logged["file"], "line": logged["line"], "copies": logged["copies"]}
    return replace(made, **place, origin="log", differ=logged.get("differ") is True)


def _chat(cells: Mapping[str, str]) -> dict[str, Any]:
    """A row of a table, as a pair or, with a system prompt, as chat."""
    if "system" not in cells:
        return dict(cells)
    turns = [("system", cells["system"]), ("user", cells.get("prompt")), ("assistant", cells.get("completion"))]
    messages = [{"role": role, "content": text} for role, text in turns if text is not None or role == "user"]
    return {"messages": messages, **({"context": cells["context"]} if "context" in cells else {})}


def _read_bedrock(row: dict[str, Any], faults: Faults) -> list[Message]:
    faults.unknown("", row, ("schemaVersion", "system", "messages"))
    if row.get("schemaVersion") != SCHEMA_VERSION:
        found = described(row["schemaVersion"]) if "schemaVersion" in row else "nothing"
        faults.add("schemaVersion", found, f'"{SCHEMA_VERSION}"')
    messages: list[Message] = []
    system = row.get("system", [])
    if not isinstance(system, list) or len(system) > 1:
        found = f"{len(system)} items" if isinstance(system, list) else described(system)
        faults.add("system", found, "a list of at most one text block")
    elif system:
        messages.append(Message("system", _read_block(system[0], "system[0]", faults)))
    for at, turn in _turns(row, faults):
        role = _read_role(turn, at, ("user", "assistant"), faults)
        content = turn.get("content")
        if not isinstance(content, list) or len(content) != 1:
            found = f"{len(content)} items" if isinstance(content, list) else described(content)
            faults.add(f"{at}.content", found, "a list of exactly one text block")
            continue
        text = _read_block(content[0], f"{at}.content[0]", faults)
        messages.append(Message(role, text))
    return messages


def _read_block(block: Any, where: str, faults: Faults) -> str:
    if not isinstance(block, dict) or "text" not in block:
        found = listed(block) if isinstance(block, dict) else described(block)
        faults.add(where, found, '{"text": "…"}')
        return ""
    faults.unknown(f"{where}.", block, ("text", "type"))
    if block.get("type", "text") != "text":
        faults.add(f"{where}.type", described(block["type"]), '"text"')
    return faults.text(f"{where}.text", block["text"])


def _read_openai(row: dict[str, Any], faults: Faults) -> list[Message]:
    faults.unknown("", row, ("messages", "context", "metadata", "log"))
    messages = []
    for at, turn in _turns(row, faults):
        role = _read_role(turn, at, ("system", "user", "assistant"), faults)
        messages.append(Message(role, faults.text(f"{at}.content", turn.get("content"))))
    return messages


def _others(row: dict[str, Any]) -> list[Any]:
    logged = row.get("log")
    others = logged.get("others") if isinstance(logged, dict) else None
    return others if isinstance(others, list) else []


def _is_metadata(found: Any, where: str, faults: Faults) -> bool:
    """Whether there is metadata; a fault where it is something else, or holds what is no text."""
    if found is None:
        return False
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        faults.add(where, described(found), "keys with text")
        return False
    for wrong in sorted({wrong for pair in found.items() for text in pair if (wrong := flaw(text))}):
        faults.add(where, wrong, "text that is valid Unicode")
    return bool(found)


def _read_log(row: dict[str, Any], faults: Faults) -> dict[str, Any] | None:
    """Where a row that was made from logged records stood, and how many of them there were."""
    logged = row.get("log")
    if logged is None:
        return None
    wanted = {"file": str, "line": int, "copies": int}
    if not isinstance(logged, dict) or any(type(logged.get(key)) is not kind for key, kind in wanted.items()):
        faults.add("log", described(logged), '{"file": text, "line": number, "copies": number}')
        return None
    faults.text("log.file", logged["file"])
    for key in ("line", "copies"):
        if logged[key] not in COUNTED:
            faults.add(f"log.{key}", described(logged[key]), "a number from 1 to 10^12")
    return logged


def _read_pair(row: dict[str, Any], faults: Faults) -> list[Message]:
    faults.unknown("", row, ("prompt", "completion", "context"))
    if "prompt" not in row:
        faults.add("prompt", "nothing", "text")
    messages = [Message("user", faults.text("prompt", row["prompt"]) if "prompt" in row else "")]
    if "completion" in row:
        messages.append(Message("assistant", faults.text("completion", row["completion"])))
    return messages


def _turns(row: dict[str, Any], faults: Faults) -> Iterator[tuple[str, dict[str, Any]]]:
    turns = row.get("messages")
    if not isinstance(turns, list) or not turns:
        found = "an empty list" if turns == [] else described(turns) if "messages" in row else "nothing"
        faults.add("messages", found, "a list of turns")
        return
    for index, turn in enumerate(turns):
        if isinstance(turn, dict):
            faults.unknown(f"messages[{index}].", turn, ("role", "content"))
            yield f"messages[{index}]", turn
        else:
            faults.add(f"messages[{index}]", described(turn), '{"role": …, "content": …}')


def _read_role(turn: dict[str, Any], at: str, roles: tuple[Role, ...], faults: Faults) -> Role:
    for role in roles:
        if turn.get("role") == role:
            return role
    found = described(turn["role"]) if "role" in turn else "nothing"
    faults.add(f"{at}.role", found, f"{', '.join(roles[:-1])} or {roles[-1]}")
    return "user"


def _check_turns(messages: list[Message], faults: Faults) -> None:
    first = 1 if messages[0].role == "system" else 0
    if len(messages) == first:
        faults.add("messages", "no turn of the user", "at least one")
    for index, message in enumerate(messages[first:]):
        expected = ("user", "assistant")[index % 2]
        if message.role != expected:
            faults.add(f"turn {index + 1}", message.role, f"{expected} (the user begins, then they take turns)")
            break


def _has_content_blocks(row: dict[str, Any]) -> bool:
    turns = row.get("messages")
    return isinstance(turns, list) and any(isinstance(t, dict) and isinstance(t.get("content"), list) for t in turns)
