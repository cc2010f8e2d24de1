"""Prompts made from prompts: what is asked, what is let in, what is refused and why, and when it ends."""

import itertools
import json
import random

import pytest
from tests.synthesis.sessions import SETTINGS, workspace

from limbeck import synthesis
from limbeck.errors import InvalidInput, InvalidRecipe, Stopped
from limbeck.recipe import Recipe, Synthesis
from limbeck.records import Answer, Example, Message, Prompt
from limbeck.synthesis.admission import Admission
from limbeck.synthesis.methods import Request, read
from limbeck.teachers.scripted import ScriptedTeacher

NOUNS = ("boiler", "washer", "fridge", "oven", "dryer", "kettle", "toaster", "mixer")
VERBS = ("leaks", "hums", "smokes", "stopped", "rattles", "overheats", "blinks", "jams")
PLACES = ("cellar", "kitchen", "garage", "attic", "office", "shop")
HELD = "the kettle in the attic rattles since monday"


def one(text, split="train", label="repair", **more):
    return Example(Prompt((Message("system", "Name the intent."), Message("user", text))), label, split, "f", 1, **more)


GIVEN = [one(f"my {noun} {verb} and I do not know why") for noun, verb in zip(NOUNS, VERBS, strict=True)]
EXAMPLES = [*GIVEN, one("a lamp flickers at night", "validation"), one(HELD, "held-out")]


class Writer(ScriptedTeacher):
    """Writes prompts of its own, lists where several are asked for, the same for the same message; keeps messages."""

    def __init__(self, script=None):
        self.messages = []
        super().__init__(lambda text: self.messages.append(text) or (script or self.write)(text))

    def write(self, text):
        dice = random.Random(text)
        texts = [
            f"{dice.choice(PLACES)} {dice.choice(NOUNS)} {dice.choice(VERBS)} {dice.randrange(10**6)} {dice.random()}"
            for _ in range(4)
        ]
        if "numbered 1 to 4" in text:
            return "Sure! Here they are:\n" + "\n".join(f"{at}. {made}" for at, made in enumerate(texts, 1))
        return f'"{texts[0]}"'


def run(teacher, work, to=60, examples=EXAMPLES, seed=0, **plan):
    plan = Synthesis(augment={"to": to, **plan}, seed=seed)
    session = synthesis.Session(teacher, SETTINGS, synthesis.Framing(), work.folder.parent / "a.sqlite", work)
    return synthesis.augment(examples, session, plan)


def lines(work, name):
    return [json.loads(line) for line in (work.folder / "2-augmented" / name).read_text().splitlines()]


def summary(work):
    return json.loads((work.folder / "2-augmented" / "summary.json").read_text())


@pytest.mark.row(22)
def test_as_many_are_made_as_were_asked_for_and_each_says_where_it_is_from(tmp_path):
    work = workspace(tmp_path / "job")
    made = run(Writer(), work)[len(EXAMPLES) :]
    assert len(made) == 60 - 9 and len({e.id for e in made}) == len(made)
    parents = {e.id for e in GIVEN}
    for example in made:
        assert (example.origin, example.split, example.label) == ("augmented", "train", None)
        assert example.parent in parents and example.prompt.system == "Name the intent."
        assert not example.prompt.messages[-1].text.startswith('"')
    found = summary(work)
    assert set(found["methods"]) == {"similar", "paraphrase", "vary", "evolve"}
    assert (found["given"], found["seeds"], found["made"]) == (9, 8, 51)
    assert found["after"]["vendi"] > found["before"]["vendi"] > 1
    assert found["sentence"].startswith("similar prompts: 9 given, 51 made; refused: ")
    assert [row["id"] for row in lines(work, "examples.jsonl")] == [e.id for e in made]


def test_clusters_are_given_their_equal_parts(tmp_path):
    work = workspace(tmp_path / "job")
    often = [one(f"where is parcel number {n} of my order") for n in range(40)]
    seldom = [one(f"the boiler in room {n} leaks water") for n in range(6)]
    run(Writer(), work, 246, [*often, *seldom])
    counts = [(c["given"], c["made"]) for c in summary(work)["clusters"]]
    assert sum(given for given, _ in counts) == 46 and sum(made for _, made in counts) == 200
    fair = 200 / len(counts)
    assert len(counts) > 1 and all(0.5 * fair <= made <= 1.5 * fair for _, made in counts)


