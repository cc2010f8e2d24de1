"""Invocation logs become rows: the prompts of real traffic, and what was answered, if that is to be learned.

Reads what Amazon Bedrock (and Limbeck's own service) writes under `[prefix/]AWSLogs/<account>/
BedrockModelInvocationLogs/<region>/YYYY/MM/DD/HH/`: gzipped JSON lines, a record a line, large bodies aside under
`data/`. Bodies are those of Converse, ConverseStream (an array of events) and InvokeModel in the forms of Nova,
Llama, Anthropic's messages and OpenAI's chat.

Filters are the API's: ``equals``, ``notEquals``, ``andAll``, ``orAll`` over request metadata, on exact strings.
``notEquals`` fits a record that lacks the key.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from limbeck.errors import InvalidInput
from limbeck.storage.objects import Found, Objects
from limbeck.storage.workspace import writing

__all__ = ["extract_logs", "fits", "turns_of"]

MAXIMUM_RECORD_BYTES = 10_000_000
"""A longer record is refused unread."""


def extract_logs(
    objects: Objects, uri: str, path: Path, filters: Mapping[str, Any] | None, responses_of: str | None
) -> Counter[str]:
    """Write the log records under ``uri`` that fit as rows into ``path``; gives how many became what.

    With ``responses_of``, only records of exactly that model are taken, with their responses as labels; without it
    only prompts are, of any model. Beside ``path`` a `.csv` says of each record that was not taken why.
    Raises `InvalidInput` if no log is there.
    """
    files = [found for found in objects.find(uri) if _is_log(found.key)]
    if not files:
        raise InvalidInput(f"{uri}: no invocation log; expected objects that end in .json.gz outside data/")
    counts: Counter[str] = Counter()
    with writing(path) as rows, writing(path.with_suffix(".csv")) as told:
        passed_over = csv.writer(told, lineterminator="\n")
        passed_over.writerow(("file", "line", "reason"))
        for found in files:
            for line, record in _records(objects, found):
                row = _row(record, objects, filters, responses_of)
                if isinstance(row, str):
                    counts[row] += 1
                    passed_over.writerow((found.key, line, row))
                else:
                    counts["taken"] += 1
                    rows.write(json.dumps(row, ensure_ascii=False) + "\n")
    return counts


def fits(filters: Mapping[str, Any] | None, metadata: Mapping[str, str]) -> bool:
    """Whether a record with ``metadata`` passes ``filters`` (one member of the API's union, or nothing)."""
    if not filters:
        return True
    ((form, value),) = filters.items()
    if form == "andAll":
        return all(fits(one, metadata) for one in value)
    if form == "orAll":
        return any(fits(one, metadata) for one in value)
    ((key, wanted),) = value.items()
    return bool((metadata.get(key) == wanted) == (form == "equals"))


def turns_of(record: Mapping[str, Any], request: Any, response: Any) -> tuple[list[dict[str, str]], str | None]:
    """The conversation a record asked with, and the text that was answered. Raises `InvalidInput` for another form."""
    if not isinstance(request, dict):
        raise InvalidInput("no request body")
    if isinstance(request.get("prompt"), str):
        return [{"role": "user", "content": request["prompt"]}], _answered(response)
    turns = []
    system = request.get("system")
    if system:
        turns.append({"role": "system", "content": system if isinstance(system, str) else _text(system)})
    messages = request.get("messages")
    if not isinstance(messages, list):
        raise InvalidInput("neither messages nor a prompt in the request")
    for message in messages:
        content = message.get("content")
        turns.append({"role": message.get("role"), "content": content if isinstance(content, str) else _text(content)})
    return turns, _answered(response)


def _is_log(key: str) -> bool:
    return key.endswith(".json.gz") and "/data/" not in key


def _records(objects: Objects, found: Found) -> Iterator[tuple[int, Any]]:
    """The records of one object with their lines (from 1); a line or a file that is damaged comes as text saying so."""
    raw = io.BytesIO(b"".join(objects.read(found.bucket, found.key)))
    line = 0
    try:
        with gzip.open(raw, "rb") as file:
            while text := file.readline(MAXIMUM_RECORD_BYTES + 1):
                line += 1
                if len(text) > MAXIMUM_RECORD_BYTES:
                    yield line, f"a record of over {MAXIMUM_RECORD_BYTES:,} bytes"
                    return
                if text.strip():
                    try:
                        yield line, json.loads(text)
                    except (ValueError, RecursionError):
                        yield line, "not JSON"
    except (OSError, EOFError, zlib.error):
        yield line + 1, "the file is damaged here: not gzip"


def _row(
    record: Any, objects: Objects, filters: Mapping[str, Any] | None, responses_of: str | None
) -> dict[str, Any] | str:
    """The row of a record, or why there is none."""
    if isinstance(record, str):
        return record
    if not isinstance(record, dict) or record.get("schemaType") != "ModelInvocationLog":
        return "no record of an invocation"
    if record.get("errorCode"):
        return "the invocation failed"
    metadata = record.get("requestMetadata")
    if not fits(filters, metadata if isinstance(metadata, dict) else {}):
        return "does not fit the filters"
    if responses_of is not None and record.get("modelId") != responses_of:
        return "of another model"
    try:
        request = _body(record.get("input"), "input", objects)
        response = _body(record.get("output"), "output", objects) if responses_of is not None else None
        turns, answer = turns_of(record, request, response)
    except (InvalidInput, AttributeError, TypeError) as error:
        return f"cannot be read: {error}"
    if responses_of is not None:
        if not answer:
            return "no text was answered"
        turns.append({"role": "assistant", "content": answer})
    return {"messages": turns}


def _body(part: Any, name: str, objects: Objects) -> Any:
    """A record's input or output: in it, or in the object it points at."""
    if not isinstance(part, dict):
        return None
    aside = part.get(f"{name}BodyS3Path")
    if aside is None:
        return part.get(f"{name}BodyJson")
    (found,) = objects.find(aside)
    try:
        return json.loads(gzip.decompress(b"".join(objects.read(found.bucket, found.key))))
    except (OSError, ValueError, EOFError, zlib.error):
        raise InvalidInput(f"{aside} is damaged") from None


def _text(content: Any) -> str:
    """The text of content blocks. Raises `InvalidInput` where there is something else among them."""
    if not isinstance(content, list):
        raise InvalidInput("content that is no list of blocks")
    for block in content:
        if not isinstance(block, dict) or not isinstance(block.get("text"), str):
            raise InvalidInput("content that is not text alone")
    return "\n".join(block["text"] for block in content)


def _answered(response: Any) -> str | None:
    """The text of an answer, whole or in events, in any of the forms."""
    if isinstance(response, list):
        pieces = [_piece(event) for event in response if isinstance(event, dict)]
        return "".join(pieces) or None
    if not isinstance(response, dict):
        return None
    if "output" in response:
        return _text(response["output"]["message"]["content"])
    if "generation" in response:
        return str(response["generation"])
    if "choices" in response:
        choice = response["choices"][0]
        return str((choice["message"]["content"] if "message" in choice else choice.get("text")) or "") or None
    if "content" in response:
        return _text(response["content"])
    return None


def _piece(event: Mapping[str, Any]) -> str:
    if "contentBlockDelta" in event:
        return str(event["contentBlockDelta"].get("delta", {}).get("text", ""))
    if "generation" in event:
        return str(event["generation"] or "")
    if event.get("choices"):
        choice = event["choices"][0]
        return str(choice.get("text") or choice.get("delta", {}).get("content") or "")
    if event.get("type") == "content_block_delta":
        return str(event.get("delta", {}).get("text", ""))
    return ""
