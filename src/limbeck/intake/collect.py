"""The stage itself: read every file of a source, fold duplicates, split, guard, and write what came of it.

Left in the folder: `examples.jsonl`, `refused.jsonl` (one line a refused row, with its faults), `report.csv` (one line
a row of the files: accepted, folded, guarded or refused, and why) and `counts.json`.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from limbeck.errors import InvalidDataset, InvalidInput
from limbeck.intake.counting import count, write_counts
from limbeck.intake.documents import check_documents
from limbeck.intake.droppable import Marks
from limbeck.intake.files import names_of, unreadable
from limbeck.intake.rows import Row, read_rows
from limbeck.intake.split import split_of
from limbeck.progress import Progress
from limbeck.recipe import Recipe, Source
from limbeck.records import Example, Fault, Message, Prompt, Split
from limbeck.storage.workspace import Workspace, file_digest, writing

__all__ = [
    "MAXIMUM_ROWS",
    "Census",
    "HeldOut",
    "check",
    "collect",
    "golden_pairs",
    "held_out_rows",
    "read_examples",
    "survey",
]

MAXIMUM_ROWS = 15_000
"""The most valid prompts a distillation takes, as in Amazon Bedrock."""

MAXIMUM_BYTES = 1_000_000_000
"""The largest file, as in Amazon Bedrock."""

STAGE = "1-intake"

ANOTHER = "with another answer"
"""Said in the report of a row that repeats a prompt and answers it differently."""


MOST_TOLD = 10
"""Rows of a file to examine on that are named one by one; `limbeck validate` names all."""


Fate = tuple[str, int, str, str]
"""What became of a row: file, line, a word, the reason."""


@dataclass
class Census:
    """What a file holds: counts and every fault, without keeping the rows."""

    file: str
    rows: int = 0
    valid: int = 0
    labelled: int = 0
    prompts: int = 0
    """Different prompts among the valid rows."""
    faults: list[Fault] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    """A sentence for each row that repeats a prompt and answers it differently; the first answer is the one learned."""


@dataclass(frozen=True)
class HeldOut:
    """The rows of one file as examples to examine a model on, and what became of all of them."""

    file: str
    examples: list[Example]
    fates: list[Fate]

    @cached_property
    def _counted(self) -> Counter[str]:
        return Counter(status for _, _, status, _ in self.fates)

    @property
    def counts(self) -> dict[str, int]:
        """How many rows there are, and became what."""
        counts = self._counted
        return {"rows": counts.total(), **{key: counts[key] for key in ("accepted", "folded", "refused")}}

    @cached_property
    def faults(self) -> list[str]:
        """A sentence for each row that is not examined on, or whose answer contradicts another's."""
        return [
            f"{file} line {line}: {reason}"
            for file, line, status, reason in sorted(self.fates)
            if status == "refused" or ANOTHER in reason
        ]

    @property
    def lines(self) -> list[str]:
        """What to tell: how many rows were accepted, and the first faults."""
        more = len(self.faults) - MOST_TOLD
        rest = [f"and {more} more; `limbeck validate` names them"] if more > 0 else []
        return [f"intake: {_accepted(self.file, self._counted)}", *self.faults[:MOST_TOLD], *rest]


def survey(
    path: Path, marks: Marks | None = None, columns: Mapping[str, str] | None = None, name: str | None = None
) -> Census:
    """Read a whole file and count; nothing is written. What it takes beside the path, `read_rows` takes."""
    census = Census(name or path.name)
    seen: set[str] = set()
    answered: dict[str, tuple[int, int]] = {}
    for row in read_rows(path, marks, columns, name):
        census.rows += 1
        if isinstance(row, list):
            census.faults += row
            continue
        census.valid += 1
        seen.add(row.prompt.id)
        if row.label is None:
            continue
        census.labelled += 1
        if row.differ:
            told = "its copies were answered differently; the first answer is learned"
            census.contradictions.append(f"{row.file} line {row.line}: {told}")
        line, label = answered.setdefault(row.prompt.id, (row.line, hash(row.label)))
        if label != hash(row.label):
            told = f"another answer to the prompt of line {line}; that of line {line} is learned"
            census.contradictions.append(f"{census.file} line {row.line}: {told}")
    census.prompts = len(seen)
    return census


