"""Models are found by whatever they may be called, and no name is worse than unknown."""

import pytest

from limbeck.errors import UnknownModel
from limbeck.models.catalog import find, remove


@pytest.mark.parametrize("name", ["nobody", "a" * 300, "a" * 5000, "~nouser/x", "a\0b", "", "../" * 2000])
def test_what_no_model_can_be_called_is_unknown(settings, name):
    with pytest.raises(UnknownModel):
        find(name, settings)
    with pytest.raises(UnknownModel):
        remove(name, settings)


def test_a_folder_is_found_by_its_path_and_another_folder_is_none(tiny_folder, tmp_path, settings):
    assert find(str(tiny_folder), settings).path == tiny_folder.resolve()
    (tmp_path / "plain").mkdir()
    with pytest.raises(UnknownModel, match="a folder without config"):
        find(str(tmp_path / "plain"), settings)
