"""Small random models of the real classes of each family, and what plain transformers says with them."""

from pathlib import Path

import torch
from tests.conftest import WORDS, make_tokenizer
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from limbeck.inference.engine import soft_labels_of
from limbeck.records import Answer

COMMON = {
    "vocab_size": 425,  # the tokenizer has 420: the rest is padding
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "initializer_range": 0.15,
}
GEMMA = {**COMMON, "query_pre_attn_scalar": 32, "sliding_window": 16}
QWEN2 = {**COMMON, "hidden_size": 128}  # its heads are as wide as its layers allow
STRETCHED = {"rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA3 = {**STRETCHED, "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}

MODELS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**COMMON, tie_word_embeddings=False),
    "llama with biases": LlamaConfig(**COMMON, tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
    "llama stretched as Llama 3": LlamaConfig(**COMMON, rope_parameters=LLAMA3),
    "llama stretched linearly": LlamaConfig(**COMMON, rope_parameters={**STRETCHED, "rope_type": "linear"}),
    "qwen2": Qwen2Config(**QWEN2),
    "qwen2 stretched by YaRN": Qwen2Config(**QWEN2, rope_parameters={**STRETCHED, "rope_type": "yarn"}),
    "qwen3": Qwen3Config(**COMMON),
    "gemma2": Gemma2Config(**GEMMA, attn_logit_softcapping=5.0, final_logit_softcapping=10.0),
    "gemma3": Gemma3TextConfig(**{**GEMMA, "num_hidden_layers": 7}),
    "gemma3 cut to two kinds of layers": Gemma3TextConfig(
        **GEMMA, layer_types=["sliding_attention", "full_attention"] * 2
    ),
}


def make(name: str, folder: Path, dtype: torch.dtype = torch.float32, words: int = WORDS) -> Path:
    """A model of ``MODELS`` with its tokenizer. Norms and biases are random too, so that none can be left out."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(MODELS[name])
    with torch.no_grad():
        for path, weight in model.named_parameters():
            if "norm" in path or "bias" in path:
                weight.add_(0.2 * torch.randn_like(weight))
    model.to(dtype).save_pretrained(folder)
    make_tokenizer(words).save_pretrained(folder)
    return folder


def prompts() -> list[list[int]]:
    """Some within a window of 16 tokens, some beyond."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, 400, (length,), generator=generator).tolist() for length in (5, 30, 75)]


def answers(folder: Path, asked: list[list[int]], count: int = 12) -> list[Answer]:
    """Greedy answers of plain transformers, by forward passes without a cache, in fp32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    made = []
    with torch.no_grad():
        for prompt in asked:
            ids = list(prompt)
            for _ in range(count):
                logits_TV = model(torch.tensor([ids])).logits[0]
                ids.append(int(logits_TV[-1].argmax()))
            labels = soft_labels_of(model(torch.tensor([ids])).logits[0, len(prompt) - 1 : -1], 1)
            made.append(Answer("", tuple(ids[len(prompt) :]), "length", len(prompt), labels))
    return made
