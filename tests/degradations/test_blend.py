# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import pytest
import torch

from diffiqa_hf.degradations import blend, blend_weight


@pytest.mark.parametrize(
    ("max_timesteps", "step", "weight"),
    [
        (100, 0, 0.0),
        (100, 5, 0.0785),
        (100, 20, 0.309),
        (100, 50, 0.7071),
        (100, 99, 0.99988),
        (100, 100, 1.0),
        (1000, 5, 0.0079),
        (1000, 20, 0.0314),
        (1000, 99, 0.155),
    ],
)
def test_published_weights(max_timesteps, step, weight):
    assert blend_weight(torch.tensor(step), max_timesteps).item() == pytest.approx(
        weight, abs=5e-5 if weight > 0.9 else 5e-4
    )


def test_blend_weighs_each_image_by_its_own_step():
    clean, degraded = torch.full((3, 3, 4, 4), -0.5), torch.full((3, 3, 4, 4), 0.5)
    result = blend(clean, degraded, torch.tensor([0, 50, 100]), 100)
    assert result.shape == (3, 3, 4, 4)
    # The weight at 50 of 100 is sin(pi / 4).
    expected = torch.tensor([-0.5, 0.5**0.5 - 0.5, 0.5])
    torch.testing.assert_close(result, expected[:, None, None, None].expand_as(result))


def test_one_step_for_all():
    clean, degraded = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4)
    torch.testing.assert_close(
        blend(clean, degraded, torch.tensor(20), 100), blend(clean, degraded, torch.tensor([20, 20]), 100)
    )


def test_gradients_are_the_weights():
    clean = torch.zeros(2, 3, 2, 2, requires_grad=True)
    degraded = torch.ones(2, 3, 2, 2, requires_grad=True)
    timesteps = torch.tensor([10, 70])
    blend(clean, degraded, timesteps, 100).sum().backward()
    weight = blend_weight(timesteps, 100)[:, None, None, None]
    torch.testing.assert_close(degraded.grad, weight.expand(2, 3, 2, 2))
    torch.testing.assert_close(clean.grad, 1 - weight.expand(2, 3, 2, 2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_dtype_of_the_faces_stays(dtype):
    faces = torch.rand(2, 3, 4, 4, dtype=dtype)
    assert blend(faces, 1 - faces, torch.tensor([3, 4]), 100).dtype == dtype


def test_bad_arguments_are_refused():
    faces = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match="differ in shape"):
        blend(faces, faces[:1], torch.tensor([1, 2]), 100)
    with pytest.raises(ValueError, match="positive"):
        blend(faces, faces, torch.tensor([1, 2]), 0)
