"""Which models a GGUF file can hold, and what sets their families apart.

`Convertible` is a folder in Hugging Face layout that has been checked: what GGUF or llama.cpp would compute otherwise
than transformers is refused with `NotYet`, all of it at once. llama.cpp fixes some things in its code for each
architecture (the activation, the pattern of windowed layers, the scale of attention); those are in the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gguf.constants import MODEL_ARCH

from limbeck.errors import DamagedArtifact, NotYet
from limbeck.models.weights import Weights
from limbeck.storage.workspace import read_json

__all__ = ["FAMILIES", "Convertible", "Family"]


@dataclass(frozen=True)
class Family:
    """What sets one architecture apart from the others."""

    arch: MODEL_ARCH
    activation: str
    """The only one llama.cpp computes for it."""
    tied: bool = False
    """Whether the head is the embedding where the configuration says nothing."""
    paired_rotary: bool = False
    """llama.cpp turns neighboring pairs of a head, not its halves."""
    norms_add_one: bool = False
    rope_base: float = 10_000.0
    """Of the rotary frequencies, where the configuration says nothing."""
    sliding_period: int | None = None
    """Every so many layers, one attends to everything and the others through a window; None: no windows."""
    attention_scale_by_width: int | None = None
    """The number of layers for which llama.cpp scales attention by width over heads, not by the head's width."""


FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": Family(MODEL_ARCH.LLAMA, "silu", paired_rotary=True),
    "Qwen2ForCausalLM": Family(MODEL_ARCH.QWEN2, "silu"),
    "Qwen3ForCausalLM": Family(MODEL_ARCH.QWEN3, "silu"),
    "Gemma2ForCausalLM": Family(
        MODEL_ARCH.GEMMA2,
        "gelu_pytorch_tanh",
        tied=True,
        norms_add_one=True,
        sliding_period=2,
        attention_scale_by_width=46,
    ),
    "Gemma3ForCausalLM": Family(
        MODEL_ARCH.GEMMA3,
        "gelu_pytorch_tanh",
        tied=True,
        norms_add_one=True,
        rope_base=1_000_000.0,
        sliding_period=6,
        attention_scale_by_width=62,
    ),
}


@dataclass
class Convertible:
    """A folder's configuration and weights, checked for being what a GGUF file can hold."""

    folder: Path
    config: Mapping[str, Any] = field(init=False)
    family: Family = field(init=False)
    weights: Weights = field(init=False)
    rope: Mapping[str, Any] = field(init=False)
    """How positions turn, of the layers that attend to everything."""

    def __post_init__(self) -> None:
        self.config = read_json(self.folder / "config.json")
        named = self.config.get("architectures") or ["none"]
        if named[0] not in FAMILIES:
            raise NotYet(
                f"{self.folder}: the architecture {named[0]} cannot be written as GGUF yet;"
                f" expected one of {', '.join(FAMILIES)}"
            )
        self.family = FAMILIES[named[0]]
        self.weights = Weights(self.folder)
        rope = self.config.get("rope_parameters") or {}
        self.rope = rope.get("full_attention") or rope or self.config.get("rope_scaling") or {}
        self._check()

    def number(self, key: str) -> Any:
        """A setting that must be there."""
        value = self.config.get(key)
        if value is None:
            raise DamagedArtifact(f"{self.folder / 'config.json'}: no {key}; expected a number")
        return value

    @property
    def layers(self) -> int:
        """How many."""
        return int(self.number("num_hidden_layers"))

    @property
    def heads(self) -> int:
        """Of the queries."""
        return int(self.number("num_attention_heads"))

    @property
    def key_heads(self) -> int:
        """Of keys and values."""
        return int(self.config.get("num_key_value_heads") or self.heads)

    @property
    def head_width(self) -> int:
        """Numbers in one head."""
        return int(self.config.get("head_dim") or self.number("hidden_size") // self.heads)

    @property
    def rows(self) -> int:
        """Of the embeddings: how many tokens there can be."""
        name = "model.embed_tokens.weight"
        if name not in self.weights:
            raise DamagedArtifact(f"{self.folder}: no tensor {name} in its safetensors")
        return self.weights[name].shape[0]

    @property
    def tied(self) -> bool:
        """Whether the head is the embedding."""
        said = self.config.get("tie_word_embeddings")
        return "lm_head.weight" not in self.weights or bool(self.family.tied if said is None else said)

    def base(self, layers: str) -> float:
        """The base of the rotary frequencies, of ``full_attention`` or ``sliding_attention`` layers."""
        by_layer = (self.config.get("rope_parameters") or {}).get(layers)
        if layers == "sliding_attention":
            return float((by_layer or {}).get("rope_theta") or self.config.get("rope_local_base_freq") or 10_000.0)
        return float(self.rope.get("rope_theta") or self.config.get("rope_theta") or self.family.rope_base)

    @property
    def stretching(self) -> str:
        """How positions were stretched to a longer context, by transformers' name for it; "default" is not at all."""
        return str(self.rope.get("rope_type") or self.rope.get("type") or "default")

    @property
    def period(self) -> int | None:
        """Every so many layers one attends to everything; 0 where none does. The family's own if both would do."""
        types: list[str] | None = self.config.get("layer_types")
        usual = self.family.sliding_period
        if usual is None or types is None:
            return usual and int(self.config.get("sliding_window_pattern") or usual)
        candidates: list[int] = [usual, 0, *range(1, self.layers + 1)]
        for period in candidates:
            if all((kind == "sliding_attention") == _slides(at, period) for at, kind in enumerate(types)):
                return period
        raise NotYet(
            f"{self.folder}: its layers attend {', '.join(types)}; GGUF holds only a pattern that repeats every"
            " so many layers (a student cut from a Gemma keeps one if whole groups of layers are kept)"
        )

    def _check(self) -> None:
        config, refused = self.config, []
        activation = config.get("hidden_activation") or config.get("hidden_act") or self.family.activation
        if activation != self.family.activation:
            refused.append(f"activation {activation}; expected {self.family.activation}")
        if config.get("use_sliding_window"):
            refused.append("use_sliding_window; expected every layer to attend to everything")
        if float(self.rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1) != 1:
            refused.append("partial_rotary_factor; expected whole heads to turn")
        if self.family.arch is MODEL_ARCH.GEMMA2:
            for key in ("attn_logit_softcapping", "final_logit_softcapping"):
                if not config.get(key):
                    refused.append(f"no {key}; expected a number, which llama.cpp needs")
        if self.family.arch is MODEL_ARCH.GEMMA3:
            for key in ("attn_logit_softcapping", "final_logit_softcapping", "use_bidirectional_attention"):
                if config.get(key):
                    refused.append(f"{key} {config[key]}; expected none")
        if self.family.attention_scale_by_width is not None:
            wide = self.layers == self.family.attention_scale_by_width
            expected = self.number("hidden_size") // self.heads if wide else self.head_width
            if config.get("query_pre_attn_scalar", expected) != expected:
                refused.append(f"query_pre_attn_scalar {config['query_pre_attn_scalar']}; expected {expected}")
        if refused:
            raise NotYet("\n".join(f"{self.folder / 'config.json'}: {fault}" for fault in refused))


def _slides(layer: int, period: int) -> bool:
    return period == 0 or (layer + 1) % period != 0
