"""The tokenizer of the front desk against transformers' own, token for token."""

import json
import shutil
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from tests.conftest import make_tokenizer
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from limbeck.errors import DamagedArtifact, InvalidInput
from limbeck.models.catalog import catalog, find
from limbeck.models.chat import Renderer
from limbeck.models.header import context_tokens, read_gguf
from limbeck.models.tokenizer import Tokenizer
from limbeck.records import Message, Prompt
from limbeck.settings import Settings

EMBEDDED = "huggingface.smollm2-135m-instruct-v1:0"
CONTROLS = ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<repo_name>", "\ue000", "\ue0000\ue001", "<|im_"]
words = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("  1٣a"), max_size=12)
texts = st.lists(st.one_of(words, st.sampled_from(CONTROLS)), max_size=5).map("".join)


@pytest.fixture(scope="module", params=["tiny", "embedded"])
def pair(request, tmp_path_factory):
    """Ours and theirs, of the same files."""
    folder = tmp_path_factory.mktemp("tokenizer")
    if request.param == "tiny":
        make_tokenizer().save_pretrained(folder)
        return Tokenizer.open(folder), AutoTokenizer.from_pretrained(folder)
    path = find(EMBEDDED, Settings(folder, 1)).path
    if not path.exists():
        pytest.skip("the embedded model is not installed")
    theirs = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    # The file says "smollm", which cuts numbers into digits first; transformers does not read that.
    digits = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    theirs.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(digits)
    theirs.save_pretrained(folder)
    return Tokenizer.open(path), AutoTokenizer.from_pretrained(folder)


def test_every_text_has_the_tokens_transformers_gives_it(pair):
    ours, theirs = pair

    @given(texts, st.booleans(), st.booleans())
    @examples(max_examples=150, deadline=None)
    def check(text, split, add):
        options = {"split_special_tokens": split, "add_special_tokens": add}
        tokens = ours.encode(text, **options)
        assert tokens == theirs.encode(text, **options)
        for skip in (True, False):
            assert ours.decode(tokens, skip_special_tokens=skip) == theirs.decode(tokens, skip_special_tokens=skip)

    check()


def test_a_text_is_encoded_by_the_call_that_lets_other_threads_run(tiny_folder):
    opened = Tokenizer.open(tiny_folder)
    backend = Mock(wraps=opened.backend_tokenizer)
    watched = Tokenizer(backend, {}, None, "watched")
    assert watched.encode("a leak", add_special_tokens=False) == opened.encode("a leak", add_special_tokens=False)
    assert not backend.encode.called, "it keeps the interpreter to itself until the last token is found"


def test_texts_are_encoded_beside_each_other(tiny_folder):
    opened = Tokenizer.open(tiny_folder)
    both = threading.Barrier(2, timeout=20)

    def once_both_are_here(*given, **more):
        both.wait()
        return opened.backend_tokenizer.encode_batch_fast(*given, **more)

    backend = Mock(wraps=opened.backend_tokenizer)
    backend.encode_batch_fast.side_effect = once_both_are_here
    watched = Tokenizer(backend, {}, None, "watched")
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(watched.encode, ["a leak", "a noise"])) == list(
            map(opened.encode, ["a leak", "a noise"])
        )


def test_every_conversation_has_the_tokens_training_gives_it(pair):
    ours, theirs = map(Renderer, pair)
    assert (ours.end_id, ours.stop_ids) == (theirs.end_id, theirs.stop_ids)

    @given(st.lists(texts, min_size=1, max_size=4), st.booleans())
    @examples(max_examples=100, deadline=None)
    def check(said, system):
        turns = [Message("user" if place % 2 == 0 else "assistant", text) for place, text in enumerate(said)]
        prompt = Prompt(tuple([Message("system", said[0])] * system + turns))
        assert ours.prompt(prompt) == theirs.prompt(prompt)
        assert ours.response(said[-1]) == theirs.response(said[-1])

    check()


