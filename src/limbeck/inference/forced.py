"""A process of its own in which llama.cpp reads given answers: which token it would have said at each place, and how
likely it found the one that stands there.

    python -m limbeck.inference.forced < question.json > answer.json

llama.cpp keeps threads that end only with their process, and a file it cannot read may end the process at once, so
nobody should run it in their own; `parity` starts this one. In: ``gguf``, ``threads`` and ``readings``, a list of
``prompt`` and ``response`` as token ids. Out: for each reading ``said``, the likeliest token at each place of the
response, and ``logprobs``, those of the response's own tokens.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import xllamacpp

__all__ = ["main"]

EVERY = 10_000_000
"""More tokens than any vocabulary has."""
FORCING = 1e4
"""Added to the logit of the token that is to be chosen. The log-probabilities told are from before it."""


def main() -> None:
    """Read the question from standard input, write the answer to standard output."""
    asked = json.load(sys.stdin)
    readings = asked["readings"]
    longest = max(len(reading["prompt"]) + len(reading["response"]) for reading in readings)
    server = xllamacpp.Server(_parameters(asked["gguf"], asked["threads"], longest))
    json.dump([_read(server, reading["prompt"], reading["response"]) for reading in readings], sys.stdout)


def _parameters(gguf: str, threads: int, tokens: int) -> xllamacpp.CommonParams:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = gguf
    parameters.n_ctx = max(256, tokens + 8)
    parameters.n_parallel = 1
    parameters.n_gpu_layers = 0
    parameters.fit_params = False
    parameters.warmup = False
    # What is read before stays, in full precision and for windowed layers too: the file is measured, not the cache.
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.swa_full = True
    for pool in (parameters.cpuparams, parameters.cpuparams_batch):
        pool.n_threads = threads
    return parameters


def _read(server: xllamacpp.Server, prompt: Sequence[int], response: Sequence[int]) -> dict[str, Any]:
    said, logprobs = [], []
    for place, token in enumerate(response):
        before = [*prompt, *response[:place]]
        told = _choose(server, before, token, 1) or _choose(server, before, _whole_token(server, before), EVERY)
        assert told is not None, "a whole token has its log-probability told"
        likeliest = told["top_logprobs"]
        said.append(likeliest[0]["id"])
        logprobs.append(next(row["logprob"] for row in (told, *likeliest) if row["id"] == token))
    return {"said": said, "logprobs": logprobs}


def _choose(server: xllamacpp.Server, before: Sequence[int], token: int, top: int) -> dict[str, Any] | None:
    """What is told when ``token`` is chosen after ``before``; None for a token that is part of a character."""
    made = server.handle_completions(
        {
            "prompt": before,
            "n_predict": 1,
            "temperature": 0.0,
            "n_probs": top,
            "logit_bias": [[token, FORCING]],
            "cache_prompt": True,
        }
    )
    if "choices" not in made:
        raise SystemExit(f"llama.cpp: {made}")
    told = made["choices"][0]["logprobs"]
    return told["content"][0] if told else None


def _whole_token(server: xllamacpp.Server, before: Sequence[int]) -> int:
    """Some token that is a whole character or none. Chosen in place of a part, it has the part told among the rest."""
    return next(token for token in range(EVERY) if _choose(server, before, token, 1))


if __name__ == "__main__":
    main()
