"""Context distillation: the teacher sees the long prompt, the student's tokens hold nothing of it, and the soft labels
are the teacher's with everything before its eyes."""

import numpy as np
import pytest
from tests.synthesis.sessions import SETTINGS, Ending, answer, example, workspace

from limbeck.inference.engine import Engine
from limbeck.intake.droppable import with_context
from limbeck.records import Question
from limbeck.synthesis import Framing, Golden
from limbeck.teachers.local import LocalTeacher
from limbeck.training import prepare

SYSTEM = "You know every manual by heart."
GOLDEN = [("my kettle drips", "leak"), ("my bill?", "billing")]
CONTEXT = "Page seven: kettles."


def contextual(text, label=None):
    one = example(text, label, "Be brief.")
    return example(text, label, "Be brief.", whole=with_context(one.prompt, CONTEXT))


EXAMPLES = [contextual("why does it drip?"), contextual("is it loud?", "noise"), example("what do I owe?", "a lot")]


def test_the_teacher_sees_instructions_demonstrations_and_the_rows_own_part():
    framing = Framing(Golden(GOLDEN, 10), SYSTEM)
    asked = framing.question(EXAMPLES[0], "so")
    said = [(m.role, m.text) for m in asked.conversation.messages]
    assert said == [
        ("system", SYSTEM),
        *((role, text) for pair in GOLDEN for role, text in zip(("user", "assistant"), pair, strict=True)),
        ("user", f"{CONTEXT}\n\nwhy does it drip?"),
    ]
    assert asked.completion == "so"
    assert Framing().question(example("hi", system="Be brief.")) == Question(example("hi", system="Be brief.").prompt)


@pytest.mark.parametrize("labels", ["keep", "improve"])
def test_the_students_tokens_hold_nothing_of_the_context_and_signals_are_those_with_it(tmp_path, tiny, labels):
    teacher = Ending(tiny, lambda text: "leak" if CONTEXT in text else "billing")
    plan = {"teacher_system": SYSTEM, "labels": labels, "refine": {"instruction": "One word."}}
    made = answer(EXAMPLES, teacher, workspace(tmp_path / "job"), GOLDEN, **plan)
    assert [one.answer.text for one in made] == (
        ["leak", "noise", "a lot"] if labels == "keep" else ["leak", "leak", "billing"]
    )
    render, framing = tiny.renderer, Framing(Golden(GOLDEN, 10), SYSTEM)
    for one, learned in zip(made, prepare(made, render, 512, render, True), strict=True):
        text = render.text(learned.tokens.ids)
        for hidden in (SYSTEM, CONTEXT, "my kettle drips", "my bill?"):
            assert hidden not in text
        plain = render.prompt(one.example.prompt)
        assert list(learned.tokens.ids) == [*plain, *render.response(one.answer.text)]
        long = render.prompt(framing.question(one.example).conversation)
        (read,) = Engine(tiny).read([long], [one.answer.token_ids], SETTINGS.top_k_captured)
        assert np.array_equal(np.sort(learned.soft_labels.top_ids_TK), np.sort(read.soft_labels.top_ids_TK))
        np.testing.assert_allclose(learned.soft_labels.top_logprobs_TK, read.soft_labels.top_logprobs_TK, atol=1e-2)
        (without,) = Engine(tiny).read([plain], [one.answer.token_ids], SETTINGS.top_k_captured)
        assert not np.allclose(without.soft_labels.top_logprobs_TK, read.soft_labels.top_logprobs_TK, atol=2e-2)


def test_what_the_teacher_generates_is_what_it_would_say_to_the_long_prompt(tmp_path, tiny):
    (one,) = answer(EXAMPLES[:1], LocalTeacher(tiny), workspace(tmp_path / "job"), GOLDEN, teacher_system=SYSTEM)
    long = tiny.renderer.prompt(Framing(Golden(GOLDEN, 10), SYSTEM).question(EXAMPLES[0]).conversation)
    (expected,) = Engine(tiny).generate([long], SETTINGS)
    assert one.answer.token_ids == expected.token_ids
    np.testing.assert_allclose(one.answer.soft_labels.top_logprobs_TK, expected.soft_labels.top_logprobs_TK, atol=1e-2)


def test_a_teacher_with_a_context_is_examined_with_it_and_golden_pairs_alone_are_none():
    plain = Framing(Golden(GOLDEN, 10))
    assert plain.examined(EXAMPLES[2:], None)(EXAMPLES[2]) == Question(EXAMPLES[2].prompt)
    assert plain.examined(EXAMPLES[2:], "context")(EXAMPLES[2]) == plain.question(EXAMPLES[2])
    assert plain.examined(EXAMPLES, None)(EXAMPLES[0]) == plain.question(EXAMPLES[0])
    assert plain.examined(EXAMPLES, "prompt")(EXAMPLES[0]) == Question(EXAMPLES[0].prompt)
    taught = Framing(system=SYSTEM)
    assert taught.examined(EXAMPLES[2:], None)(EXAMPLES[2]).prompt.system == SYSTEM
