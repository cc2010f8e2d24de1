"""The GGUF file that serves a model: its own, or one made once for all processes."""

import json
import shutil
import subprocess
import sys

import pytest
from gguf import GGUFReader

from limbeck.models.catalog import ModelSource, find
from limbeck.models.gguf_cache import gguf_of, stamp
from limbeck.models.gguf_file import write_gguf

ASK = """
import sys
from pathlib import Path
from limbeck.models.catalog import find
from limbeck.models.gguf_cache import gguf_of
from limbeck.settings import Settings
print(gguf_of(find(sys.argv[1], settings := Settings(Path(sys.argv[2]), 1)), settings))
assert not {"torch", "transformers"} & set(sys.modules)
"""


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "source")


def test_a_model_with_a_file_of_its_own_is_served_from_it(folder, settings, tmp_path):
    write_gguf(folder, folder / "model-q8_0.gguf", "q8_0")
    assert gguf_of(find(str(folder), settings), settings) == folder / "model-q8_0.gguf"
    alone = folder / "model-q8_0.gguf"
    assert gguf_of(ModelSource("x", alone, None), settings) == alone
    assert not settings.cache.exists()


def test_another_is_converted_once_and_again_when_it_changes(folder, settings):
    source = find(str(folder), settings)
    made = gguf_of(source, settings)
    assert made.is_relative_to(settings.cache) and len(GGUFReader(made).tensors) > 4
    before = made.stat().st_mtime_ns
    assert gguf_of(source, settings) == made and made.stat().st_mtime_ns == before
    (folder / "generation_config.json").write_text("{}")
    assert gguf_of(source, settings) != made


def test_a_registered_model_is_known_by_its_fingerprint(folder, settings, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert stamp(folder) != stamp(moved)
    first, second = (ModelSource("m", path, None, fingerprint="f" * 64) for path in (folder, moved))
    assert gguf_of(first, settings) == gguf_of(second, settings)


def test_what_cannot_be_written_as_gguf_has_none(folder, settings):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["MambaForCausalLM"]}))
    assert gguf_of(find(str(folder), settings), settings) is None
    assert not list(settings.cache.rglob("*.gguf"))


def test_two_processes_at_once_get_one_whole_file_without_torch(folder, settings):
    command = [sys.executable, "-c", ASK, str(folder), str(settings.home)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [one.communicate(timeout=60) for one in both]
    assert [one.returncode for one in both] == [0, 0], told
    assert len({out for out, _ in told}) == 1
    (made,) = settings.cache.rglob("*.gguf")
    assert str(made) == told[0][0].strip() and len(GGUFReader(made).tensors) > 4
