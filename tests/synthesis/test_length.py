"""The most response tokens are kept to the token, whatever way an answer came about; a label is the user's own."""

import pytest
from tests.factory import message
from tests.synthesis.sessions import Editor, answer, example, workspace

from limbeck.inference.engine import Engine
from limbeck.intake.droppable import with_context
from limbeck.records import GenerationSettings
from limbeck.synthesis import Framing, Golden
from limbeck.teachers.local import LocalTeacher

GOLDEN = [(f"golden {message(i)[0]}", message(i)[1]) for i in range(6)]
SYSTEM = "Name the intent."
LONG = "a label of very many words, which nobody cuts although it is longer than any limit here"


def prompts():
    made = []
    for i in range(10):
        one = example(message(i)[0], [None, "leak", LONG][i % 3])
        made.append(example(message(i)[0], one.label, whole=with_context(one.prompt, "Page 3.") if i % 2 else None))
    return made


@pytest.fixture
def teacher(tiny):
    """A model whose answers end where a token comes that is frequent in them: some at once, some never."""
    render = tiny.renderer
    questions = [render.prompt(Framing().question(e).conversation) for e in prompts()]
    spoken = [token for a in Engine(tiny).generate(questions, GenerationSettings(16)) for token in a.token_ids]
    render.stop_ids = frozenset({render.end_id, sorted(spoken)[len(spoken) // 2]})
    return Editor(tiny, lambda text: "leak " * (2 + len(text) % 5))


@pytest.mark.row(26)
@pytest.mark.parametrize("limit", [1, 4])
@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"labels": "ignore", "golden": GOLDEN, "choice": "similar", "most": 3},
        {"labels": "improve", "teacher_system": SYSTEM},
        {"labels": "auto", "refine": {"instruction": "One word."}, "golden": GOLDEN, "most": 2},
    ],
    ids=["plain", "labels ignored, pairs chosen", "labels improved, instructed", "auto, refined, pairs shown"],
)
def test_no_path_goes_beyond_the_limit_and_none_stops_short_of_it(tmp_path, teacher, limit, plan):
    made = answer(
        prompts(), teacher, workspace(tmp_path / "job"), settings=GenerationSettings(limit, top_k_captured=3), **plan
    )
    assert {one.origin for one in made} - {"given"}
    render = teacher.loaded.renderer
    golden = Golden(plan.get("golden", ()), plan.get("most", 10), plan.get("choice", "first"))
    framing = Framing(golden, plan.get("teacher_system"))
    for one in made:
        ids = one.answer.token_ids
        assert len(one.answer.soft_labels.top_ids_TK) == len(ids)
        if one.origin == "given":
            assert one.answer.text == one.example.label and ids == tuple(render.response(one.answer.text))
        else:
            assert len(ids) <= limit
        if one.origin == "teacher":
            asked = render.prompt(framing.question(one.example).conversation)
            (whole,) = Engine(teacher.loaded).generate([asked], GenerationSettings(16))
            assert ids == whole.token_ids[:limit]
            ended = whole.finish_reason == "stop" and len(whole.token_ids) <= limit
            assert one.answer.finish_reason == ("stop" if ended else "length")


def test_sampled_answers_keep_to_it_too(tmp_path, teacher):
    settings = GenerationSettings(5, temperature=1.5, seed=3)
    made = answer(
        prompts(), LocalTeacher(teacher.loaded), workspace(tmp_path / "job"), settings=settings, labels="ignore"
    )
    lengths = [len(one.answer.token_ids) for one in made]
    assert max(lengths) == 5
    assert all(one.answer.finish_reason == "stop" for one in made if len(one.answer.token_ids) < 5)
