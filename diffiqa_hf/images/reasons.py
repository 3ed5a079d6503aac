# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Why a score may be low, in words: what is measured of a face besides its quality ([`~diffiqa_hf.images.measures`]), in
what unit, and from where on it is a reason. Imports nothing.
"""

from collections.abc import Mapping
from typing import Any


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


__all__ = ["MEASURES", "reasons"]
