# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
What can be measured of a face beside its quality, plainly and cheaply: why a score is low, for who takes photographs.

The measures do not make the score, and the score does not follow from them. They are our own, but for
`inter_eye_distance`, which is defined as ISO/IEC 29794-5 defines its measure of this name (the distance of the eye
centres times the secant of the yaw), with a yaw of ours. The standard measures exposure, sharpness and pose by other
means, so that its names are not used for them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..alignment import arcface_template, estimate_pose, similarity_transform


# Name: what it is, and in what unit.
MEASURES: dict[str, str] = {
    "faces": "faces that the detector found in the photograph",
    "inter_eye_distance": "distance of the eyes in the photograph, in pixels, times the secant of the yaw",
    "brightness": "mean of the luma of the face, in per cent of white",
    "contrast": "standard deviation of the luma of the face, in per cent of white",
    "sharpness": "detail of one to two pixels of the aligned face, in per cent of its contrast",
    "underexposed": "pixels of the face with a luma of at most 25 of 255, in per cent",
    "overexposed": "pixels of the face with a luma of at least 247 of 255, in per cent",
    "yaw": "turn to a side by the five points, in degrees, positive where the nose points to the right of the picture",
    "pitch": "nod by the five points, in degrees, positive where the nose points down",
    "roll": "slope of the line through the eyes, in degrees, positive clockwise",
    "cut": "part of the aligned face that lies outside of the photograph, in per cent",
}

# From here on a measure is named as a reason. The limits are ours: what hardly any photograph of LFW has.
LEAST_EYE_DISTANCE = 25.0
LEAST_BRIGHTNESS, MOST_BRIGHTNESS = 18.0, 80.0
LEAST_CONTRAST = 8.0
LEAST_SHARPNESS = 6.0
MOST_UNDEREXPOSED, MOST_OVEREXPOSED = 40.0, 15.0
MOST_YAW, MOST_PITCH, MOST_ROLL = 30.0, 25.0, 30.0
MOST_CUT = 4.0


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
        By the names in `MEASURES`. Those that need a photograph are `None` of an aligned crop.
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


def reasons(measures: Mapping[str, Any]) -> list[str]:
    """
    What of the measures is likely to lower a score, in words, each with its figure; empty where none stands out.

    Args:
        measures: By the names in `MEASURES`; what is missing or `None` gives no reason.
    """
    known = {name: value for name in MEASURES if (value := measures.get(name)) is not None}
    found = []

    def low(name: str, least: float, words: str) -> None:
        if name in known and known[name] < least:
            found.append(words.format(known[name]))

    def high(name: str, most: float, words: str) -> None:
        if name in known and abs(known[name]) > most:
            found.append(words.format(abs(known[name])))

    low("inter_eye_distance", LEAST_EYE_DISTANCE, "small: {:.0f} pixels between the eyes")
    low("brightness", LEAST_BRIGHTNESS, "dark: brightness {:.0f} %")
    high("brightness", MOST_BRIGHTNESS, "bright: brightness {:.0f} %")
    if not found or not found[-1].startswith(("dark", "bright")):  # which have little contrast by nature
        low("contrast", LEAST_CONTRAST, "flat: contrast {:.0f} %")
    low("sharpness", LEAST_SHARPNESS, "blurred: sharpness {:.0f} %")
    high("underexposed", MOST_UNDEREXPOSED, "{:.0f} % underexposed")
    high("overexposed", MOST_OVEREXPOSED, "{:.0f} % overexposed")
    high("yaw", MOST_YAW, "turned to a side by {:.0f} degrees")
    high("pitch", MOST_PITCH, "nodding by {:.0f} degrees")
    high("roll", MOST_ROLL, "tilted by {:.0f} degrees")
    high("cut", MOST_CUT, "{:.0f} % cut off by the border")
    high("faces", 1, "one of {:.0f} faces in the picture, the largest")
    return found


__all__ = ["MEASURES", "measure_face", "reasons"]
