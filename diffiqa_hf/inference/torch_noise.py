# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The normal numbers that torch's generator for CPUs draws for a seed, without torch: DifFIQA's noise is made of them,
and a score is not to depend on what runs the networks.
"""

from collections.abc import Sequence

import numpy as np


_BLOCK = 16  # torch makes so many at a time, of eight pairs


class TorchNoise:
    """
    What `torch.Generator().manual_seed(seed)` gives to `torch.randn` of float32, draw by draw. Torch takes the
    logarithm and the cosine in its own way: the numbers are the same to about 1e-6.

    The generator is the Mersenne Twister of 32 bits, begun with the lower half of the seed; a number in [0, 1) is made
    of the lower 24 bits of a draw, and eight pairs of a block of sixteen become normal by Box and Muller's transform
    (ATen/native/cpu/DistributionTemplates.h, the way of 16 numbers and more).
    """

    def __init__(self, seed: int):
        self._bits = np.random.RandomState(seed & 0xFFFFFFFF)

    def _uniform(self, count: int) -> np.ndarray:
        bits = self._bits.randint(0, 2**32, count, dtype=np.uint32)
        return (bits & np.uint32(2**24 - 1)).astype(np.float32) * np.float32(2.0**-24)

    def normal(self, shape: Sequence[int]) -> np.ndarray:
        """
        The next numbers, float32.

        Raises:
            ValueError: They are fewer than 16, which torch draws in another way.
        """
        count = int(np.prod(shape))
        if count < _BLOCK:
            raise ValueError(f"torch draws {count} numbers in another way; it takes {_BLOCK}")
        values = self._uniform(count)
        whole = count - count % _BLOCK
        normal = np.empty_like(values)
        normal[:whole] = _transformed(values[:whole])
        if whole != count:  # the last block is drawn anew, and overlaps the one before
            normal[-_BLOCK:] = _transformed(self._uniform(_BLOCK))
        return normal.reshape(shape)


def _transformed(values: np.ndarray) -> np.ndarray:
    pairs = values.reshape(-1, 2, _BLOCK // 2)
    radius = np.sqrt(-2 * np.log(1 - pairs[:, 0]))
    angle = np.float32(2 * np.pi) * pairs[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()


__all__ = ["TorchNoise"]