def test_no_text_in_a_conversation_or_a_tool_becomes_a_control_token(pair):
    ours = pair[0]
    ours.chat_template = "{{ tools | tojson }}{% for m in messages %}{{ m.content | trim }}<|im_end|>{% endfor %}"
    renderer = Renderer(ours)
    special = {place for place, token in ours.added_tokens_decoder.items() if token.special}
    for attack in CONTROLS:
        tools = [{"function": {"name": "f", "description": attack, "parameters": {attack: [attack]}}}]
        tokens = renderer.conversation([{"role": "user", "content": f" {attack} "}], tools)
        assert sum(token in special for token in tokens) == 1, attack
        assert ours.decode(tokens).count(attack) == 4 + (attack == "<|im_end|>") + (attack == "<|im_")


def test_templates_write_what_transformers_lets_them_write(pair):
    ours, theirs = pair
    turns = [{"role": "user", "content": "<é> & 'x'", "tool_calls": None}]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"é": ["<b>", 1.5, None]}}}]
    for template in (
        "{%- for m in messages %}\n  {{ m | tojson }}\n{% if loop.first %}{% continue %}{% endif %}x{% endfor %}",
        "{{ tools | tojson(indent=2) }}{% generation %}{{ bos_token }}{% endgeneration %}{{ eos_token }}",
        "{% set ns = namespace(n=0) %}{% for t in tools %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}{{ pad_token }}",
        "{{ messages[0].tool_calls is defined }}{{ documents is none }}{{ strftime_now('%Y') }}",
    ):
        ours.chat_template = theirs.chat_template = template
        for add in (True, False):
            said = [
                one.apply_chat_template(turns, tools=tools, tokenize=False, add_generation_prompt=add)
                for one in (ours, theirs)
            ]
            assert said[0] == said[1], template
    ours.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system prompts') }}{% endif %}"
    with pytest.raises(InvalidInput, match="its chat template refuses a prompt: no system prompts"):
        Renderer(ours).conversation([{"role": "system", "content": "obey"}])


def test_older_layouts_of_a_folder_are_read_as_transformers_reads_them(tmp_path):
    made = make_tokenizer()
    made.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    template = (tmp_path / "chat_template.jinja").read_text()
    (tmp_path / "chat_template.jinja").unlink()
    config["bos_token"] = {"__type": "AddedToken", "content": "<|im_start|>", "normalized": False}
    config["eos_token"] = "<|new|>"  # in no vocabulary yet
    config["chat_template"] = [
        {"name": "default", "template": template},
        {"name": "tool_use", "template": "{{ tools | length }}" + template},
    ]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours, theirs = Tokenizer.open(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert ours.all_special_tokens == theirs.all_special_tokens
    assert ours.eos_token_id == theirs.eos_token_id
    turns = [{"role": "user", "content": "hi <|new|>"}]
    for tools in (None, [{"type": "function"}]):
        options = {"tools": tools, "tokenize": False, "add_generation_prompt": True}
        text = ours.apply_chat_template(turns, **options)
        assert text == theirs.apply_chat_template(turns, **options)
        assert ours.encode(text) == theirs.encode(text)


def test_the_length_of_the_context_is_read_without_weights(tiny_folder, tmp_path):
    assert context_tokens(tiny_folder) == 512
    entry = catalog(Settings(tmp_path, 1))[EMBEDDED]
    path = find(EMBEDDED, Settings(tmp_path, 1)).path
    if path.exists():
        assert context_tokens(path) == entry.context_tokens


def test_files_that_are_not_what_they_should_be_are_told_with_their_place(tmp_path, tiny_folder):
    for name, content, said in (
        ("short.gguf", b"GGUF", "header cannot be read"),
        ("other.gguf", b"XXXX" + bytes(60), "no GGUF file"),
        ("wild.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 5) + b"\xff" * 40, "header cannot be read"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DamagedArtifact, match=rf"{name}: .*{said}"):
            read_gguf(tmp_path / name)
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
    with pytest.raises(DamagedArtifact, match="model: its tokenizer cannot be read"):
        Tokenizer.open(folder)
    pieces = [("tokenizer.ggml.model", b"llama")]
    body = b"".join(
        struct.pack("<Q", len(key)) + key.encode() + struct.pack("<IQ", 8, len(value)) + value for key, value in pieces
    )
    (tmp_path / "other-kind.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(pieces)) + body)
    with pytest.raises(InvalidInput, match="tokenizer is llama/default; expected gpt2"):
        Tokenizer.open(tmp_path / "other-kind.gguf")
