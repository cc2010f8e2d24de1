"""Answering in bulk: our engine against transformers.generate with the same batch, llama.cpp and CTranslate2 int8.

    make bench-answering                      # or: python benchmarks/answering.py --rows 64 --repeats 3 --threads 2

The same prompts of examples/service-desk for all, rendered with the same template, greedy, at most ``--tokens`` tokens
each; once with the short system prompt that they share, once with worked examples put before each, a prefix of some
hundreds of tokens. Contenders take turns in every repeat. Figures are generated tokens a second (a contender's own
tokens: where int8 leads to another answer, its length counts), ours with the teacher's top 32 captured and without.
Exit code 1 if ours is not at least twice transformers.generate on the long prefix.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from limbeck.inference.engine import Engine, common_prefix
from limbeck.models.catalog import find
from limbeck.models.loading import LoadedModel, folder_of, load
from limbeck.records import GenerationSettings, Message, Prompt, Question
from limbeck.serving.base import Done, Generate
from limbeck.serving.llama import LlamaReplica
from limbeck.settings import Settings

MODEL = "huggingface.smollm2-135m-instruct-v1:0"
DESK = Path(__file__).parent.parent / "examples" / "service-desk"
SYSTEM = "Name the intent of the customer's message."
LEAST = 2.0

Tokens = Sequence[Sequence[int]]
Contender = Callable[[Tokens], int]
"""Answers all prompts; gives how many tokens it generated."""


def prompts(loaded: LoadedModel, rows: int, shown: int) -> list[list[int]]:
    """The desk's messages as tokens, with ``shown`` worked examples before each."""
    pairs = [json.loads(line) for line in (DESK / "labelled.jsonl").read_text(encoding="utf-8").splitlines()[:shown]]
    golden = tuple((pair["prompt"], pair["completion"]) for pair in pairs)
    lines = (DESK / "prompts.jsonl").read_text(encoding="utf-8").splitlines()[:rows]
    asked = [Prompt((Message("system", SYSTEM), Message("user", json.loads(line)["prompt"]))) for line in lines]
    rendered = [loaded.renderer.prompt(Question(prompt, golden).conversation) for prompt in asked]
    return sorted((list(tokens) for tokens in rendered), key=len)


def limbeck(loaded: LoadedModel, most: int, captured: int) -> Contender:
    engine, settings = Engine(loaded), GenerationSettings(most, top_k_captured=captured)

    def answer(asked: Tokens) -> int:
        return sum(len(a.token_ids) for a in engine.generate(asked, settings, prefix=common_prefix(asked)))

    return answer


def transformers_generate(loaded: LoadedModel, most: int) -> Contender:
    loaded.model.generation_config.max_length = None

    def answer(asked: Tokens) -> int:
        longest = max(map(len, asked))
        ids = torch.tensor([[0] * (longest - len(tokens)) + list(tokens) for tokens in asked])
        mask = torch.tensor([[0] * (longest - len(tokens)) + [1] * len(tokens) for tokens in asked])
        with torch.inference_mode():
            made = loaded.model.generate(
                ids, attention_mask=mask, max_new_tokens=most, do_sample=False, pad_token_id=loaded.renderer.end_id
            )[:, longest:]
        ends = [
            row.index(loaded.renderer.end_id) + 1 if loaded.renderer.end_id in row else most for row in made.tolist()
        ]
        return sum(ends)

    return answer


def llama_cpp(replica: LlamaReplica, loop: asyncio.AbstractEventLoop, most: int) -> Contender:
    async def one(tokens: Sequence[int]) -> int:
        async for part in replica.generate(Generate(tuple(tokens), most)):
            if isinstance(part, Done):
                return part.response_tokens + (part.reason == "end")
        raise AssertionError("an answer without an end")

    async def every(asked: Tokens) -> int:
        return sum(await asyncio.gather(*map(one, asked)))

    return lambda asked: loop.run_until_complete(every(asked))


def ctranslate2_int8(loaded: LoadedModel, folder: Path, most: int, threads: int) -> Contender:
    import ctranslate2

    with tempfile.TemporaryDirectory() as made:
        converter = ctranslate2.converters.TransformersConverter(str(folder))
        converter.convert(made, quantization="int8", force=True)
        generator = ctranslate2.Generator(made, device="cpu", inter_threads=1, intra_threads=threads)
    names = loaded.renderer.tokenizer.convert_ids_to_tokens

    def answer(asked: Tokens) -> int:
        # Its shared prefix is a static prompt.
        shared = len(common_prefix(asked))
        found = generator.generate_batch(
            [names(list(tokens[shared:])) for tokens in asked],
            static_prompt=names(list(asked[0][:shared])),
            max_length=most,
            sampling_topk=1,
            include_prompt_in_result=False,
            end_token=[loaded.renderer.end_id],
            return_end_token=True,
        )
        return sum(len(result.sequences_ids[0]) for result in found)

    return answer


def main(rows: int, repeats: int, most: int, threads: int) -> bool:
    torch.set_num_threads(threads)
    settings = Settings.read()
    source = find(MODEL, settings)
    loaded = load(MODEL, settings)
    torch.set_num_threads(threads)
    loop = asyncio.new_event_loop()
    replica = loop.run_until_complete(
        LlamaReplica.start(
            source.path,
            what=MODEL,
            slots=16,
            context_tokens=1024,
            threads=threads,
            prompt_cache_bytes=0,
            stall_seconds=600,
        )
    )
    contenders = {
        "transformers.generate": transformers_generate(loaded, most),
        "Limbeck": limbeck(loaded, most, 0),
        "Limbeck, top 32 captured": limbeck(loaded, most, 32),
        "llama.cpp Q4_1, 16 slots": llama_cpp(replica, loop, most),
    }
    try:
        contenders["CTranslate2 int8"] = ctranslate2_int8(loaded, folder_of(source, settings), most, threads)
    except Exception as error:  # whichever it is, the others are measured
        print(f"CTranslate2 is left out: {type(error).__name__}: {error}", file=sys.stderr)
    print(f"{MODEL}, {rows} prompts at once, at most {most} tokens each, {threads} thread(s), medians of {repeats}")
    ratio = 0.0
    for shown in (0, 12):
        asked = prompts(loaded, rows, shown)
        speeds: dict[str, list[float]] = {name: [] for name in contenders}
        for repeat in range(repeats + 1):
            for name, contender in contenders.items():
                began = time.perf_counter()
                made = contender(asked)
                if repeat:  # the first pays for caches
                    speeds[name].append(made / (time.perf_counter() - began))
        own = statistics.mean(map(len, asked)) - len(common_prefix(asked))
        print(f"\na shared prefix of {len(common_prefix(asked))} tokens, {own:.0f} of each prompt's own")
        reference = statistics.median(speeds["transformers.generate"])
        for name, found in speeds.items():
            speed = statistics.median(found)
            print(f"  {name:26} {speed:8.1f} tokens/s  {speed / reference:5.2f}x")
        ratio = statistics.median(speeds["Limbeck"]) / reference
    loop.run_until_complete(replica.close())
    return ratio >= LEAST


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    sys.exit(not main(given.rows, given.repeats, given.tokens, given.threads))
