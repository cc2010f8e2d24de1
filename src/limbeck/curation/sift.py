"""The stage itself: a verdict for every answer (`sieve` has the rules), and two files that show them all.

Left in the folder: `kept.jsonl`, `dropped.jsonl` and `summary.json`, the counts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from limbeck.curation.asking import Asking
from limbeck.curation.masking import cover, mask
from limbeck.curation.privacy import checked_kinds
from limbeck.curation.sieve import Sieve
from limbeck.errors import InvalidInput
from limbeck.recipe import Curation
from limbeck.records import AnsweredExample, Example, GenerationSettings, Verdict, digest
from limbeck.storage.workspace import Workspace, read_json, write_json, writing

__all__ = ["remarks", "sift"]

STAGE = "3-curation"

DETAIL_CHARACTERS = 200
"""What is shown of why an answer is dropped, which may quote it."""


def sift(
    answered: Sequence[AnsweredExample],
    examples: Sequence[Example],
    work: Workspace,
    plan: Curation | None = None,
    asking: Asking | None = None,
) -> list[AnsweredExample]:
    """Stage 3: give every answer its verdict, and the kept ones back. Raises `InvalidInput` if none is left.

    Verdicts follow from the answers, so they are found anew each time; what is asked for them is stored, and the
    folder is written again only if something came out otherwise.
    """
    work.progress.stage(STAGE)
    plan, asking = plan or Curation(), asking or Asking(GenerationSettings(256))
    sieve = Sieve(answered, examples, plan, asking)
    sieve.run()
    rows = [_row(one, verdict, sieve.notes.get(at, ""), plan, asking) for at, (one, verdict) in enumerate(sieve.all)]
    counts = Counter(verdict.rule for _, verdict in sieve.all if not verdict.keep)
    summary = {
        "answers": len(rows),
        "kept": len(rows) - counts.total(),
        "dropped": dict(sorted(counts.items())),
        "masked": sieve.masked,
    }

    def make(folder: Path) -> None:
        for name, kept in (("kept.jsonl", True), ("dropped.jsonl", False)):
            with writing(folder / name) as file:
                for row, (_, verdict) in zip(rows, sieve.all, strict=True):
                    if verdict.keep == kept:
                        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        write_json(folder / "summary.json", summary)

    work.step(STAGE, {"examples": work.digest_of("1-intake"), "rows": digest(rows)}, make)
    told = ", ".join(f"{count} {rule}" for rule, count in sorted(counts.items())) or "none dropped"
    masked = f", {sieve.masked} masked" if sieve.masked else ""
    work.progress.say(f"curation: {summary['kept']} answers kept{masked}, {told}")
    if not any(verdict.keep and one.example.split == "train" for one, verdict in sieve.all):
        out = "give other rows, or loosen the rules under curation"
        truncated = [one for one, verdict in sieve.all if verdict.rule == "truncated"]
        if 2 * sum(one.answer.finish_reason == "length" for one in truncated) > counts.total():
            out = "raise synthesis.max_response_tokens, or a request's maxResponseLengthForInference"
        raise InvalidInput(
            f"no answer is left to train on ({told}); {STAGE}/dropped.jsonl, in the output of a job"
            f" synthetic_data/dropped.jsonl, says why; {out}, in a job of another name, or after `limbeck remove"
            f" {work.name}`: answers are kept, and none is asked for again that was asked in the same way"
        )
    return [one for one, verdict in sieve.all if verdict.keep]


def remarks(job: Path) -> list[str]:
    """What a report should say of the answers that were not learned; nothing where all were."""
    path = job / STAGE / "summary.json"
    if not path.exists():
        return []
    summary = read_json(path)
    dropped = summary["dropped"]
    counts = ", ".join(f"{count:,} {rule}" for rule, count in dropped.items())
    said = [f"{sum(dropped.values()):,} of {summary['answers']:,} answers were dropped: {counts}"] if counts else []
    return said + ([f"{summary['masked']:,} had personal data or secrets masked"] if summary["masked"] else [])


def _row(one: AnsweredExample, verdict: Verdict, note: str, plan: Curation, asking: Asking) -> dict[str, object]:
    """What is shown of an answer. Where privacy is asked for, what is private is shown nowhere, dropped or not."""
    example, shown, detail = one.example, one, verdict.detail or note
    if plan.privacy == "drop" or (plan.privacy == "mask" and not verdict.keep):  # what is kept is masked already
        shown = mask([one], checked_kinds(plan.private), plan.phone_region)[0].one
        detail = cover(plan)(detail)  # before it is cut: half an address is still somebody's
    asked = one.settings or asking.settings
    return {
        "id": example.id,
        "split": example.split,
        "origin": one.origin,
        "parent": one.parent,
        "teacher": one.teacher,
        "settings": asdict(asked) if one.origin != "given" else None,
        "seed": asked.seed if one.origin != "given" else None,
        "prompt_origin": example.origin,
        "prompt_parent": example.parent,
        **({} if example.unmasked is None else {"prompt_unmasked": example.unmasked}),
        **({} if example.method is None else {"prompt_method": example.method}),
        "file": example.file,
        "line": example.line,
        "copies": example.copies,
        "metadata": dict(shown.example.metadata),
        "others": [dict(one) for one in shown.example.others],
        "messages": [{"role": m.role, "text": m.text} for m in shown.example.prompt.messages],
        "response": shown.answer.text,
        "label": shown.example.label,
        "before": shown.before,
        "scores": dict(one.scores),
        "verdict": verdict.rule,
        "detail": detail if len(detail) <= DETAIL_CHARACTERS else f"{detail[:DETAIL_CHARACTERS]}…",
    }