def test_held_out_and_validation_prompts_are_never_shown(tmp_path):
    teacher = Writer()
    run(teacher, workspace(tmp_path / "job"), 200)
    assert len(teacher.messages) > 30
    assert not any("kettle in the attic rattles since" in m or "lamp flickers" in m for m in teacher.messages)


@pytest.mark.parametrize(
    "text, reason",
    [
        ("The KETTLE in the attic rattles, since Monday!", "held-out copy"),
        ("the kettle in the attic rattles loudly since monday", "near a held-out prompt"),
        ("hello you there, good day: the kettle in the attic rattles since monday", "near a held-out prompt"),
        ("a lamp flickers at night!!", "copy"),
        ("my boiler leaks and i really do not know why", "near-duplicate"),
        ("Here is what the original request wanted", "speaks of the request"),
        ("say the request below in other words with the same meaning", "speaks of the request"),
        ("no", "too short"),
        ("water " * 60, "too long"),
        ("...", "no words"),
    ],
)
def test_what_is_refused_says_why(text, reason):
    words = "Say the request below in other words, with the same meaning and every detail."
    fault = Admission(EXAMPLES, 0.7).fault(text, words)
    assert fault is not None and fault[0] == reason


def test_what_is_taken_is_seen_from_then_on():
    door = Admission([*EXAMPLES, one("I withdraw my original request of may")], 0.7)
    assert door.fault("please answer the original request I sent", "") is None  # those given speak so too
    assert door.fault("is there a spare part for it", "") is None
    assert door.fault("Is there a spare part for it?", "") == ("copy", "")


def test_long_prompts_are_shown_fewer_at_once_so_that_they_fit_a_window(tmp_path):
    teacher = Writer()
    long = [one(f"{noun} {' '.join(VERBS)} " * 24) for noun in NOUNS]  # some 1,500 characters each
    run(teacher, workspace(tmp_path / "job"), 20, long, methods=["similar"])
    assert max(map(len, teacher.messages)) < 4000 + 500
    assert any(sum(noun * 2 not in m and f"{noun} leaks" in m for noun in NOUNS) == 2 for m in teacher.messages)


REPLIES = [
    ("1. it leaks\n2) it hums\n   all night\n**3.** it *smokes*", False, ["it leaks", "it hums\n   all night", "it *smokes*"]),
    ("Here are 2 new requests:\n\nRequest 1: it leaks\nRequest 2: \"it hums\"", False, ["it leaks", "it hums"]),
    ("9. it leaks\n10. it hums", False, ["it leaks", "it hums"]),
    ("- it leaks\n- it hums", False, ["it leaks", "it hums"]),
    ("1. it leaks\n2. it hu", True, ["it leaks"]),
    ("it leaks and hums", False, []),
]  # fmt: skip


@pytest.mark.parametrize("reply, cut, texts", REPLIES)
def test_lists_are_read_fairly(reply, cut, texts):
    asked = Request("similar", Prompt(()), GIVEN[0], (), "", several=True)
    found, lost = read(Answer(reply, (), "length" if cut else "stop", 1), asked)
    assert found == texts
    assert [reason for _, reason in lost] == (["cut off"] if cut else [] if texts else ["not a list"])


@pytest.mark.parametrize(
    "reply",
    ["it leaks", '"it leaks"', "Sure, here is the new request:\n\nit leaks", "New request: it leaks", "**it leaks**"],
)
def test_a_single_prompt_is_read_without_what_stands_around_it(reply):
    asked = Request("paraphrase: words", Prompt(()), GIVEN[0], (), "", several=False)
    assert read(Answer(reply, (), "stop", 1), asked) == (["it leaks"], [])
    assert read(Answer(reply, (), "length", 1), asked) == ([], [(reply, "cut off")])


