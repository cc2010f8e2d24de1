"""Our divergences and TRL's (the extra `bench`), where TRL's are right; docs/objectives.md lists where they are not."""

import os
import warnings

import pytest
import torch

from limbeck.training import objectives

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    GKD = pytest.importorskip("trl.experimental.gkd.gkd_trainer", reason="TRL is in the extra `bench`").GKDTrainer


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_gkds_loss_is_ours_at_temperature_1(beta):
    generator = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(2, 7, 40, generator=generator, dtype=torch.float64) * 3
    student.requires_grad_()
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    ours = {
        0.0: lambda: objectives.forward_kl(p, q),
        1.0: lambda: objectives.reverse_kl(p, q),
    }.get(beta, lambda: objectives.jensen_shannon(p, q, beta))().mean()
    labels = torch.zeros(1, 7, dtype=torch.long)
    theirs = GKD.generalized_jsd_loss(student[None], teacher[None], labels, beta=beta)
    assert theirs.item() == pytest.approx(ours.item(), rel=1e-10)
    found, expected = (torch.autograd.grad(x, student, retain_graph=True)[0] for x in (ours, theirs))
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)
