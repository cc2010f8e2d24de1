"""A GGUF file is measured on prompts that its model has room for; a model goes with the system prompt that it learned."""

import json
from dataclasses import replace

from tests.curation.made import answered, example
from tests.factory import write_rows

from limbeck.curation.masking import mask
from limbeck.curation.privacy import KINDS
from limbeck.recipe import Recipe
from limbeck.steps.registration import PLAIN_PROMPTS, parity_prompts, recipe_shown, system_learned


def test_prompts_without_room_for_an_answer_are_passed_over(tiny, tmp_path):
    rows = [{"prompt": text} for text in ("the kettle leaks " * 200, "leak?", "noise?")]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    found = parity_prompts(tiny, path)
    assert len(found) == 2 and all(len(one) < tiny.context_tokens for one in found)
    assert len(parity_prompts(tiny, None)) == len(PLAIN_PROMPTS)
    tiny.model.config.max_position_embeddings = min(map(len, found))
    assert parity_prompts(tiny, path) == []


def test_a_model_goes_with_the_system_prompt_that_it_learned_masked_as_that_was():
    def recipe(**curation):
        values = {"kind": "fine-tuning", "name": "a", "source": {"prompts": "p.jsonl"}, "student": {"model": "m"}}
        return Recipe.build({**values, "curation": curation})

    one = example("I am c@d.org", label="fine")
    one = replace(one, prompt=one.prompt.with_system("Sign as a@b.org."))
    assert system_learned([one], recipe()) == "Sign as a@b.org."
    (masked,) = mask([replace(answered("x"), example=one)], KINDS, None)
    told = system_learned([one], recipe(privacy="mask"))
    assert told == masked.one.example.prompt.system == "Sign as [EMAIL-1]."
    assert system_learned([one, example("no system")], recipe()) is None


def test_the_recipe_of_a_model_is_shown_without_what_is_private_in_its_texts_where_that_is_asked():
    texts = {"source": {"prompts": "p.jsonl", "system": "Sign as a@b.org."}, "teacher": {"model": "m"}}
    texts["synthesis"] = {"teacher_system": "Ask c@d.org, never a@b.org.", "augment": {"to": 200, "task": "of e@f.org"}}
    kept = Recipe.build({"kind": "distillation", "name": "a", **texts})
    assert recipe_shown(kept) == kept.dump()
    masked = Recipe.build({"kind": "distillation", "name": "a", **texts, "curation": {"privacy": "mask"}})
    told = recipe_shown(masked)
    assert "@" not in json.dumps(told) and told.keys() == masked.dump().keys()
    assert told["source"] == {**masked.dump()["source"], "system": "Sign as [EMAIL-1]."}
    assert told["synthesis"]["teacher_system"] == "Ask [EMAIL-3], never [EMAIL-1]."
    assert (told["curation"], told["teacher"]) == (masked.dump()["curation"], masked.dump()["teacher"])