@pytest.mark.parametrize("reply", ["**it leaks** and **hums**", '"it leaks" and "hums"'])
def test_marks_that_stand_around_parts_of_a_prompt_stay(reply):
    asked = Request("paraphrase: words", Prompt(()), GIVEN[0], (), "", several=False)
    assert read(Answer(reply, (), "stop", 1), asked) == ([reply], [])


def test_a_teacher_that_has_no_more_ends_it_and_the_job_says_so(tmp_path):
    said, work = [], workspace(tmp_path / "job")
    work.progress.say = said.append
    few = itertools.cycle(["the pump whistles", "a hose burst", "some valve sticks"])
    teacher = Writer(lambda text: next(few))
    made = run(teacher, work, 1000, methods=["paraphrase"])
    assert len(made) == len(EXAMPLES) + 3
    assert said[-1].startswith(
        "similar prompts: asked for 1,000, reached 12: the last round gave 0 new of 16 questions; refused: "
    )
    found = summary(work)
    assert [r["new"] for r in found["rounds"]] == [3, 0, 0]
    assert sum(r["asked"] for r in found["rounds"]) == 3 + sum(found["refused"].values())
    assert len(lines(work, "refused.jsonl")) == sum(found["refused"].values())


def test_the_same_seed_makes_the_same_and_another_another(tmp_path):
    ids = [
        [e.id for e in run(Writer(), workspace(tmp_path / name / "job"), 40, seed=seed)]
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert ids[0] == ids[1] != ids[2]


def test_a_run_that_was_stopped_goes_on_without_asking_twice(tmp_path):
    unbroken = Writer()
    whole = run(unbroken, workspace(tmp_path / "whole" / "job"), 150)
    work, teacher = workspace(tmp_path / "job"), Writer()
    count = itertools.count()
    teacher._script = lambda text: (work.stop.set() if next(count) == 30 else None) or teacher.write(text)
    with pytest.raises(Stopped):
        run(teacher, work, 150)
    assert not (work.folder / "2-augmented" / "manifest.json").exists()
    work = workspace(tmp_path / "job")
    assert run(teacher, work, 150) == whole
    # One question was before the teacher when the stop came.
    assert sum(unbroken.asked.values()) <= sum(teacher.asked.values()) <= sum(unbroken.asked.values()) + 1
    before = sum(teacher.asked.values())
    assert run(teacher, work, 150) == whole and sum(teacher.asked.values()) == before


def test_a_task_and_languages_are_told_to_the_teacher(tmp_path):
    teacher = Writer()
    plan = {"task": "Complaints about {request} machines.", "languages": ["German"], "methods": ["vary", "similar"]}
    run(teacher, workspace(tmp_path / "job"), 80, **plan)
    assert all("What the requests are for: Complaints about {request} machines." in m for m in teacher.messages)
    assert any("anew in German" in m for m in teacher.messages)
    assert all(sum(e.prompt.messages[-1].text in m for e in GIVEN) >= 1 for m in teacher.messages)


def test_enough_given_prompts_ask_nothing(tmp_path):
    teacher, work = Writer(), workspace(tmp_path / "job")
    assert run(teacher, work, 5) == EXAMPLES and not teacher.messages
    assert synthesis.augment(EXAMPLES, None, Synthesis()) == EXAMPLES


def test_conversations_alone_cannot_be_seeds(tmp_path):
    turns = tuple(Message(role, "hi") for role in ("user", "assistant", "user"))
    with pytest.raises(InvalidInput, match=r"synthesis.augment: none of 1 prompts can be a seed; expected"):
        run(Writer(), workspace(tmp_path / "job"), examples=[Example(Prompt(turns), None, "train", "f", 1)])


def test_a_recipe_refuses_to_make_prompts_that_nobody_answers():
    values = {"kind": "distillation", "name": "n", "source": {"prompts": "p"}, "teacher": {"model": "m"}}
    plan = {"augment": {"to": 10}}
    with pytest.raises(InvalidRecipe, match=r"synthesis.augment: only a distillation whose teacher answers"):
        Recipe.build(values | {"synthesis": plan | {"use_responses": True}})
    assert Recipe.build(values | {"synthesis": plan}).minimum_rows == 100
    assert Recipe.build(values | {"synthesis": {"augment": {"to": 10, "task": "t"}}}).minimum_rows == 3
