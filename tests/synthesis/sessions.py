"""The stage as its tests run it: examples that stand nowhere on disk, a teacher, and what the folder then says."""

import json
from dataclasses import replace

from limbeck import synthesis
from limbeck.evaluation.metrics import token_f1
from limbeck.recipe import Synthesis
from limbeck.records import Answer, Example, GenerationSettings, Message, Prompt
from limbeck.storage.workspace import Workspace
from limbeck.teachers.local import LocalTeacher

SETTINGS = GenerationSettings(6, top_k_captured=5)


def example(text, label=None, system=None, **more):
    prompt = Prompt((Message("user", text),))
    return Example(prompt.with_system(system) if system else prompt, label, "train", "f.jsonl", 1, **more)


def workspace(folder):
    """A job's folder whose intake is done."""
    work = Workspace(folder)
    work.step("1-intake", {}, lambda folder: None)
    return work


def answer(examples, teacher, work, golden=(), most=10, choice="first", settings=SETTINGS, **plan):
    made = Synthesis(**plan)
    framing = synthesis.Framing(synthesis.Golden(golden, most, choice), made.teacher_system)
    session = synthesis.Session(teacher, settings, framing, work.folder.parent / "a.sqlite", work)
    return synthesis.answer(examples, session, made, token_f1)


def rows(work):
    lines = (work.folder / "2-synthesis" / "answers.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


class Editor(LocalTeacher):
    """A real model that answers and reads by itself, and mends texts as ``script`` says (prompt text to new text)."""

    def __init__(self, loaded, script):
        super().__init__(loaded)
        self.script, self.mended = script, []

    def answers(self, questions, settings, skip=(), check=lambda: None):
        mending = {at for at, q in enumerate(questions) if "Write only the new answer" in q.prompt.messages[-1].text}
        yield from super().answers(questions, settings, {*skip, *mending}, check)
        for at in sorted(mending - set(skip)):
            self.mended.append(questions[at])
            text = self.script(questions[at].prompt.messages[-1].text)
            ids = self.loaded.renderer.response(text)
            cut = len(ids) > settings.max_tokens
            yield [(at, Answer(text, tuple(ids[: settings.max_tokens]), "length" if cut else "stop", 9))]


class Ending(Editor):
    """One that says of every answer that it came to an end: a model that knows nothing goes on for ever."""

    def answers(self, *asked):
        for group in super().answers(*asked):
            yield [(at, replace(answer, finish_reason="stop")) for at, answer in group]
