"""The stage: every candidate answers the held-out rows, is timed under the same conditions, and is scored.

Answers go through the same store as the teacher's, so an examination that was broken off asks only what is missing.
Left in the folder: `answers.jsonl` (every answer of every candidate), `report.json`, `report.html`.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from limbeck.errors import InvalidInput
from limbeck.evaluation.baseline import answers_are_labels, fit
from limbeck.evaluation.candidates import Candidate
from limbeck.evaluation.latency import Latency, time_requests
from limbeck.evaluation.metrics import FEWEST, METRICS, exact_match, mean_score
from limbeck.evaluation.page import page
from limbeck.evaluation.verdict import decide
from limbeck.models.loading import LoadedModel
from limbeck.recipe import Evaluation
from limbeck.records import Answer, AnsweredExample, Example, GenerationSettings, Report, digest
from limbeck.storage.workspace import Workspace, read_json, write_json, writing
from limbeck.teachers import ask
from limbeck.teachers.remote import RemoteTeacher

__all__ = ["STAGE", "Candidate", "compare", "examine", "loss_curve"]

STAGE = "5-evaluation"


def compare(
    candidates: Sequence[Candidate],
    examples: Sequence[Example],
    learned: Sequence[AnsweredExample],
    plan: Evaluation,
    settings: GenerationSettings,
    store: Path,
    work: Workspace,
    inputs: Mapping[str, Any],
    said: Sequence[str] = (),
    told: Callable[[], list[str]] = list,
    shown: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Report:
    """Stage 5 on the held-out ``examples``. ``learned`` is what the student learned from: the baseline's data.

    ``said`` are sentences of earlier stages that belong into the report, ``told`` gives others once all are asked.
    ``shown`` makes the texts of a row fit to be shown; models are asked with them as they are.
    """
    rows = plan.examined(examples)

    def make(folder: Path) -> None:
        answers = {c.part: _answers(c, rows, settings, store, work) for c in candidates}
        texts = {part: [answer.text for answer in found] for part, found in answers.items()}
        classical = _baseline(learned, plan)
        if classical is not None:
            texts["baseline"] = [str(label) for label in classical.predict([_asked(e) for e in rows])]
        work.progress.say("evaluation: timing requests one after another")
        latency = _time(candidates, answers, classical, rows, plan, settings, work)
        report = _report(candidates, rows, answers, texts, latency, plan, [*said, *told()], folder.parent)
        with writing(folder / "answers.jsonl") as file:
            for at, example in enumerate(rows):
                spoken = {part: found[at] for part, found in texts.items()}
                texts_of_row = {"prompt": _asked(example), "reference": example.label, **spoken}
                row = {"id": example.id, **shown(texts_of_row)}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        write_json(folder / "report.json", report.to_json())
        with writing(folder / "report.html") as file:
            file.write(page(work.name, report))

    fixed = {
        **inputs,
        "rows": [e.id for e in rows],
        "references": digest([e.label for e in rows]),
        "plan": plan.model_dump(mode="json"),
        "settings": asdict(settings),
        "asked": digest([[c.ask(e).conversation.id for e in rows] for c in candidates]),
        "said": list(said),
    }
    return read_report(work.step(STAGE, fixed, make))


def examine(
    model: LoadedModel | RemoteTeacher,
    examples: Sequence[Example],
    plan: Evaluation,
    settings: GenerationSettings,
    store: Path,
    work: Workspace,
    to: Path | None = None,
) -> dict[str, Any]:
    """Scores and latency of one model on rows with references.

    Nothing but stored answers is left behind, and in the file ``to`` each row's, with what it scored.
    """
    rows = plan.examined(examples)
    if any(row.label is None for row in rows):
        bare = next(row for row in rows if row.label is None)
        raise InvalidInput(f"{bare.place}: no answer to compare with; expected pairs")
    candidate = Candidate("model", model)
    answers = _answers(candidate, rows, settings, store, work)
    latency = _time([candidate], {"model": answers}, None, rows, plan, settings, work)
    texts = [answer.text for answer in answers]
    measured = _measures("model", {"model": texts}, _references(rows), latency, plan)
    if to is not None:
        with writing(to) as file:
            for row, text in zip(rows, texts, strict=True):
                assert row.label is not None, "checked above"
                scores = {name: metric(text, row.label) for name, metric in METRICS.items()}
                told = {"place": row.place, "prompt": _asked(row), "reference": row.label, "answer": text, **scores}
                file.write(json.dumps(told, ensure_ascii=False) + "\n")
    facts = candidate.facts(rows, answers)
    cost = {key: value for key, value in facts.items() if key == "cost_per_1000_requests"}
    return {"model": model.id, "rows": len(rows), **measured, **cost}


def read_report(folder: Path) -> Report:
    """A report as `compare` wrote it."""
    values = read_json(folder / "report.json")
    return Report(values["models"], values["rows"], values["verdict"], values["ship"], values["details"])


def _answers(
    candidate: Candidate, rows: Sequence[Example], settings: GenerationSettings, store: Path, work: Workspace
) -> list[Answer]:
    questions = [candidate.ask(example) for example in rows]
    name = f"examining the {candidate.part}"
    return ask(candidate.teacher, questions, settings, store, work.progress, work.stop, name)


def _baseline(learned: Sequence[AnsweredExample], plan: Evaluation) -> Any:
    """A fitted classical model, or None where it makes no sense."""
    train = [one for one in learned if one.example.split == "train"]
    if not plan.baseline or len(train) < 2 or not answers_are_labels([one.answer.text for one in train]):
        return None
    return fit([_asked(one.example) for one in train], [one.answer.text for one in train])


def _time(
    candidates: Sequence[Candidate],
    answers: Mapping[str, Sequence[Answer]],
    classical: Any,
    rows: Sequence[Example],
    plan: Evaluation,
    settings: GenerationSettings,
    work: Workspace,
) -> dict[str, Latency]:
    chosen = random.Random(plan.seed).sample(range(len(rows)), min(plan.latency_requests, len(rows)))  # noqa: S311
    by_text = {_asked(rows[i]): rows[i] for i in chosen}
    far = {
        c.part: c.latency(answers[c.part], [c.ask(row) for row in by_text.values()], settings, work.stop.check)
        for c in candidates
        if c.requester(settings) is None
    }
    models = {c.part: _requester(c, by_text, settings) for c in candidates if c.part not in far}
    if classical is not None:
        models["baseline"] = lambda text: len(classical.predict([text]))
    with work.progress.task("timing", len(by_text), "requests") as task:

        def each() -> None:
            task.advance()
            work.stop.check()

        return {**far, **time_requests(models, list(by_text), each)}


def _requester(
    candidate: Candidate, by_text: Mapping[str, Example], settings: GenerationSettings
) -> Callable[[str], int]:
    request = candidate.requester(settings)
    assert request is not None, "those outside this process are not timed here"
    return lambda text: request(candidate.ask(by_text[text]))


def _report(
    candidates: Sequence[Candidate],
    rows: Sequence[Example],
    answers: Mapping[str, Sequence[Answer]],
    texts: Mapping[str, Sequence[str]],
    latency: Mapping[str, Latency],
    plan: Evaluation,
    said: Sequence[str],
    job: Path,
) -> Report:
    models: dict[str, Any] = {}
    references = _references(rows)
    for part in texts:
        models[part] = _measures(part, texts, references, latency, plan)
        candidate = next((c for c in candidates if c.part == part), None)
        if candidate is not None:
            models[part] |= candidate.facts(rows, answers[part])
    # A handful of references tells nothing from chance, where the teacher answered every row.
    by_teacher = "teacher" in texts and len(references) < min(FEWEST, len(rows))
    truth = dict(enumerate(texts["teacher"])) if by_teacher else references
    if truth:
        metric = METRICS[plan.metric]
        scores = {part: [metric(said[at], truth[at]) for at in truth] for part, said in texts.items()}
        medians = {part: timed.p50 for part, timed in latency.items()}
        ship, verdict = decide(scores, medians, plan.metric, plan.tolerance, plan.seed)
        if by_teacher:
            had = f"Of {len(rows)} held-out rows {len(references) or 'none'} have a reference of their own"
            verdict += f" {had}: scores are agreement with the teacher."
        elif len(truth) < len(rows):
            verdict += f" Scores are over the {len(truth)} of {len(rows)} held-out rows that have a reference."
        verdict += "".join(f" The {part} was timed {timed.place}." for part, timed in latency.items() if timed.place)
    else:
        ship, verdict = (
            False,
            "do not ship: the held-out rows have no references and there is no teacher to compare with.",
        )
    details = {
        "metric": plan.metric,
        "tolerance": plan.tolerance,
        "said": list(said),
        "loss_curve": loss_curve(job / "4-training"),
    }
    return Report(models, len(rows), verdict, ship, details)


def _measures(
    part: str,
    texts: Mapping[str, Sequence[str]],
    references: Mapping[int, str],
    latency: Mapping[str, Latency],
    plan: Evaluation,
) -> dict[str, Any]:
    measured: dict[str, Any] = {"latency": asdict(latency[part])}
    if references:
        for name, metric in METRICS.items():
            values = [metric(texts[part][at], reference) for at, reference in references.items()]
            measured[name] = asdict(mean_score(values, plan.seed))
    if "teacher" in texts and part != "teacher":
        same = [exact_match(said, other) for said, other in zip(texts[part], texts["teacher"], strict=True)]
        measured["agreement"] = asdict(mean_score(same, plan.seed))
    return measured


def _references(rows: Sequence[Example]) -> dict[int, str]:
    """The answers that rows bring with them, by their places."""
    return {at: row.label for at, row in enumerate(rows) if row.label is not None}


def loss_curve(folder: Path) -> dict[str, list[list[float]]]:
    """The losses of a training's folder by step: of training, and of validation."""
    curves: dict[str, list[list[float]]] = {}
    for name, file in (("training", "metrics.csv"), ("validation", "validation.csv")):
        if (folder / file).exists():
            with (folder / file).open(newline="", encoding="utf-8") as opened:
                curves[name] = [[int(row["step_number"]), float(row[f"{name}_loss"])] for row in csv.DictReader(opened)]
    return curves


def _asked(example: Example) -> str:
    """The user's own words: the turns of the prompt without its instructions."""
    return "\n".join(m.text for m in example.prompt.turns)
