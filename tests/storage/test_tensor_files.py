"""What befalls a safetensors file is told with its path, as what it is."""

import errno
import resource

import pytest
import torch

from limbeck.errors import DamagedArtifact
from limbeck.models.loading import load_weights, save_weights

WEIGHTS = {"a": torch.arange(100_000.0)}


@pytest.fixture
def little_room():
    """No file may grow beyond 64 KB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_the_system_refuses_is_its_own_error(tmp_path, little_room):
    with pytest.raises(OSError, match=r"weights\.safetensors") as refused:
        save_weights(WEIGHTS, tmp_path / "weights.safetensors")
    assert refused.value.errno == errno.EFBIG


def test_a_file_that_is_not_whole_is_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamagedArtifact, match=r"weights\.safetensors: not whole"):
        load_weights(path)
