# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Degradations of named, fixed strength, for examples and tests in which the right order must be known."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .bsrgan import compress_jpeg
from .image_check import check_image


@dataclass(frozen=True)
class _Strength:
    sigma: float  # of the Gaussian blur, in pixels of a 112x112 face
    factor: float  # of the down-sampling of a 112x112 face
    noise: int  # standard deviation in grey levels, added at the low resolution
    quality: int  # of the JPEG, at the low resolution


_STRENGTHS = {
    "light": _Strength(sigma=0.7, factor=1.4, noise=3, quality=75),
    "medium": _Strength(sigma=1.3, factor=2.5, noise=7, quality=55),
    "heavy": _Strength(sigma=2.2, factor=4.0, noise=14, quality=40),
    "extreme": _Strength(sigma=4.0, factor=7.0, noise=25, quality=25),
}

STRENGTHS = tuple(_STRENGTHS)
"""Names for [`degrade_at`], the mildest first."""


def degrade_at(image: np.ndarray, strength: str, seed: int) -> np.ndarray:
    """Degrade an image by a named amount: blur, down-sampling, noise, JPEG, and back to its size.

    Each strength is worse than the one before it in all four. The parameters are for a 112x112 face and grow with the
    shorter side, so that a strength looks the same at any size. The filters are integer arithmetic and the noise comes
    from NumPy's frozen `RandomState`, so that a seed gives the same pixels on every machine with the same OpenCV.

    Args:
        image: (H, W, 3) RGB, uint8.
        strength: One of `STRENGTHS`: "light", "medium", "heavy", "extreme" (barely recognisable).
        seed: Seed of the noise, from 0 to 2**32 - 1.

    Returns:
        (H, W, 3) RGB, uint8.

    Raises:
        ValueError: If `image` is not uint8 of shape (H, W, 3), or `strength` is none of `STRENGTHS`.
    """
    check_image(image)
    if strength not in _STRENGTHS:
        raise ValueError(f"strength must be one of {', '.join(STRENGTHS)}, not {strength!r}.")
    chosen = _STRENGTHS[strength]
    height, width = image.shape[:2]
    face_scale = min(height, width) / 112
    factor = max(1.0, chosen.factor * face_scale)
    small = (max(1, round(width / factor)), max(1, round(height / factor)))

    # OpenCV's uint8 Gaussian and INTER_LINEAR_EXACT are bit-exact, its other interpolations are not.
    result = cv2.GaussianBlur(image, (0, 0), chosen.sigma * face_scale, borderType=cv2.BORDER_REFLECT_101)
    result = cv2.resize(result, small, interpolation=cv2.INTER_LINEAR_EXACT)
    noise = np.rint(np.random.RandomState(seed).standard_normal(result.shape) * chosen.noise).astype(np.int16)
    result = np.clip(result + noise, 0, 255).astype(np.uint8)
    result = compress_jpeg(result, chosen.quality)
    return cv2.resize(result, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