def check(recipe: Recipe) -> list[Census]:
    """Refuse a source that cannot make a job, before anything is written. Gives the census of each file of rows."""
    if recipe.kind == "continued-pre-training":
        check_documents(recipe)
        return []
    source = recipe.source
    names = names_of(source.files)
    problems = unreadable(source.files)
    censuses: list[Census] = []
    for path in source.files if not problems else ():
        if path.stat().st_size > MAXIMUM_BYTES:
            problems.append(f"{names[path]}: {path.stat().st_size:,} bytes; expected at most {MAXIMUM_BYTES:,}")
            continue
        try:
            censuses.append(survey(path, source.droppable, source.named_columns, names[path]))
        except InvalidInput as error:
            problems.append(str(error))
    if problems:
        raise InvalidInput("\n".join(problems))
    main = censuses[: len(source.prompt_files)]
    mains = ", ".join(census.file for census in main)
    usable = sum(census.labelled if recipe.kind == "fine-tuning" else census.valid for census in main)
    what = "labelled pairs" if recipe.kind == "fine-tuning" else "prompts"
    if usable < recipe.minimum_rows:
        unlabelled = sum(census.valid for census in main) - usable
        out = [f"give {unlabelled} rows their answers"] if unlabelled else []
        out += ["mend the rows named"] if any(census.faults for census in main) else []
        problems.append(
            f"{mains}: {usable} valid {what} of {sum(census.rows for census in main)} rows;"
            f" expected at least {recipe.minimum_rows} ({', or '.join([*out, 'add more'])})"
        )
    if usable > MAXIMUM_ROWS:
        problems.append(f"{mains}: {usable:,} valid {what}; expected at most {MAXIMUM_ROWS:,}")
    for census in censuses[len(main) :]:
        if not census.valid:
            problems.append(f"{census.file}: no valid row of {census.rows}; expected at least one")
    if source.golden is not None and censuses[-1].labelled < censuses[-1].valid:
        without = censuses[-1].valid - censuses[-1].labelled
        problems.append(f"{censuses[-1].file}: {without} rows without an answer; golden examples are pairs")
    if problems:
        raise InvalidDataset("\n".join(problems), [str(fault) for census in censuses for fault in census.faults])
    return censuses


def collect(recipe: Recipe, work: Workspace) -> list[Example]:
    """Stage 1: the recipe's files as examples, folded, split and guarded. Reads each file once, row by row."""
    source = recipe.source
    inputs = {
        "source": source.model_dump(mode="json", exclude={"prompts", "held_out", "validation", "golden", "minimum"}),
        "kind": recipe.kind,
        "prompts": [file_digest(path) for path in source.prompt_files],
        "held_out": source.held_out and file_digest(source.held_out),
        "validation": [file_digest(path) for path in source.validation],
        "golden": source.golden and file_digest(source.golden),
        "names": list(names_of(source.files).values()),  # by which the rows, and what is watched, go
    }
    folder = work.step(STAGE, inputs, lambda folder: _collect(recipe, folder, work.progress))
    return read_examples(folder / "examples.jsonl")


def read_examples(path: Path) -> list[Example]:
    """Examples as `collect` wrote them."""
    with path.open(encoding="utf-8") as file:
        return [_from_json(json.loads(line)) for line in file]


def golden_pairs(source: Source) -> list[tuple[str, str]]:
    """The golden file's pairs (user text, answer) in file order, each different prompt once."""
    if source.golden is None:
        return []
    pairs: dict[str, tuple[str, str]] = {}
    for row in read_rows(source.golden, source.droppable, source.named_columns):
        if isinstance(row, Row) and row.label is not None:
            pairs.setdefault(row.prompt.id, (row.prompt.messages[-1].text, row.label))
    return list(pairs.values())


def held_out_rows(path: Path, system: str | None) -> HeldOut:
    """The valid rows of a file, folded, as examples to examine a model on. Raises `InvalidDataset` if there is none."""
    source = Source(prompts=path, system=system)
    fates: list[Fate] = []
    faults: list[Fault] = []
    folded = _Folded(fates)
    for row in _valid(read_rows(path), fates, faults):
        folded.add(_example(row, source, "held-out"), row.differ)
    if not (rows := list(folded.examples().values())):
        raise InvalidDataset(f"{path.name}: no valid row", [str(fault) for fault in faults])
    return HeldOut(path.name, rows, fates)


