"""Votes and judges: which of several answers is learned, what is dropped, and that nothing is paid for twice."""

import json
from dataclasses import replace

import pytest
from tests.curation.made import answered

from limbeck import curation
from limbeck.curation.votes import agreement
from limbeck.errors import InvalidInput, InvalidRecipe
from limbeck.recipe import Curation, Judge, Recipe, Votes
from limbeck.records import GenerationSettings, Message, Prompt, Question
from limbeck.steps.teacher import asking_of
from limbeck.storage.workspace import Workspace
from limbeck.synthesis import Framing
from limbeck.teachers import ask
from limbeck.teachers.scripted import ScriptedTeacher

SETTINGS = GenerationSettings(100)
SAMPLES = {"clear": ["leak"] * 5, "split": ["noise", "leak", "leak", "Leak!", "fire"], "odd": ["a", "b", "c", "d", "e"]}


class Sampler(ScriptedTeacher):
    """Answers a prompt's first, second, … sample by its seed."""

    def answers(self, questions, settings, skip=(), check=lambda: None):
        self._script = lambda text: SAMPLES[text][settings.seed]
        yield from super().answers(questions, settings, skip, check)


@pytest.fixture
def work(tmp_path):
    work = Workspace(tmp_path / "job")
    work.step("1-intake", {}, lambda folder: (folder / "x").write_text("x"))
    return work


@pytest.fixture
def teacher():
    return Sampler(lambda text: "")


@pytest.fixture
def judge():
    return ScriptedTeacher(lambda text: "Mark: 5" if "Response:\nleak" in text else "Mark: 2", "judge")


@pytest.fixture
def asking(tmp_path, teacher, judge):
    def answers(pairs, settings, name):
        return ask(teacher, [Question(e.prompt, (), text) for e, text in pairs], settings, tmp_path / "a.sqlite")

    def judged(questions, settings, name):
        return ask(judge, questions, settings, tmp_path / "a.sqlite")

    return curation.Asking(SETTINGS, answers, judge=judged)


def sifted(work, plan, asking):
    kept = curation.sift([answered(text, said[0]) for text, said in SAMPLES.items()], [], work, plan, asking)
    return {one.example.prompt.messages[0].text: one for one in kept}


@pytest.mark.row(69)
def test_the_majority_is_learned_and_where_there_is_none_the_prompt_is_dropped(work, asking):
    kept = sifted(work, Curation(votes=Votes(threshold=0.4)), asking)
    assert {text: one.answer.text for text, one in kept.items()} == {"clear": "leak", "split": "leak"}
    assert kept["split"].scores == {"agreement": 0.5}
    (row,) = [json.loads(line) for line in (work.folder / "3-curation/dropped.jsonl").read_text().splitlines()]
    assert (row["verdict"], row["detail"]) == ("disagreement", "0% of the others agree")
    seeds = [json.loads(line)["seed"] for line in (work.folder / "3-curation/kept.jsonl").read_text().splitlines()]
    assert seeds == [0, 1]  # the first answer, and the first sample that said what most say


def test_a_sample_that_would_be_the_first_answer_over_again_is_not_counted(work, asking):
    drawn = replace(SETTINGS, temperature=0.7, seed=2)
    asked = []

    def answers(pairs, settings, name):
        asked.append(settings.seed)
        return asking.teacher(pairs, settings, name)

    sifted(work, Curation(votes=Votes(samples=4)), replace(asking, settings=drawn, teacher=answers))
    assert asked == [1, 3, 4]


def test_the_first_answer_can_stay_and_only_be_voted_on(work, asking):
    kept = sifted(work, Curation(votes=Votes(choose="first", threshold=0.2)), asking)
    assert {text: one.answer.text for text, one in kept.items()} == {"clear": "leak"}


def test_only_an_answer_in_good_form_is_chosen(work, asking):
    kept = sifted(work, Curation(labels=("noise", "e"), votes=Votes()), asking)
    assert {text: one.answer.text for text, one in kept.items()} == {"split": "noise", "odd": "e"}


@pytest.mark.row(69)
def test_the_judge_chooses_the_best_of_n_and_drops_the_rest(work, asking, teacher, judge):
    plan = Curation(votes=Votes(choose="judge"), judge=Judge(threshold=0.5))
    kept = sifted(work, plan, asking)
    assert {text: (one.answer.text, one.scores["judge"]) for text, one in kept.items()} == {
        "clear": ("leak", 1.0),
        "split": ("leak", 1.0),
    }
    (row,) = [json.loads(line) for line in (work.folder / "3-curation/dropped.jsonl").read_text().splitlines()]
    assert (row["verdict"], row["detail"]) == ("judge", "0.25, below 0.5: Mark: 2")
    asked = teacher.asked.total(), judge.asked.total()
    sifted(Workspace(work.folder), plan, asking)
    assert asked[0] == 3 * 4 and (teacher.asked.total(), judge.asked.total()) == asked


