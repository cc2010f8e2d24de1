"""Plain text for continued pre-training: files of `{"input": "…"}` rows, or of text as it is, become documents.

A row is a document. A text file (`.txt`, `.md`) is as many as it has passages: it is parted at empty lines, so that
some of a book can be held out while the rest is learned. The division is by content, as everywhere; where the shares
give nothing to hold out, the document that was nearest to it is, since nothing could be measured without.

Left in the folder: `documents.jsonl`, `refused.jsonl`, `report.csv` and `counts.json`, as of prompts.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from limbeck.advice import Counts
from limbeck.errors import InvalidDataset, InvalidInput
from limbeck.intake.counting import unseen_words, write_counts
from limbeck.intake.faults import Faults, listed, loaded
from limbeck.intake.files import names_of, unreadable
from limbeck.intake.split import split_of
from limbeck.progress import Progress
from limbeck.recipe import Recipe
from limbeck.records import Document, Fault, Split
from limbeck.storage.workspace import Workspace, file_digest, writing

__all__ = ["MAXIMUM_DOCUMENTS", "TEXT_SUFFIXES", "check_documents", "collect_documents", "read_documents"]

TEXT_SUFFIXES = (".txt", ".md", ".text")

MAXIMUM_BYTES = 10_000_000_000
"""The largest file, as in Amazon Bedrock."""

MAXIMUM_DOCUMENTS = 100_000
"""The most documents, as in Amazon Bedrock."""

MAXIMUM_LINE_BYTES = 100_000_000
"""A longer line is refused unread."""

PASSAGE_CHARACTERS = 4_000
"""A text file is parted at the first empty line after so many: a thousand tokens or so."""

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
"""A line as editors count them: the page breaks of books, for one, end none."""

EXPECTED = "a file of JSON lines, or of text (.txt, .md)"

STAGE = "1-intake"

Found = tuple[int, str] | Fault
"""A document's line and text, or what is wrong with it."""


def read_documents(path: Path, name: str | None = None) -> Iterator[Found]:
    """The documents of a file in order, or what is wrong with a row. The file is called ``name``, or by its own.

    Raises `InvalidInput` if it cannot be opened.
    """
    name = name or path.name
    try:
        with path.open("rb") as file:
            if path.suffix.lower() in TEXT_SUFFIXES:
                yield from _passages(file.read(), name)
                return
            number = 0
            while line := file.readline(MAXIMUM_LINE_BYTES + 1):
                number += 1
                if len(line) > MAXIMUM_LINE_BYTES:
                    while line and not line.endswith(b"\n"):
                        line = file.readline(MAXIMUM_LINE_BYTES)
                    limit = f"at most {MAXIMUM_LINE_BYTES:,} bytes"
                    yield Fault(name, number, "line", "a longer line", limit)
                elif line.strip():
                    yield _row(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, name, number)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}; expected {EXPECTED}") from None


def check_documents(recipe: Recipe) -> None:
    """Refuse a source that cannot make a job, before anything is written."""
    names = names_of(recipe.source.files)
    problems = unreadable(_files(recipe), EXPECTED)
    faults: list[str] = []
    for path in _files(recipe):
        if path.exists() and path.stat().st_size > MAXIMUM_BYTES:
            problems.append(f"{names[path]}: {path.stat().st_size:,} bytes; expected at most {MAXIMUM_BYTES:,}")
    if problems:
        raise InvalidInput("\n".join(problems))
    valid = {path: 0 for path in _files(recipe)}
    for path in valid:
        for found in read_documents(path, names[path]):
            if isinstance(found, Fault):
                faults.append(str(found))
            else:
                valid[path] += 1
    given = sum(valid[path] for path in recipe.source.prompt_files)
    mains = ", ".join(names[path] for path in recipe.source.prompt_files)
    if given < recipe.minimum_rows:
        problems.append(f"{mains}: {given} documents; expected at least {recipe.minimum_rows}")
    if given > MAXIMUM_DOCUMENTS:
        problems.append(f"{mains}: {given:,} documents; expected at most {MAXIMUM_DOCUMENTS:,}")
    problems += [f"{names[path]}: no document" for path, number in valid.items() if not number and given]
    if problems:
        raise InvalidDataset("\n".join(problems), faults)


def collect_documents(recipe: Recipe, work: Workspace) -> list[Document]:
    """Stage 1 of continued pre-training: the recipe's files as documents, folded, split and guarded."""
    source = recipe.source
    inputs = {
        "kind": recipe.kind,
        "shares": [source.held_out_share, source.validation_share],
        "documents": [file_digest(path) for path in source.prompt_files],
        "held_out": source.held_out and file_digest(source.held_out),
        "validation": [file_digest(path) for path in source.validation],
        "names": list(names_of(source.files).values()),  # by which the documents, and what is watched, go
    }
    folder = work.step(STAGE, inputs, lambda folder: _collect(recipe, folder, work.progress))
    with (folder / "documents.jsonl").open(encoding="utf-8") as file:
        return [Document(**json.loads(line)) for line in file]


