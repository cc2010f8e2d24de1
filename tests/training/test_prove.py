"""The prover holds, and its page is whole. All of it runs by `make prove`."""

import itertools
import re

import pytest
import torch
from tests.training import prove

from limbeck.training import objectives

SOME = [case for case in prove.CASES if case.name in {"reverse_kl, top 6", "forward_kl, whole", "a sum of five"}]


@pytest.mark.parametrize("case", SOME, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", prove.LIMITS, ids=str)
def test_no_cut_of_a_batch_changes_loss_or_gradient(case, dtype):
    errors = prove.prove(case, dtype)
    assert set(errors) == set(prove.COLUMNS)
    assert max(errors.values()) <= prove.LIMITS[dtype], errors


def test_an_objective_that_is_wrong_is_found(monkeypatch):
    """Half of the reverse divergence, or a mean over each pack's own tokens, is not let through."""
    case = next(case for case in prove.CASES if case.name == "reverse_kl, top 6")
    whole = prove.step.accumulate

    def by_its_own_tokens(*args, of_tokens, **named):
        return whole(*args, **named)

    monkeypatch.setattr(prove, "accumulate", by_its_own_tokens)
    errors = prove.prove(case, torch.float64)
    assert errors["accumulation"] > 0.01 > 1e-10 > errors["shared"]
    real = objectives.reverse_kl
    monkeypatch.setattr(objectives, "reverse_kl", lambda p, q: real(p, q) / 2)
    assert prove.formula(case, torch.float64)[0] == pytest.approx(0.5)


@pytest.mark.slow
def test_two_processes_find_what_one_does():
    found = prove.two_processes()
    for case in prove.CASES:
        for (dtype, limit), column in itertools.product(prove.LIMITS.items(), prove.TOGETHER):
            both = tuple(found[f"{case.name}/{dtype}/{column}/{what}"] for what in ("loss", "gradient"))
            assert prove.worst(both, prove.plainly(case, padded=False)) <= limit


def test_the_page_has_every_cell_and_none_above_its_limit():
    text = prove.PAGE.read_text(encoding="utf-8")
    for name, limit in (("float32", 1e-5), ("float64", 1e-10)):
        part = re.search(rf"In {name};.*?\n\n(\|.*?)\n\n", text, re.S)[1].splitlines()
        assert part[0].strip("| ").split(" | ") == ["objective", *prove.COLUMNS, *prove.TOGETHER]
        rows = {cells[0]: cells[1:] for cells in (line.strip("| ").split(" | ") for line in part[2:])}
        assert list(rows) == [case.name for case in prove.CASES]
        assert all(float(cell) <= limit for row in rows.values() for cell in row)
