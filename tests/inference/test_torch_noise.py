# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import torch

from diffiqa_hf.inference.torch_noise import TorchNoise


# Of 64 bits torch takes the lower half alone.
@pytest.mark.parametrize("seed", [0, 1, 4711, 2**32 - 1, 2**40 + 17, 2**62 + 123_456_789])
def test_the_numbers_are_torchs_draw_after_draw(seed):
    theirs, ours = torch.Generator().manual_seed(seed), TorchNoise(seed)
    # Sixteen at a time, with and without a rest.
    for shape in [(1, 3, 112, 112), (3, 50, 51), (16,), (17,), (31,), (3, 112, 112)]:
        expected = torch.randn(shape, generator=theirs).numpy()
        found = ours.normal(shape)
        assert found.dtype == np.float32 and found.shape == shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_normal_numbers():
    values = TorchNoise(3).normal((3, 224, 224))
    assert abs(values.mean()) < 0.02 and abs(values.std() - 1) < 0.02 and np.isfinite(values).all()


def test_few_numbers_are_refused():
    with pytest.raises(ValueError, match="15 numbers in another way; it takes 16"):
        TorchNoise(0).normal((3, 5))