def _collect(recipe: Recipe, folder: Path, progress: Progress) -> None:
    source = recipe.source
    held_out_share = 0.0 if source.held_out else source.held_out_share
    validation_share = 0.0 if source.validation else source.validation_share
    documents: dict[str, Document] = {}
    held_out_spellings: set[str] = set()
    fates: list[tuple[str, int, str, str]] = []
    faults: list[Fault] = []
    parts: list[tuple[Path, Split | None]] = [(source.held_out, "held-out")] if source.held_out else []
    parts += [(path, "validation") for path in source.validation]
    parts += [(path, None) for path in source.prompt_files]
    names = names_of(recipe.source.files)
    for path, split in parts:
        name = names[path]
        for found in read_documents(path, name):
            if isinstance(found, Fault):
                faults.append(found)
                fates.append((name, found.line, "refused", f"found {found.found}, expected {found.expected}"))
                continue
            line, text = found
            new = Document(text, "train", name, line)
            new = replace(new, split=split or split_of(new.as_prompt, held_out_share, validation_share))
            known = documents.get(new.id)
            if known is None and new.split != "held-out" and new.as_prompt.normalized_id in held_out_spellings:
                fates.append((name, line, "guarded", "a held-out document, spelled otherwise"))
            elif known is None:
                documents[new.id] = new
                if new.split == "held-out":
                    held_out_spellings.add(new.as_prompt.normalized_id)
                fates.append((name, line, "accepted", new.split))
            else:
                documents[new.id] = replace(known, copies=known.copies + 1)
                fates.append((name, line, "folded", f"the same text as {known.file} line {known.line}"))
    kept = _with_some_held_out(list(documents.values()))
    with writing(folder / "documents.jsonl") as file:
        for document in kept:
            file.write(json.dumps(asdict(document), ensure_ascii=False) + "\n")
    with writing(folder / "refused.jsonl") as file:
        for fault in faults:
            file.write(json.dumps({**vars(fault), "message": str(fault)}, ensure_ascii=False) + "\n")
    with writing(folder / "report.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", "line", "status", "reason"))
        writer.writerows(sorted(fates))
    write_counts(folder, _count(kept))
    held_out = sum(document.split == "held-out" for document in kept)
    lost = ((len(faults), "rows refused"), (sum(status == "guarded" for *_, status, _ in fates), "guarded"))
    others = ", ".join(f"{number} {what}" for number, what in lost if number)
    more = f", {others} (1-intake/report.csv says why)" if others else ""
    progress.say(f"intake: {len(kept)} documents, {held_out} of them held out{more}")


def _with_some_held_out(documents: Sequence[Document]) -> list[Document]:
    """The documents, one at least of them held out and one learned. Raises `InvalidInput` where there is but one."""
    if not any(document.split == "held-out" for document in documents):
        free = [document for document in documents if document.split == "train"]  # what is to be watched stays that
        nearest = min(free if len(free) > 1 else documents, key=lambda document: document.as_prompt.normalized_id)
        spelled = nearest.as_prompt.normalized_id
        documents = [
            replace(one, split="held-out") if one.as_prompt.normalized_id == spelled else one for one in documents
        ]
    if not any(document.split == "train" for document in documents):
        raise InvalidInput(
            f"{len(documents)} different document{'s' if len(documents) > 1 else ''}: nothing is left to learn beside"
            " what is held out; give more documents, or parts of a text as rows"
        )
    return list(documents)


def _count(documents: Sequence[Document]) -> Counts:
    def of(split: Split) -> list[Document]:
        return [document for document in documents if document.split == split]

    learned, held_out = of("train"), of("held-out")
    return Counts(
        rows=sum(document.copies for document in documents),
        prompts=len(documents),
        training=len(learned),
        labelled=0,
        validation=len(of("validation")),
        held_out=len(held_out),
        unseen_words=unseen_words((one.text for one in learned), (one.text for one in held_out)),
    )


def _files(recipe: Recipe) -> list[Path]:
    source = recipe.source
    return [*source.prompt_files, *source.validation, *([source.held_out] if source.held_out else [])]


def _row(line: bytes, file: str, number: int) -> Found:
    expected = '{"input": "…"} and nothing else'
    faults = Faults(file, number)
    row = loaded(line, faults, expected)
    if row is not None and set(row) != {"input"}:
        faults.add("line", listed(row), expected)
    text = "" if row is None or faults.found else faults.text("input", row["input"])
    return faults.found[0] if faults.found else (number, text)


def _passages(data: bytes, file: str) -> Iterator[Found]:
    """A text parted at empty lines into passages of some length, each with the line on which it begins."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield Fault(file, data.count(b"\n", 0, error.start) + 1, "text", f"byte 0x{data[error.start]:02x}", "UTF-8")
        return
    if "\x00" in text:
        yield Fault(file, text.count("\n", 0, text.index("\x00")) + 1, "text", "a NUL character", "text")
        return
    passage: list[str] = []
    begun, length = 1, 0
    for number, line in enumerate(_LINE.findall(text), 1):
        if not passage and not line.strip():
            continue
        if not passage:
            begun = number
        passage.append(line)
        length += len(line)
        if length >= PASSAGE_CHARACTERS and not line.strip():
            yield begun, "".join(passage).strip()
            passage, length = [], 0
    if passage:
        yield begun, "".join(passage).strip()
