"""llama.cpp's own server as an OpenAI-compatible teacher, for real: its distributions against those of the weights here."""

import asyncio
import contextlib
import threading

import numpy as np
import pytest
import torch

from limbeck.inference.process import Process
from limbeck.models.catalog import find
from limbeck.models.loading import load
from limbeck.recipe import Teacher
from limbeck.records import GenerationSettings, Message, Prompt, Question
from limbeck.settings import Settings
from limbeck.teachers.finding import remote_teacher
from limbeck.teachers.local import LocalTeacher

pytestmark = [pytest.mark.real, pytest.mark.slow]

MODEL = "huggingface.smollm2-135m-instruct-v1:0"
STUDENT = "huggingface.smollm2-135m-6-layers-v1:0"
ASKED = ("What is the capital of France?", "Name three colors.", "Why is the sky blue?", "What is 2 plus 2?",
         "Write one sentence about the sea.", "Translate to Spanish: good morning.")  # fmt: skip
QUESTIONS = [Question(Prompt((Message("user", text),))) for text in ASKED]
SETTINGS = GenerationSettings(24, top_k_captured=16)


@contextlib.contextmanager
def llama_server(gguf):
    """The server on a port of its own, with its key; its process is looked after by a loop in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def call(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(120)

    told = {"gguf": str(gguf), "slots": 4, "context_tokens": 512, "threads": 1, "prompt_cache_bytes": 0}
    process = call(Process.start("limbeck.inference.llama_process", "llama.cpp", told, None))
    yield process
    call(process.close())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def losses(answers, student):
    """The student's forward KL at every response position, on the candidates and one tail, from the formula alone."""
    found = []
    for question, answer in zip(QUESTIONS, answers, strict=True):
        prompt, soft = student.renderer.prompt(question.prompt), answer.soft_labels
        with torch.inference_mode():
            logits_1LV = student.model(torch.tensor([[*prompt, *answer.token_ids]])).logits
        student_RV = logits_1LV[0, len(prompt) - 1 : -1].double().log_softmax(-1).numpy()
        q_RK = np.take_along_axis(student_RV, soft.top_ids_TK.astype(np.int64), 1)
        p_RK, tail_R = soft.top_logprobs_TK.astype(float), soft.tail_logprob_T.astype(float)
        q_tail_R = np.log1p(-np.exp(q_RK).sum(1))
        has_tail_R = np.isfinite(tail_R)
        rest_R = np.where(has_tail_R, np.exp(tail_R) * (np.where(has_tail_R, tail_R, 0.0) - q_tail_R), 0.0)
        found.append((np.exp(p_RK) * (p_RK - q_RK)).sum(1) + rest_R)
    return np.concatenate(found)


def test_what_is_learned_from_its_log_probabilities_is_what_the_weights_say(tmp_path, monkeypatch):
    """The file's weights have five bits, and its server multiplies them with eight-bit activations; read here, the same
    weights are multiplied in fp32. On the same tokens the two differ by the activations' rounding, and no more."""
    settings = Settings(tmp_path / "home", threads=1)
    gguf = find(MODEL, settings).path
    with llama_server(gguf) as process:
        monkeypatch.setenv("LLAMA_KEY", process.key)
        recipe = Teacher(
            model=gguf.name,
            endpoint=f"http://127.0.0.1:{process.port}/v1",
            key="LLAMA_KEY",
            tokenizer=MODEL,
            concurrency=4,
        )
        teacher = remote_teacher(recipe, None, settings)
        far = dict(pair for group in teacher.answers(QUESTIONS, SETTINGS) for pair in group)
    far = [far[index] for index in range(len(QUESTIONS))]
    assert all(answer.soft_labels.k == 16 for answer in far)

    local = LocalTeacher(load(MODEL, settings))
    prompts = [local.renderer.prompt(question.prompt) for question in QUESTIONS]
    assert [answer.prompt_tokens for answer in far] == [len(prompt) for prompt in prompts]
    here = local.engine.read(prompts, [answer.token_ids for answer in far], 16)
    likeliest = [
        (a.soft_labels.top_ids_TK[:, 0] == b.soft_labels.top_ids_TK[:, 0]) for a, b in zip(far, here, strict=True)
    ]
    assert np.concatenate(likeliest).mean() > 0.9
    apart = [
        a.soft_labels.top_logprobs_TK[:, 0] - b.soft_labels.top_logprobs_TK[:, 0]
        for a, b in zip(far, here, strict=True)
    ]
    student = load(STUDENT, settings)
    one, other = losses(far, student), losses(here, student)
    print(f"{len(one)} tokens: log-probabilities apart by {np.abs(np.concatenate(apart)).mean():.4f} in the mean;"
          f" forward KL {one.mean():.4f} from the server, {other.mean():.4f} from the weights")  # fmt: skip
    assert np.abs(np.concatenate(apart)).mean() < 0.1
    assert one.mean() == pytest.approx(other.mean(), rel=0.03)
    assert np.corrcoef(one, other)[0, 1] > 0.98
