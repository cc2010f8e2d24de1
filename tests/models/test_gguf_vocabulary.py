"""Text becomes the same tokens in llama.cpp, by the file alone, as with the tokenizer the file was made from."""

import json
import shutil
import subprocess
import sys

import pytest
from tests.conftest import CHATML, TEXT
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from limbeck.errors import NotYet
from limbeck.models.gguf_file import write_gguf
from limbeck.models.gguf_vocabulary import CUTS, read_vocabulary

ROWS = 600
SAMPLES = [
    "my kettle leaks, 12 or 3456 times!",
    "  two  spaces  7\n\nand\tlines \r\n ",
    "don't DON'T we'll O'Neil",
    "naïve café über 日本語 नमस्ते 🙂🙂",
    "x=y+1;   #comment 1,000,000.5",
    "<|im_start|>user\nleak<|im_end|>\n",
    "",
    "waters leaking machinery spins washing kettles, covering noisy mothers; messages delivered flooring switched one",
]
TOKENIZE = """
import json, sys, urllib.request, xllamacpp
for path in sys.argv[1:]:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.n_ctx, parameters.warmup = 256, False
    server = xllamacpp.Server(parameters)
    found = []
    for text in json.loads(sys.stdin.readline()):
        body = json.dumps({"content": text, "add_special": True, "parse_special": True}).encode()
        request = urllib.request.Request(server.listening_address + "/tokenize", body, {"Content-Type": "application/json"})
        found.append(json.load(urllib.request.urlopen(request))["tokens"])
    print(json.dumps(found), flush=True)
    del server
"""
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TRAINING = [*TEXT * 3, *SAMPLES[:5] * 3]


def byte_level(steps, ignore_merges=False, whole=False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    steps = [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=whole)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=ROWS - 20, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TRAINING, trainer)
    return tokenizer


def over_characters(normalizer) -> Tokenizer:
    """As Llama 2 and Gemma have it: BPE over characters, what is unknown in bytes."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizer
    special = ["<unk>", *SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=ROWS - 20, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([text for text in TRAINING if text.isascii()], trainer)
    # The byte tokens are the vocabulary's own, no added ones, which the trainer has made of them.
    rows = json.loads(tokenizer.to_str())
    rows["added_tokens"] = [row for row in rows["added_tokens"] if not row["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(rows))


def regex(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


PATTERNS = {name: steps[0] for (steps, _), name in CUTS.items()}
LLAMA3, QWEN2 = PATTERNS["llama-bpe"], PATTERNS["qwen2"]
SPACES = normalizers.Replace(" ", "▁")
TOKENIZERS = {
    "gpt-2": lambda: byte_level([], whole=True),
    "smollm": lambda: byte_level([pre_tokenizers.Digits(individual_digits=True)], whole=True),
    "llama-bpe": lambda: byte_level([regex(LLAMA3)], ignore_merges=True),
    "smaug-bpe": lambda: byte_level([regex(LLAMA3)]),
    "qwen2": lambda: byte_level([regex(QWEN2)]),
    "default": lambda: over_characters(SPACES),
    "default, with a space before": lambda: over_characters(normalizers.Sequence([normalizers.Prepend("▁"), SPACES])),
}


def save(tokenizer, folder):
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|im_end|>")
    made.chat_template = CHATML
    made.save_pretrained(folder)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory, tiny_folder):
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("rows")
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    LlamaForCausalLM(LlamaConfig(vocab_size=ROWS, **sizes)).save_pretrained(folder)
    return folder


def test_llama_cpp_cuts_text_as_the_tokenizer_does(model_folder, tmp_path):
    paths = []
    for name, make in TOKENIZERS.items():
        folder = shutil.copytree(model_folder, tmp_path / name)
        save(make(), folder)
        paths.append(folder / "model.gguf")
        write_gguf(folder, paths[-1])
    asked = (json.dumps(SAMPLES) + "\n") * len(paths)
    command = [sys.executable, "-c", TOKENIZE, *map(str, paths)]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    for (name, make), line in zip(TOKENIZERS.items(), done.stdout.splitlines(), strict=True):
        tokenizer = make()
        for text, found in zip(SAMPLES, json.loads(line), strict=True):
            assert found == tokenizer.encode(text).ids, (name, text)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_way_text_is_cut_is_told_by_its_name(name, model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    save(TOKENIZERS[name](), folder)
    assert read_vocabulary(folder, ROWS).pre == name.split(",")[0]


def test_what_begins_every_text_is_told(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    tokenizer = TOKENIZERS["llama-bpe"]()
    save(tokenizer, folder)
    assert not read_vocabulary(folder, ROWS).add_bos
    begins = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(), begins])
    save(tokenizer, folder)
    vocabulary = read_vocabulary(folder, ROWS)
    assert (vocabulary.add_bos, vocabulary.add_eos) == (True, False)


def test_special_tokens_and_the_end_of_a_turn_are_told_and_padding_is_unused(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    tokenizer = TOKENIZERS["gpt-2"]()
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    save(tokenizer, folder)
    vocabulary = read_vocabulary(folder, ROWS)
    assert vocabulary.special == {"bos": 0, "eos": 2, "eot": 2}
    assert vocabulary.chat_template == CHATML
    at = tokenizer.token_to_id("<tool>")
    control, defined, unused = 3, 4, 5
    assert (vocabulary.types[2], vocabulary.types[at], vocabulary.types[-1]) == (control, defined, unused)
    assert len(vocabulary.tokens) == len(vocabulary.types) == len(set(vocabulary.tokens)) == ROWS
    assert len(read_vocabulary(folder, 300).tokens) == 300  # tokens without a row do not exist for the model


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([pre_tokenizers.Whitespace()], '"Whitespace", "ByteLevel"'),
        ([regex(r"\p{N}{1,2}|\w+")], '"Split", "ByteLevel"'),
        ([pre_tokenizers.Digits(individual_digits=False)], '"Digits", "ByteLevel"'),
    ],
)
def test_a_way_of_cutting_that_has_no_name_is_refused(model_folder, tmp_path, steps, found):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    save(byte_level(steps), folder)
    with pytest.raises(
        NotYet, match=rf"tokenizer\.json: a BPE tokenizer with the pre-tokenizers {found}.*expected one"
    ):
        read_vocabulary(folder, ROWS)


def test_another_kind_of_tokenizer_is_refused(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    save(Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0)), folder)
    with pytest.raises(NotYet, match="a Unigram tokenizer"):
        read_vocabulary(folder, ROWS)
