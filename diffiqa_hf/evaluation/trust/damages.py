# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Damage of five strengths that a quality score has to notice, and copies that it must not.

A kind of damage is drawn once for a face (where, in which direction, of which colour) and then grows: a stronger one
is the same, and more of it.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from ...degradations import Shot
from ...degradations.image_check import check_image
from ...degradations.imaging_chain import to_linear, to_srgb


STRENGTHS = (1, 2, 3, 4, 5)
EYES = 0.46  # their height in an aligned face

Apply = Callable[[np.ndarray, int, np.random.RandomState], np.ndarray]


def _shot(fields: Callable[[int, np.random.RandomState], dict]) -> Apply:
    return lambda face, at, random: Shot(**fields(at, random)).take(face, random)


def _straight_path(at: int, random: np.random.RandomState) -> dict:
    angle = random.uniform(0, 2 * math.pi)
    length = (0.04, 0.08, 0.13, 0.19, 0.26)[at]
    return {"path": ((0.0, 0.0), (length * math.cos(angle), length * math.sin(angle)))}


def _glare(face: np.ndarray, at: int, random: np.random.RandomState) -> np.ndarray:
    """A lamp that shines into the lens: light around a spot of the face, and a veil over all of it."""
    height, width = face.shape[:2]
    x, y = random.uniform(0.3, 0.7, 2)
    across, down = (np.arange(width) + 0.5) / width - x, (np.arange(height) + 0.5) / height - y
    distance = across[None, :] ** 2 + down[:, None] ** 2
    strength, reach = (0.4, 0.8, 1.4, 2.2, 3.5)[at], (0.15, 0.19, 0.23, 0.27, 0.31)[at]
    lamp = strength * (np.exp(-distance / (2 * reach**2)) + 0.04)
    light = np.minimum(to_linear(face) + lamp[..., None].astype(np.float32), 1)
    return np.rint(to_srgb(light) * 255).astype(np.uint8)


def _block(rows: Callable[[int], tuple[float, float]]) -> Apply:
    """A bar of one colour across the face, between two heights as shares of the picture."""

    def apply(face: np.ndarray, at: int, random: np.random.RandomState) -> np.ndarray:
        colour = random.randint(30, 226, 3)
        top, bottom = (round(share * len(face)) for share in rows(at))
        face = face.copy()
        face[top:bottom] = colour
        return face

    return apply


def _about_the_eyes(half: float) -> tuple[float, float]:
    return EYES - half, EYES + half


def _misaligned(
    matrix: Callable[[int, np.random.RandomState], tuple[float, float, tuple[float, float]]],
) -> Apply:
    """Turned by degrees, scaled, and shifted by shares of the sides; beyond its border the picture is mirrored."""

    def apply(face: np.ndarray, at: int, random: np.random.RandomState) -> np.ndarray:
        degrees, scale, shift = matrix(at, random)
        height, width = face.shape[:2]
        move = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, scale)
        move[:, 2] += shift[0] * width, shift[1] * height
        return cv2.warpAffine(face, move, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)

    return apply


def _shift(at: int, random: np.random.RandomState):
    angle, length = random.uniform(0, 2 * math.pi), (0.06, 0.12, 0.18, 0.25, 0.33)[at]
    return 0.0, 1.0, (length * math.cos(angle), length * math.sin(angle))


def _turn(at: int, random: np.random.RandomState):
    return random.choice([-1, 1]) * (10.0, 20.0, 30.0, 42.0, 55.0)[at], 1.0, (0.0, 0.0)


def _scale(at: int, random: np.random.RandomState):
    return 0.0, (1.15, 1.3, 1.5, 1.8, 2.2)[at] ** random.choice([-1, 1]), (0.0, 0.0)


# By name, from the face, the place of the strength (0 to 4) and the generator of the face to the damaged face. Lengths
# are shares of the side of an aligned face, 112 pixels of which the eyes are 35 apart.
DAMAGES: dict[str, Apply] = {
    "defocus": _shot(lambda at, _: {"disc": (0.01, 0.02, 0.03, 0.045, 0.065)[at]}),
    "motion": _shot(_straight_path),
    "low resolution": _shot(lambda at, _: {"resizes": (((0.45, 0.3, 0.2, 0.14, 0.1)[at], "box"),)}),
    "JPEG": _shot(lambda at, _: {"jpegs": (((40, 20, 12, 7, 3)[at], "4:2:0"),)}),
    "sensor noise": _shot(lambda at, _: {"full_well": (500.0, 150.0, 50.0, 17.0, 6.0)[at], "read_noise": 1.0}),
    "darkness": _shot(lambda at, _: {"exposure": -(1.5, 2.5, 3.5, 4.5, 6.0)[at], "full_well": 4000.0}),
    "glare": _glare,
    "block over the eyes": _block(lambda at: _about_the_eyes((0.03, 0.06, 0.09, 0.13, 0.18)[at])),
    "block over the mouth": _block(lambda at: (1 - (0.16, 0.24, 0.32, 0.4, 0.48)[at], 1.0)),
    "shift": _misaligned(_shift),
    "turn": _misaligned(_turn),
    "scale": _misaligned(_scale),
}


def damage(face: np.ndarray, kind: str, strength: int, seed: int = 0) -> np.ndarray:
    """
    A face with damage of one kind.

    Args:
        face: (H, W, 3) RGB, uint8; an aligned crop.
        kind: One of `DAMAGES`.
        strength: 1 to 5.
        seed: Of where, in which direction and of which colour it is, together with the kind.

    Returns:
        (H, W, 3) RGB, uint8.

    Raises:
        ValueError: There is no such kind or strength, or `face` is no such array.
    """
    check_image(face)
    if kind not in DAMAGES:
        raise ValueError(f"kind is one of {', '.join(DAMAGES)}, not {kind!r}")
    if strength not in STRENGTHS:
        raise ValueError(f"strength is a number from 1 to 5, not {strength!r}")
    random = np.random.RandomState(zlib.crc32(f"{kind} {seed}".encode()))
    return DAMAGES[kind](face, strength - 1, random)


def _jpeg_95(face: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(face).save(buffer, "JPEG", quality=95)
    return np.array(Image.open(buffer))


# What leaves the quality of a face as it was.
COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG of quality 95": _jpeg_95,
    "mirrored": lambda face: np.ascontiguousarray(face[:, ::-1]),
    "shifted by a pixel": lambda face: np.ascontiguousarray(np.pad(face, ((0, 0), (1, 0), (0, 0)), "edge")[:, :-1]),
}


__all__ = ["COPIES", "DAMAGES", "STRENGTHS", "damage"]
