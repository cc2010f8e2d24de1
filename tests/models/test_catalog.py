"""The catalog of a home is read whole or refused; models are found by whatever they may be called."""

import pytest
from tests.homes import ENTRY

from limbeck.errors import DamagedArtifact, InvalidInput, UnknownModel
from limbeck.models.catalog import catalog, custom_models, find, remove, system_of
from limbeck.storage.workspace import write_json


@pytest.mark.parametrize("name", ["nobody", "a" * 300, "a" * 5000, "~nouser/x", "a\0b", "", "../" * 2000])
def test_what_no_model_can_be_called_is_unknown(settings, name):
    with pytest.raises(UnknownModel):
        find(name, settings)
    with pytest.raises(UnknownModel):
        remove(name, settings)
    assert system_of(name, settings) is None


def test_a_folder_is_found_by_its_path_and_another_folder_is_none(tiny_folder, tmp_path, settings):
    assert find(str(tiny_folder), settings).path == tiny_folder.resolve()
    (tmp_path / "plain").mkdir()
    with pytest.raises(UnknownModel, match="a folder without config"):
        find(str(tmp_path / "plain"), settings)


@pytest.mark.parametrize("model_id", ["test.one", "qwen2.5-0.5b-instruct", "test.one-v1:0:24k"])
def test_an_id_that_every_operation_takes_is_read(settings, model_id):
    settings.home.mkdir()
    (settings.home / "catalog.yaml").write_text(ENTRY.format(id=model_id, name="one", path="nowhere"))
    assert model_id in catalog(settings)


@pytest.mark.parametrize("model_id", ["one", "a.b", "a.b.c.d", "Test.one", "a.b.cc", "a" * 61 + ".one", "a.one:1:2:3"])
def test_another_id_is_refused_with_what_is_expected(settings, model_id):
    settings.home.mkdir()
    (settings.home / "catalog.yaml").write_text(ENTRY.format(id=model_id, name="one", path="nowhere"))
    with pytest.raises(InvalidInput, match=rf'catalog\.yaml: 0\.id: found "{model_id}"; expected PROVIDER\.NAME'):
        catalog(settings)


ROW = {"name": "a", "path": "p", "kind": "distillation", "base": "b", "fingerprint": "f", "lineage": {}}


@pytest.mark.parametrize(
    "row", [[], None, 7, {}, ROW | {"path": None}, ROW | {"lineage": None}, ROW | {"lineage": "x"}]
)
def test_a_registration_that_is_none_is_told_by_its_file(settings, row):
    write_json(settings.models / "a.json", row)
    for look in (find, remove):
        with pytest.raises(DamagedArtifact, match=r"/models/a\.json: no registration of a model; mend it, or move it"):
            look("a", settings)


def test_a_damaged_registration_leaves_the_others_known(settings, caplog):
    write_json(settings.models / "a.json", ROW)
    (settings.models / "b.json").write_text("{")
    write_json(settings.models / "c.json", {})
    assert list(custom_models(settings)) == ["a"]
    assert [place in caplog.text for place in ("/a.json", "/b.json", "/c.json")] == [False, True, True]