def _collect(recipe: Recipe, folder: Path, progress: Progress) -> None:
    source = recipe.source
    fates: list[Fate] = []
    faults: list[Fault] = []

    names = names_of(source.files)

    def rows_of(path: Path) -> Iterator[Row]:
        return _valid(read_rows(path, source.droppable, source.named_columns, names[path]), fates, faults)

    examined = _Folded(fates)
    if source.held_out is not None:
        for row in rows_of(source.held_out):
            examined.add(_example(row, source, "held-out"), row.differ)
    held_out = examined.examples()
    guarded = {example.prompt.normalized_id for example in held_out.values()}

    given = _Folded(fates)
    golden: set[str] = set()
    if source.golden is not None and source.learn_golden:
        for row in rows_of(source.golden):
            if row.prompt.normalized_id in guarded:
                fates.append((row.file, row.line, "guarded", "the same as a held-out prompt"))
            else:
                golden.add(row.prompt.normalized_id)
                given.add(_example(row, source, "train"), row.differ)
    watched = [(path, True) for path in source.validation]
    for path, is_validation in (*watched, *((path, False) for path in source.prompt_files)):
        for row in rows_of(path):
            share = 0.0 if source.held_out is not None else source.held_out_share
            set_aside = 0.0 if source.validation else source.validation_share
            split = "validation" if is_validation else split_of(row.prompt, share, set_aside)
            if row.prompt.normalized_id in golden:
                split = "train"
            if row.prompt.normalized_id in guarded:
                fates.append((row.file, row.line, "guarded", "the same as a held-out prompt"))
            elif recipe.kind == "fine-tuning" and row.label is None:
                fates.append((row.file, row.line, "refused", "no answer to learn from"))
                faults.append(Fault(row.file, row.line, "messages", "no assistant turn", "an answer to learn from"))
            else:
                given.add(_example(row, source, split), row.differ)

    examples = given.examples()
    if not held_out:
        _hold_one_out(examples, golden)
    if not any(example.split == "train" for example in examples.values()):
        same = sum(status == "guarded" for *_, status, _ in fates)
        trained = {names[path] for path in source.prompt_files}
        folded = sum(file in trained and status == "folded" for file, _, status, _ in fates)
        if source.validation and not same and folded:
            where = ", ".join(sorted(trained))
            raise InvalidInput(
                f"no prompt is left to learn from: all {folded} rows of {where} are of prompts of the"
                " validation data (validationDataConfig, source.validation) too; take them out of one of the two"
            )
        raise InvalidInput(
            f"no prompt is left to learn from: {same} rows are of prompts that are held out as well, {len(examples)}"
            " others only watched; give rows of others"
        )
    with writing(folder / "examples.jsonl") as file:
        for example in (*held_out.values(), *examples.values()):
            file.write(json.dumps(_to_json(example), ensure_ascii=False) + "\n")
    with writing(folder / "refused.jsonl") as file:
        for fault in faults:
            file.write(json.dumps({**vars(fault), "message": str(fault)}, ensure_ascii=False) + "\n")
    with writing(folder / "report.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", "line", "status", "reason"))
        writer.writerows(sorted(fates))
    contradictions = sum(status in ("accepted", "folded") and ANOTHER in reason for _, _, status, reason in fates)
    prompt_files = {names[path] for path in source.prompt_files}
    counts = count([*held_out.values(), *examples.values()], prompt_files, contradictions, len(golden_pairs(source)))
    write_counts(folder, counts)
    logged = {example.file for example in examples.values() if example.origin == "log"}
    told_as = {file: "the logs" if file in logged else file for file, *_ in fates}
    for name in dict.fromkeys(told_as.values()):
        fate = Counter(status for file, _, status, _ in fates if told_as[file] == name)
        why = " (1-intake/report.csv says why)" if fate["accepted"] < fate.total() else ""
        progress.say(f"intake: {_accepted(name, fate)}{why}")


def _accepted(name: str, fates: Counter[str]) -> str:
    """What became of the rows of a file, in numbers."""
    others = (f", {number} {status}" for status, number in sorted(fates.items()) if status != "accepted" and number)
    return f"{fates['accepted']} of {fates.total()} rows of {name} accepted{''.join(others)}"


