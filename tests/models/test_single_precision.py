# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Scores are made in single precision, whatever the network computes in: bfloat16 has two or three digits."""

import pytest
import torch
from methods.conftest import LIGHTQNET, make_network

from diffiqa_hf import LightQNetConfig, LightQNetForFaceQuality
from diffiqa_hf.models.modeling_face import in_float32
from diffiqa_hf.training.recipes import QualityBranch, identification_quality_loss


NETWORKS = ("cr-fiqa", "ediffiqa", "sdd-fiqa", "lightqnet", "pfe", "pcnet", "faceqnet", "faceqgen", "clib-fiqa")


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    return torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_scores_under_autocast_and_of_half_precision_weights_have_all_their_digits(faces, name):
    model = make_network(name)
    found = []
    if name not in ("faceqgen", "clib-fiqa"):  # which have no head of their own
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found.append(model(faces).scores)
    found.append(model.to(torch.bfloat16)(faces).scores)
    for scores in found:
        assert scores.dtype == torch.float32 and scores.isfinite().all()
        # In bfloat16 all would be among the numbers of eight binary digits.
        assert not torch.equal(scores, scores.bfloat16().float())
    assert model.to(torch.float64)(faces.double()).scores.dtype == torch.float64


@pytest.mark.parametrize("part", ["model", "branch"])
def test_a_sure_score_still_learns_that_it_is_wrong(part):
    """LightQNet at a logit of 6.5, whose sigmoid is .9985, for a pair that does not match."""
    torch.manual_seed(0)
    if part == "model":
        model = LightQNetForFaceQuality(LightQNetConfig(**LIGHTQNET)).eval()
        last, given = model.score, torch.zeros(2, 3, 32, 32)
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.constant_(last.bias, 6.5)
    else:
        model = QualityBranch(4, 8).eval()
        last, given = model.layers[-1], torch.ones(2, 4)
        model.layers[-1].running_mean.fill_(-6.5)
        torch.nn.init.zeros_(model.layers[-2].weight)
        last = model.layers[-2]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(given)
        scores = output.scores if part == "model" else output
        opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        loss = identification_quality_loss(scores, opposite, torch.tensor([0, 0]))
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, torch.full((2,), 6.5).sigmoid(), rtol=1e-3, atol=0)
    loss.backward()
    # The derivative of -log(1 - sigmoid(x)) is sigmoid(x).
    if part == "model":
        assert last.bias.grad.abs().max().item() == pytest.approx(0.9985, abs=2e-3)
    else:
        assert last.weight.grad.abs().max() > 0


def test_a_layer_in_single_precision():
    torch.manual_seed(0)
    layer, given = torch.nn.Linear(16, 3), torch.randn(5, 16)
    expected = layer(given)
    torch.testing.assert_close(in_float32(layer, given), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(given).dtype == torch.bfloat16
        torch.testing.assert_close(in_float32(layer, given), expected)
    assert in_float32(layer.double(), given).dtype == torch.float64
    half = layer.to(torch.bfloat16)
    found = in_float32(half, given.bfloat16())
    rounded = torch.nn.functional.linear(given.bfloat16().float(), half.weight.float(), half.bias.float())
    torch.testing.assert_close(found, rounded)
    found.sum().backward()
    assert half.weight.grad.dtype == torch.bfloat16
