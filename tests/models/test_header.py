"""What a model's files say of it: the same for who loads it, who hosts it and who looks it over."""

import pytest
from tests.conftest import make_tokenizer
from tests.families import COMMON
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from limbeck.models.header import UNKNOWN_CONTEXT, context_tokens, context_told
from limbeck.models.importing import inspect
from limbeck.models.loading import load

GPT2 = {"vocab_size": 420, "n_embd": 16, "n_layer": 1, "n_head": 2, "bos_token_id": 1, "eos_token_id": 2}


@pytest.mark.parametrize("config", [LlamaConfig(**COMMON), GPT2Config(**GPT2, n_positions=256)])
def test_the_length_of_the_context_is_one_whoever_asks(config, tmp_path, settings):
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    assert context_tokens(tmp_path) == inspect(tmp_path).context_tokens == 256
    assert load(str(tmp_path), settings).context_tokens == 256


def test_of_several_parts_the_one_for_text_says_how_long_a_context_is(tmp_path):
    assert context_told({"text_config": {"max_position_embeddings": 512}}) == 512
    assert context_told({"model_type": "gemma3", "text_config": None}) is None
    (tmp_path / "config.json").write_text("{}")
    assert context_tokens(tmp_path) == UNKNOWN_CONTEXT