def _hold_one_out(examples: dict[str, Example], golden: Collection[str]) -> None:
    """Where the shares give nothing to examine on, the prompt that was nearest to it, in all its spellings.

    One that is learned: what is given to be watched stays that.
    """
    free = {one.prompt.normalized_id for one in examples.values() if one.split == "train"} - set(golden)
    if len(free) > 1 and not any(one.split == "held-out" for one in examples.values()):
        nearest = min(free)
        for key, one in examples.items():
            if one.prompt.normalized_id == nearest:
                examples[key] = replace(one, split="held-out")


def _valid(rows: Iterable[Row | list[Fault]], fates: list[Fate], faults: list[Fault]) -> Iterator[Row]:
    for row in rows:
        if isinstance(row, Row):
            yield row
        else:
            faults += row
            reasons = "; ".join(f"{fault.field}: found {fault.found}, expected {fault.expected}" for fault in row)
            fates.append((row[0].file, row[0].line, "refused", reasons))


def _example(row: Row, source: Source, split: Split) -> Example:
    prompt, whole = row.prompt, row.whole
    if source.system:
        prompt, whole = prompt.with_system(source.system), whole and whole.with_system(source.system)
    first, *others = row.metadata or ({},)
    place = (row.file, row.line, row.copies, row.origin)
    return Example(prompt, row.label, split, *place, metadata=dict(first), whole=whole, others=tuple(others))


class _Folded:
    """One example a prompt. The first label given wins; a different one later is told in the report."""

    def __init__(self, fates: list[Fate]) -> None:
        self._fates = fates
        self._kept: dict[str, Example] = {}
        self._sent: dict[str, dict[frozenset[tuple[str, str]], Mapping[str, str]]] = {}
        """What came with the copies of each, the same once: thousands may have sent one prompt."""

    def add(self, new: Example, differ: bool = False) -> None:
        """The next row's; ``differ``: it stands for copies of which some had another label."""
        also = f", {ANOTHER} among its copies; the first is kept" if differ else ""
        sent = self._sent.setdefault(new.id, {})
        for one in filter(None, (new.metadata, *new.others)):
            sent.setdefault(frozenset(one.items()), one)
        known = self._kept.setdefault(new.id, new)
        if known is new:
            self._fates.append((new.file, new.line, "accepted", new.split + also))
            return
        place = f"line {known.line}" if known.file == new.file else known.place
        reason = f"the same prompt as {place}"
        if new.label is not None and known.label is not None and new.label != known.label:
            reason += f', {ANOTHER} ("{new.label}"); that of {place} is kept'
        if new.whole != known.whole:
            reason += f", with another droppable part; that of {place} is kept"
        label = known.label if known.label is not None else new.label
        self._kept[new.id] = replace(known, copies=known.copies + new.copies, label=label)
        self._fates.append((new.file, new.line, "folded", reason + also))

    def examples(self) -> dict[str, Example]:
        """All that were added, by their ids, in the order of their first rows."""
        made = {}
        for key, one in self._kept.items():
            first, *others = self._sent[key].values() or ({},)
            made[key] = replace(one, metadata=first, others=tuple(others))
        return made


def _to_json(example: Example) -> dict[str, Any]:
    return {
        "id": example.id,
        "split": example.split,
        "messages": _turns(example.prompt),
        "whole": example.whole and _turns(example.whole),
        "label": example.label,
        "copies": example.copies,
        "file": example.file,
        "line": example.line,
        "origin": example.origin,
        "parent": example.parent,
        "metadata": dict(example.metadata),
        "others": list(example.others),
    }


def _turns(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": message.role, "text": message.text} for message in prompt.messages]


def _prompt(turns: list[dict[str, Any]]) -> Prompt:
    return Prompt(tuple(Message(**turn) for turn in turns))


def _from_json(row: dict[str, Any]) -> Example:
    return Example(
        _prompt(row["messages"]),
        row["label"],
        row["split"],
        row["file"],
        row["line"],
        row["copies"],
        row["origin"],
        row["parent"],
        row["metadata"],
        row["whole"] and _prompt(row["whole"]),
        tuple(row.get("others", ())),
    )
