"""A GGUF file is measured on prompts that its model has room for."""

from tests.factory import write_rows

from limbeck.steps.registration import PLAIN_PROMPTS, parity_prompts


def test_prompts_without_room_for_an_answer_are_passed_over(tiny, tmp_path):
    rows = [{"prompt": text} for text in ("the kettle leaks " * 200, "leak?", "noise?")]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    found = parity_prompts(tiny, path)
    assert len(found) == 2 and all(len(one) < tiny.context_tokens for one in found)
    assert len(parity_prompts(tiny, None)) == len(PLAIN_PROMPTS)
    tiny.model.config.max_position_embeddings = min(map(len, found))
    assert parity_prompts(tiny, path) == []
