"""A model's weights are counted by its files as torch counts them in memory."""

from limbeck.models.catalog import ModelSource
from limbeck.models.gguf_file import write_gguf
from limbeck.models.shrink import keep_layers
from limbeck.models.sizes import parameters


def test_a_folder_a_gguf_file_and_a_cut_are_counted_as_they_would_be_loaded(tiny, tiny_folder, tmp_path):
    whole = sum(weight.numel() for weight in tiny.model.parameters())
    two = sum(weight.numel() for weight in keep_layers(tiny.model, (0, 3)).parameters())
    assert parameters(tiny.source) == whole
    assert parameters(tiny.source, 2) == two
    gguf = tmp_path / "model.gguf"
    write_gguf(tiny_folder, gguf, "f16")
    assert parameters(ModelSource("a", gguf, None)) == whole
    assert parameters(ModelSource("a", tmp_path / "made later.gguf", None, cut_from=(gguf, (0, 3)))) == two
