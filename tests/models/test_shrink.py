import pytest
import torch

from limbeck.errors import InvalidRecipe
from limbeck.models.shrink import choose_layers, keep_layers


def test_layers_are_spread_evenly_with_the_first_and_the_last():
    assert choose_layers(6, 30) == (0, 6, 12, 17, 23, 29)
    assert choose_layers(2, 30) == (0, 29)
    assert choose_layers(30, 30) == tuple(range(30))
    assert choose_layers(1, 30) == (0,)


def test_a_list_is_taken_as_it_is():
    assert choose_layers([0, 1, 10, 29], 30) == (0, 1, 10, 29)


@pytest.mark.parametrize("wish", [0, 31, [], [3, 1], [1, 1], [0, 30]])
def test_what_cannot_be_kept_is_refused_with_what_can(wish):
    with pytest.raises(InvalidRecipe, match=r"student\.shrink\.layers: found .*; .*(30|29)"):
        choose_layers(wish, 30)


def test_a_student_with_all_layers_is_its_teacher(tiny):
    student = keep_layers(tiny.model, (0, 1, 2, 3))
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        assert torch.equal(student(ids).logits, tiny.model(ids).logits)


def test_kept_layers_keep_their_weights_and_are_copies(tiny):
    student = keep_layers(tiny.model, (0, 2))
    assert student.config.num_hidden_layers == 2
    kept, original = student.model.layers[1].mlp.up_proj.weight, tiny.model.model.layers[2].mlp.up_proj.weight
    assert torch.equal(kept, original)
    with torch.no_grad():
        kept.add_(1.0)
    assert not torch.equal(kept, original)
    assert tiny.model.config.num_hidden_layers == 4
