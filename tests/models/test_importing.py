"""A model from elsewhere: every fault told at once with its file, and adopted whole or not at all."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from limbeck.errors import Conflict, DamagedArtifact, InvalidInput
from limbeck.models import importing
from limbeck.models.catalog import find
from limbeck.models.gguf_cache import gguf_of
from limbeck.models.gguf_file import write_gguf
from limbeck.models.importing import adopt, inspect
from limbeck.models.loading import load
from limbeck.models.template import MORE_TEMPLATES
from limbeck.models.tokenizer import Tokenizer
from limbeck.models.weights import INDEX


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "source")


@pytest.fixture(scope="module")
def gguf(tiny_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(tiny_folder, path, "f32")
    return path


def faults(source):
    with pytest.raises(InvalidInput) as refused:
        inspect(source)
    return str(refused.value).splitlines()


def test_a_whole_folder_is_told_by_its_facts(folder):
    found = inspect(folder)
    assert (found.architecture, found.context_tokens, found.has_chat_template, found.notes) == (
        "LlamaForCausalLM",
        512,
        True,
        (),
    )
    weights = load_file(folder / "model.safetensors")
    assert found.parameters == sum(weight.numel() for weight in weights.values())


def test_looking_a_model_over_needs_neither_torch_nor_transformers(folder, gguf):
    probe = (
        "import sys; from pathlib import Path; from limbeck.models.importing import inspect\n"
        "for path in sys.argv[1:]: print(inspect(Path(path)).parameters)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe, folder, gguf], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(set(done.stdout.split())) == 1


@pytest.mark.row(53)
def test_all_faults_are_told_at_once_with_their_files(folder):
    (folder / "config.json").write_text(json.dumps({"architectures": ["BertModel"], "quantization_config": {}}))
    (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{not json")
    (folder / "tokenizer.json").unlink()
    told = faults(folder)
    assert len(told) == 4
    assert "config.json: architecture BertModel; expected a causal language model" in told[0]
    assert "config.json: quantization_config; expected weights that are not quantized" in told[1]
    assert "model.safetensors" in told[2] and "no tokenizer; expected one of" in told[3]


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("config.json", "{", "config.json: not JSON"),
        ("config.json", "[]", "config.json: found no keys"),
        ("config.json", "{}", "config.json: architecture none"),
        ("config.json", None, "config.json: missing"),
        ("tokenizer.json", "{", "tokenizer.json: not JSON"),
        ("model.safetensors", None, "no *.safetensors; expected the weights"),
        (INDEX, '{"weight_map": {"a": "model.safetensors", "b": "model.safetensors"}}', "names a and 1 more"),
        (INDEX, '{"weight_map": {"a": "lost.safetensors"}}', "lost.safetensors: missing"),
        (INDEX, "{}", "no weight_map"),
    ],
)
def test_a_fault_names_its_file(folder, file, content, told):
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    assert any(told in line for line in faults(folder))


def test_pickled_weights_are_refused_with_the_way_out(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (told,) = faults(folder)
    assert "only pickled weights (pytorch_model.bin)" in told and "save_pretrained" in told


def test_a_missing_chat_template_is_a_note(folder):
    (folder / "chat_template.jinja").unlink()
    found = inspect(folder)
    assert not found.has_chat_template and "no chat template" in found.notes[0]


def test_a_tokenizer_that_hosting_cannot_read_is_a_note_with_the_way_out(folder, settings):
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("\n".join(" ".join(pair) for pair in model["merges"]))
    (folder / "tokenizer.json").unlink()
    (note,) = inspect(folder).notes
    assert "no tokenizer.json; it can be trained, not hosted" in note and "save_pretrained(folder)" in note
    for read in (Tokenizer.open, lambda path: gguf_of(find(str(path), settings), settings)):
        with pytest.raises(DamagedArtifact, match=r"no tokenizer\.json; expected one .*save_pretrained\(folder\)"):
            read(folder)


@pytest.mark.parametrize("source", ["nowhere", "weights.bin"])
def test_neither_folder_nor_gguf_is_refused(tmp_path, source):
    (tmp_path / "weights.bin").write_bytes(b"")
    assert "expected a folder in Hugging Face layout or a .gguf file" in faults(tmp_path / source)[0]


def test_an_adopted_folder_loads_and_leaves_pickles_and_code_behind(folder, tmp_path, settings):
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "modeling_tiny.py").write_text("raise SystemExit")
    (folder / "model-f16.gguf").write_bytes(b"stale")
    found = adopt(folder, tmp_path / "models" / "adopted")
    assert found.path == tmp_path / "models" / "adopted"
    names = {path.name for path in found.path.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= names
    assert not {"pytorch_model.bin", "modeling_tiny.py", "model-f16.gguf"} & names
    assert load(str(found.path), settings).fingerprint == load(str(folder), settings).fingerprint


def test_a_template_for_tools_comes_along_and_makes_it_another_model(folder, tmp_path, settings):
    bare = load(str(folder), settings).fingerprint
    (folder / MORE_TEMPLATES).mkdir()
    (folder / MORE_TEMPLATES / "tool_use.jinja").write_text("{{ tools }}")
    found = adopt(folder, tmp_path / "adopted")
    assert set(Tokenizer.open(found.path).chat_template) == {"default", "tool_use"}
    assert load(str(found.path), settings).fingerprint != bare


def test_an_adopted_gguf_file_loads_and_serves_as_it_is(gguf, tiny_folder, tmp_path, settings):
    found = adopt(gguf, tmp_path / "models" / "adopted")
    assert (found.architecture, found.context_tokens, found.has_chat_template) == ("llama", 512, True)
    loaded, original = load(str(found.path), settings), load(str(tiny_folder), settings)
    assert gguf_of(loaded.source, settings) == found.path
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert torch.allclose(loaded.model(ids).logits, original.model(ids).logits, atol=1e-4)


def test_two_gguf_files_of_one_name_are_two_models(gguf, tmp_path, tiny_folder, settings):
    from tests.conftest import make_model

    write_gguf(make_model(tmp_path / "other", seed=7), tmp_path / "tiny.gguf", "f32")
    first, second = load(str(gguf), settings), load(str(tmp_path / "tiny.gguf"), settings)
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize("keep", [0, 3, 1000, -100])
def test_a_gguf_file_that_is_cut_is_refused(gguf, tmp_path, keep):
    (tmp_path / "cut.gguf").write_bytes(gguf.read_bytes()[:keep])
    assert "cut.gguf: cannot be read as a GGUF file" in faults(tmp_path / "cut.gguf")[0]


def test_what_breaks_off_leaves_nothing_and_what_is_there_is_kept(folder, tmp_path, monkeypatch):
    place = tmp_path / "models" / "adopted"
    place.mkdir(parents=True)
    (place / "mine").write_text("kept")
    with pytest.raises(Conflict, match="there is something already"):
        adopt(folder, place)
    assert [path.name for path in place.iterdir()] == ["mine"]

    def full(source, target):
        raise OSError("no space left on device")

    monkeypatch.setattr(importing.shutil, "copyfile", full)
    with pytest.raises(OSError, match="no space"):
        adopt(folder, tmp_path / "models" / "other")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["adopted"]


def test_layers_that_the_configuration_names_and_the_files_lack_are_told(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 6}))
    assert faults(folder) == [f"{folder}: 6 layers by config.json, and no weights of layer 4; expected all"]
