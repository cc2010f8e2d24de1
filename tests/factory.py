"""Rows and files for tests."""

import json
from pathlib import Path

INTENTS = ("leak", "noise", "warranty", "billing")
WORDS = ("washer", "kettle", "fridge", "oven", "dryer", "fan", "iron", "hob", "toaster", "mixer")


def message(i: int) -> tuple[str, str]:
    intent = INTENTS[i % len(INTENTS)]
    return f"about my {WORDS[i % len(WORDS)]} number {i}: {intent} please", intent


def write_rows(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def pairs(path: Path, count: int, labelled: bool = True, start: int = 0) -> Path:
    rows = []
    for i in range(start, start + count):
        prompt, completion = message(i)
        rows.append({"prompt": prompt, "completion": completion} if labelled else {"prompt": prompt})
    return write_rows(path, rows)
