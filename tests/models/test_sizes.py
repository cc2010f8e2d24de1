"""A model's weights are counted by its files as torch counts them in memory."""

from limbeck.models.catalog import ModelSource
from limbeck.models.gguf_file import write_gguf
from limbeck.models.shrink import keep_layers
from limbeck.models.sizes import parameters
from limbeck.models.students import begin
from limbeck.recipe import Shrink
from limbeck.records import Message, Prompt


def test_a_folder_a_gguf_file_and_a_cut_are_counted_as_they_would_be_loaded(tiny, tiny_folder, tmp_path):
    whole = sum(weight.numel() for weight in tiny.model.parameters())
    two = sum(weight.numel() for weight in keep_layers(tiny.model, (0, 3)).parameters())
    assert parameters(tiny.source) == whole
    assert parameters(tiny.source, Shrink(layers=2)) == parameters(tiny.source, Shrink(layers=(1, 3))) == two
    gguf = tmp_path / "model.gguf"
    write_gguf(tiny_folder, gguf, "f16")
    assert parameters(ModelSource("a", gguf, None)) == whole
    assert parameters(ModelSource("a", tmp_path / "made later.gguf", None, cut_from=(gguf, (0, 3)))) == two


def test_a_narrow_student_and_a_budget_are_reckoned_as_they_are_cut(tiny, tiny_folder, tmp_path):
    prompts = [Prompt((Message("user", "my kettle leaks"),))]
    gguf = tmp_path / "model.gguf"
    write_gguf(tiny_folder, gguf, "f16")
    for wish in (Shrink(layers=2, feed_forward=1 / 3, heads=3), Shrink(heads=3), Shrink(feed_forward=2 / 3)):
        made = begin(tiny, wish, "narrow", prompts).parameters
        assert parameters(tiny.source, wish) == parameters(ModelSource("a", gguf, None), wish) == made
    assert parameters(tiny.source, Shrink(parameters=0.5)) == round(0.5 * tiny.parameters)
    assert (
        parameters(tiny.source, Shrink(latency=0.5))
        == parameters(tiny.source, Shrink(vocabulary=300))
        == tiny.parameters
    )