def test_a_judge_that_comes_to_no_mark_keeps_nothing_by_it(work, asking):
    mute = replace(asking, judge=lambda questions, settings, name: [answered("x", "hm").answer for _ in questions])
    with pytest.raises(Exception, match="3 judge"):
        sifted(work, Curation(judge=Judge()), mute)


def test_a_judge_sees_the_part_of_a_prompt_that_only_the_teacher_saw(work, asking):
    asked = []

    def judged(questions, settings, name):
        asked.extend(questions)
        return [answered("x", "Mark: 5").answer for _ in questions]

    whole = Prompt((Message("user", "Page 3.\n\nclear"),))
    rows = [answered("clear", "leak", whole=whole), answered("split", "leak")]
    curation.sift(rows, [], work, Curation(judge=Judge()), replace(asking, judge=judged))
    texts = [one.prompt.messages[0].text for one in asked]
    assert "Request:\nPage 3.\n\nclear\n" in texts[0] and "Request:\nsplit\n" in texts[1]


def test_labels_of_the_users_are_not_voted_on(work, asking, teacher):
    rows = [answered("split", "noise", origin="given", label="noise")]
    kept = curation.sift(rows, [], work, Curation(votes=Votes(threshold=0.9)), asking)
    assert [one.answer.text for one in kept] == ["noise"]
    assert not teacher.asked


def test_answers_that_the_teacher_mended_are_voted_on_as_mended_and_labels_are_not(work, asking, settings):
    def mended(text):
        said = text.split("Answer:\n")[1].split("\n")[0]
        return "leak." if said == "fire" else f"{said.lower().strip('!')}."

    values = {"kind": "distillation", "name": "n", "source": {"prompts": "p"}, "teacher": {"model": "t"}}
    recipe = Recipe.build({**values, "synthesis": {"refine": {"instruction": "Be brief."}}})
    refine = asking_of(recipe, ScriptedTeacher(mended, "t"), Framing(), settings, work).refine
    label = replace(answered("odd", "b", label="a"), origin="refined", before="a")
    rows = [*refine([answered("split", "noise")], SETTINGS, ""), replace(label, parent=label.example.id)]
    voted, own = curation.sift(rows, [], work, Curation(votes=Votes()), replace(asking, refine=refine))
    assert (voted.answer.text, voted.before, voted.origin) == ("leak.", "leak", "refined")
    assert voted.scores == {"agreement": 0.75} and voted.parent != rows[0].parent
    assert own is rows[1]


def test_a_judge_that_cannot_be_asked_is_told_as_the_judge_with_the_way_out(settings, work):
    def full(text):
        raise InvalidInput("p.jsonl line 3: a prompt of 589 tokens; t reads at most 511")

    values = {"kind": "distillation", "name": "n", "source": {"prompts": "p"}, "teacher": {"model": "t"}}
    recipe = Recipe.build({**values, "curation": {"judge": {}}})
    judge = asking_of(recipe, ScriptedTeacher(full, "t"), Framing(), settings, work).judge
    told = (
        r"curation\.judge, asked with prompt, answer and rubric: p\.jsonl line 3: .* at most 511; a job of another name"
    )
    with pytest.raises(InvalidInput, match=told):
        judge([Question(Prompt((Message("user", "mark this"),)))], SETTINGS, "marks")


def test_answers_agree_by_what_they_say_or_by_the_words_they_share():
    assert agreement(["A.", "a", "b"], by_words=False) == [0.5, 0.5, 0.0]
    shares = agreement(["turn it off", "turn it off now", "call us"], by_words=True)
    assert shares == pytest.approx([3 / 7, 3 / 7, 0.0])


@pytest.mark.parametrize(
    ("curation_keys", "message"),
    [
        ({"votes": {"choose": "judge"}}, "there is none"),
        ({"min_characters": 9, "max_characters": 8}, "at least min_characters"),
        ({"balance": 1.5}, "less than 1"),
    ],
)
def test_a_plan_that_cannot_work_is_refused(curation_keys, message):
    values = {"kind": "distillation", "name": "n", "source": {"prompts": "p"}, "teacher": {"model": "t"}}
    with pytest.raises(InvalidRecipe, match=message):
        Recipe.build({**values, "curation": curation_keys})


def test_without_a_teacher_there_are_no_votes_and_the_judge_is_named():
    values = {"kind": "fine-tuning", "name": "n", "source": {"prompts": "p"}, "student": {"model": "s"}}
    with pytest.raises(InvalidRecipe, match=r"curation\.votes: there is no teacher"):
        Recipe.build({**values, "curation": {"votes": {}}})
    with pytest.raises(InvalidRecipe, match=r"curation\.judge\.model: missing"):
        Recipe.build({**values, "curation": {"judge": {}}})
    Recipe.build({**values, "curation": {"judge": {"model": "j"}}})
