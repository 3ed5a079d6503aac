# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What a degradation takes: a uint8 RGB array."""

from __future__ import annotations

import numpy as np


def check_image(image: np.ndarray) -> None:
    """Raises `ValueError` unless `image` is uint8 of shape (H, W, 3) with a pixel at least."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"A degradation takes a uint8 RGB array of shape (H, W, 3), not {found}.")
    if image.size == 0:
        raise ValueError(f"The image is empty: its shape is {image.shape}.")
