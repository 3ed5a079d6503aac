# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
What can be measured of a face beside its quality, plainly and cheaply: why a score is low, for who takes photographs.

The measures do not make the score, and the score does not follow from them. They are our own, but for
`inter_eye_distance`, which is defined as ISO/IEC 29794-5 defines its measure of this name (the distance of the eye
centres times the secant of the yaw), with a yaw of ours. The standard measures exposure, sharpness and pose by other
means, so that its names are not used for them.
"""

import numpy as np

from ..alignment import arcface_template, estimate_pose, similarity_transform
from .reasons import MEASURES


def measure_face(
    pixels: np.ndarray, landmarks: np.ndarray | None, picture_size: tuple[int, int], faces: int | None
) -> dict[str, float | None]:
    """
    The measures of one face.

    Args:
        pixels (`np.ndarray` of shape (H, W, 3)): The aligned face, RGB, uint8.
        landmarks (`np.ndarray` of shape (5, 2), *optional*): Its points in the photograph, in pixels; `None` of an
            image that was taken as an aligned crop.
        picture_size: Width and height of the photograph.
        faces: How many were found in it, if they were looked for.

    Returns:
        By the names in [`~diffiqa_hf.images.reasons.MEASURES`]. Those that need a photograph are `None` of an aligned
        crop.
    """
    import cv2

    luma = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    height, width = luma.shape
    inside = luma[_ellipse(height, width)]
    contrast = float(inside.std())
    fine = luma.astype(np.float32) - cv2.GaussianBlur(luma.astype(np.float32), (0, 0), height / 112)
    detail = float(np.sqrt(np.mean(fine[_ellipse(height, width)] ** 2)))
    found: dict[str, float | None] = dict.fromkeys(MEASURES)
    found |= {
        "faces": faces,
        "brightness": float(inside.mean()) / 2.55,
        "contrast": contrast / 2.55,
        "sharpness": 100 * detail / max(contrast, 1.0),
        "underexposed": 100 * float(np.mean(inside <= 25)),
        "overexposed": 100 * float(np.mean(inside >= 247)),
    }
    if landmarks is not None:
        yaw, pitch = estimate_pose(landmarks)
        across = landmarks[1] - landmarks[0]
        found |= {
            "inter_eye_distance": float(np.hypot(*across) / np.cos(np.radians(yaw))),
            "yaw": float(yaw),
            "pitch": float(pitch),
            "roll": float(np.degrees(np.arctan2(across[1], across[0]))),
            "cut": 100 * _outside(landmarks, picture_size, (height, width)),
        }
    return {name: None if value is None else float(f"{value:.4g}") for name, value in found.items()}


def _ellipse(height: int, width: int) -> np.ndarray:
    """The middle of an aligned face, where it is face and not background or hair, (H, W) of bool."""
    y, x = np.mgrid[:height, :width]
    scale = height / 112
    return ((x - (width - 1) / 2) / (38 * scale)) ** 2 + ((y - 62 * scale) / (48 * scale)) ** 2 <= 1


def _outside(landmarks: np.ndarray, picture_size: tuple[int, int], size: tuple[int, int]) -> float:
    """The part of a crop that is not of the picture."""
    height, width = size
    matrix = similarity_transform(landmarks, arcface_template(size))
    y, x = np.mgrid[: height : height / 28, : width : width / 28].reshape(2, -1)
    places = (np.stack([x, y], 1) - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    return float(np.mean(((places < -0.5) | (places > np.array(picture_size) - 0.5)).any(1)))


__all__ = ["measure_face"]
