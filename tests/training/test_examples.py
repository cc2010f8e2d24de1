"""Conversations become sequences in which every answer is learned once, after the tokens inference would put there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from tests.conftest import CHATML, make_tokenizer

from limbeck.errors import InvalidInput
from limbeck.models.chat import Renderer
from limbeck.recipe import Objective
from limbeck.records import Answer, AnsweredExample, Example, Message, Prompt, SoftLabels
from limbeck.training.examples import TrainingExample, prepare, sequences_of
from limbeck.training.step import accumulate

RENDERER = Renderer(make_tokenizer())
TEXTS = ("my kettle leaks", "leak", "is it covered?", "warranty", "and the noise?", "noise")


def with_template(template: str) -> Renderer:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    return Renderer(tokenizer)


FORGETFUL = with_template(
    CHATML.replace(
        "message['content']",
        "(message['content'].split('/')[-1] if message['role'] == 'assistant' else message['content'])",
    )
)
"""Leaves out of earlier answers what stands before a slash, as some templates do with thoughts."""
TRIMMING = with_template(CHATML.replace("message['content']", "message['content'] | trim"))


def conversation(*texts: str, system: str | None = None, earlier=()) -> AnsweredExample:
    """Texts of user and assistant in turn; the last is the answer."""
    turns = tuple(Message("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(texts[:-1]))
    prompt = Prompt(turns).with_system(system) if system else Prompt(turns)
    example = Example(prompt, texts[-1], "train", "rows.jsonl", 7)
    return AnsweredExample(example, Answer(texts[-1], (), "stop", 0), "given", None, earlier=earlier)


def test_a_conversation_is_the_templates_own_rendering_and_its_answers_are_what_is_learned():
    (made,) = prepare([conversation(*TEXTS, system="Name the intent.")], RENDERER, 512, None, False)
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(TEXTS)]
    turns.insert(0, {"role": "system", "content": "Name the intent."})
    whole = RENDERER.tokenizer.apply_chat_template(turns, return_dict=False)
    newline = RENDERER.tokenizer.encode("\n", add_special_tokens=False)
    assert [*made.tokens.ids, *newline] == whole
    assert list(made.tokens.response) == [token for text in TEXTS[1::2] for token in RENDERER.response(text)]


@given(
    texts=st.lists(st.text("ab /\n<|>", min_size=1, max_size=8), min_size=2, max_size=8).filter(
        lambda t: len(t) % 2 == 0
    ),
    renderer=st.sampled_from([RENDERER, FORGETFUL, TRIMMING]),
)
@examples(max_examples=150)
def test_every_answer_is_learned_once_after_what_inference_sees_whatever_the_template_does_to_history(texts, renderer):
    one = conversation(*texts)
    turns = one.example.prompt.messages
    learned = []
    for made in prepare([one], renderer, 4096, None, False):
        tokens, at = made.tokens, 0
        while at < len(tokens.learned):
            start = tokens.learned[at]
            answer = texts[2 * len(learned) + 1]
            before = renderer.prompt(Prompt(turns[: 2 * len(learned) + 1]))
            response = renderer.response(answer)
            assert list(tokens.ids[: start + len(response)]) == [*before, *response]
            assert tokens.learned[at : at + len(response)] == tuple(range(start, start + len(response)))
            at += len(response)
            learned.append(answer)
    assert learned == texts[1::2]


def test_a_history_that_the_template_rewrites_begins_a_sequence_of_its_own():
    plain, cut = conversation("a", "b", "c", "d"), conversation("a", "x/b", "c", "d")
    assert len(prepare([plain], FORGETFUL, 512, None, False)) == 1
    first, second = prepare([cut], FORGETFUL, 512, None, False)
    assert FORGETFUL.text(first.tokens.response) == "x/b"
    assert FORGETFUL.text(second.tokens.response) == "d"
    assert "x/b" not in FORGETFUL.tokenizer.decode(second.tokens.ids)


def test_the_last_answer_alone_is_learned_where_that_is_wished():
    (made,) = prepare([conversation(*TEXTS)], RENDERER, 512, None, False, answers="last")
    assert list(made.tokens.response) == RENDERER.response("noise")
    assert not made.tokens.read


def test_soft_labels_of_several_answers_lie_end_to_end_in_the_order_of_their_tokens():
    def read(text: str, value: int) -> Answer:
        ids = tuple(RENDERER.response(text))
        column = np.full((len(ids), 1), value)
        soft = SoftLabels(column.astype(np.int32), -column.astype(np.float32), -column[:, 0].astype(np.float32))
        return Answer(text, ids, "stop", 3, soft)

    one = conversation("a", "leak", "c", "noise", earlier=(read("leak", 5),))
    last = AnsweredExample(one.example, read("noise", 9), "teacher", "t", earlier=one.earlier)
    (made,) = prepare([last], RENDERER, 512, RENDERER, True)
    lengths = [len(RENDERER.response(text)) for text in ("leak", "noise")]
    assert made.soft_labels.top_ids_TK[:, 0].tolist() == [5] * lengths[0] + [9] * lengths[1]
    assert len(made.tokens.response) == sum(lengths)
    (unread,) = prepare([AnsweredExample(one.example, last.answer, "teacher", "t")], RENDERER, 512, RENDERER, True)
    assert unread.tokens.response == last.answer.token_ids
    with pytest.raises(InvalidInput, match=r"rows\.jsonl line 7: its answer came without distributions"):
        prepare([one], RENDERER, 512, RENDERER, True)


@pytest.mark.parametrize("share", [True, False])
def test_the_loss_of_conversations_in_a_pack_is_that_of_their_answers_one_by_one(tiny, share):
    several = [
        conversation(*TEXTS),
        conversation(*TEXTS[:4]),
        conversation("my kettle leaks", "leak"),
        conversation(*TEXTS),
    ]
    packed = accumulate(
        tiny.model, prepare(several, tiny.renderer, 512, None, False), Objective(cross_entropy=1), 4096, False, share
    )
    singly = []
    for one in several:
        turns = [*one.example.prompt.messages, Message("assistant", one.answer.text)]
        for at in range(1, len(turns), 2):
            alone = sequences_of(Prompt(tuple(turns[:at])), [tiny.renderer.response(turns[at].text)], tiny.renderer)
            singly += [tokens for tokens, _ in alone]
    expected = accumulate(
        tiny.model, [TrainingExample(t, None) for t in singly], Objective(cross_entropy=1), 1, False, False
    )
    assert packed.tokens == expected.tokens
    assert packed.cross_entropy == pytest.approx(expected.cross_entropy, rel=1e-5)
    assert packed.computed < expected.computed
