"""Settings are read once, and what cannot be used says so."""

import pytest

from limbeck.errors import InvalidInput
from limbeck.settings import Settings


def test_settings_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("LIMBECK_HOME", str(tmp_path))
    for variable in ("THREADS", "MEMORY", "SLOTS", "IDLE_SECONDS"):
        monkeypatch.setenv(f"LIMBECK_{variable}", "7")
    found = Settings.read()
    assert (found.home, found.threads, found.memory_bytes, found.slots, found.idle_seconds) == (tmp_path, 7, 7, 7, 7)


def test_without_an_environment_hosting_takes_half_of_the_memory(monkeypatch, tmp_path):
    for variable in ("THREADS", "MEMORY", "SLOTS", "IDLE_SECONDS"):
        monkeypatch.delenv(f"LIMBECK_{variable}", raising=False)
    found = Settings.read(tmp_path)
    assert found.memory_bytes > 1 << 28 and found.slots == 4 and found.threads >= 1


@pytest.mark.parametrize("variable", ["THREADS", "MEMORY", "SLOTS", "IDLE_SECONDS"])
@pytest.mark.parametrize("given", ["0", "-1", "2.5", "many", "8e9"])
def test_what_is_no_whole_number_is_refused(monkeypatch, variable, given):
    monkeypatch.setenv(f"LIMBECK_{variable}", given)
    with pytest.raises(InvalidInput, match=f'LIMBECK_{variable} is "{given}"; expected a whole number from 1'):
        Settings.read()


def test_a_device_is_named_as_torch_names_it(monkeypatch, tmp_path):
    assert Settings.read(tmp_path).device == "cpu"
    monkeypatch.setenv("LIMBECK_DEVICE", "cuda:1")
    assert Settings.read(tmp_path).device == "cuda:1"
    monkeypatch.setenv("LIMBECK_DEVICE", "cuda, the second")
    with pytest.raises(InvalidInput, match='LIMBECK_DEVICE is "cuda, the second"; expected cpu, cuda, cuda:1, mps'):
        Settings.read(tmp_path)
