"""The stage itself: a verdict for every answer, and two files that show them all.

| rule      | drops                                                                     |
|-----------|---------------------------------------------------------------------------|
| held-out  | a prompt that, as it stands or normalized, is also held out                |
| empty     | an answer without a word                                                   |
| truncated | an answer cut off by the token limit: it would teach never to end          |

Left in the folder: `kept.jsonl` and `dropped.jsonl`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from limbeck.errors import InvalidInput
from limbeck.records import AnsweredExample, Example, Verdict, digest
from limbeck.storage.workspace import Workspace, writing

__all__ = ["judge", "sift"]

STAGE = "3-curation"


def sift(answered: Sequence[AnsweredExample], examples: Sequence[Example], work: Workspace) -> list[AnsweredExample]:
    """Stage 3: give every answer its verdict, and the kept ones back. Raises `InvalidInput` if none is left."""
    guarded = {example.prompt.normalized_id for example in examples if example.split == "held-out"}
    verdicts = [judge(one, guarded) for one in answered]
    inputs = {
        "examples": work.digest_of("1-intake"),
        "answers": digest([[a.example.id, a.answer.text, a.answer.finish_reason] for a in answered]),
    }

    def make(folder: Path) -> None:
        for name, kept in (("kept.jsonl", True), ("dropped.jsonl", False)):
            with writing(folder / name) as file:
                for one, verdict in zip(answered, verdicts, strict=True):
                    if verdict.keep == kept:
                        file.write(json.dumps(_row(one, verdict), ensure_ascii=False) + "\n")

    work.step(STAGE, inputs, make)
    counts = Counter(verdict.rule for verdict in verdicts if not verdict.keep)
    told = ", ".join(f"{count} {rule}" for rule, count in sorted(counts.items())) or "none dropped"
    work.progress.say(f"curation: {len(answered) - counts.total()} answers kept, {told}")
    if not any(v.keep and a.example.split == "train" for a, v in zip(answered, verdicts, strict=True)):
        raise InvalidInput(
            f"no answer is left to train on ({told}); {work.folder / STAGE / 'dropped.jsonl'} says why"
            " (truncated answers: raise synthesis.max_response_tokens, or a request's maxResponseLengthForInference)"
        )
    return [one for one, verdict in zip(answered, verdicts, strict=True) if verdict.keep]


def judge(answered: AnsweredExample, guarded: set[str]) -> Verdict:
    """The verdict on one answer; ``guarded`` holds the normalized ids of the held-out prompts."""
    answer = answered.answer
    if answered.example.prompt.normalized_id in guarded:
        return Verdict(False, "held-out", "the prompt is also in the examination")
    if not answer.text.strip():
        return Verdict(False, "empty")
    if answer.finish_reason == "length":
        return Verdict(False, "truncated", f"cut off after {len(answer.token_ids)} tokens")
    return Verdict(True, "kept")


def _row(one: AnsweredExample, verdict: Verdict) -> dict[str, object]:
    return {
        "id": one.example.id,
        "split": one.example.split,
        "origin": one.origin,
        "teacher": one.teacher,
        "messages": [{"role": m.role, "text": m.text} for m in one.example.prompt.messages],
        "response": one.answer.text,
        "label": one.example.label,
        "before": one.before,
        "parent": one.parent,
        "verdict": verdict.rule,
        "detail": verdict.detail,
    }
