# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Pictures that show no face: drawn by code, and photographs that come with scikit-image where that is installed."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps


SIDE = 112


def _plain(*colour: int) -> Callable[[np.random.RandomState], np.ndarray]:
    return lambda random: np.full((SIDE, SIDE, 3), colour, np.uint8)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each pixel, from 0 to 1."""
    row, column = np.mgrid[:SIDE, :SIDE] / (SIDE - 1)
    return row, column


def _between(weight: np.ndarray, first: tuple, second: tuple) -> np.ndarray:
    mixed = weight[..., None] * np.array(second, float) + (1 - weight[..., None]) * np.array(first, float)
    return np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)


def _fractal(random: np.random.RandomState, slope: float, channels: int = 3) -> np.ndarray:
    """Noise whose amplitude falls with the frequency to the power of `slope`, mean 128, standard deviation 50."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :])
    frequency[0, 0] = np.inf
    layers = []
    for _ in range(channels):
        white = np.fft.rfft2(random.standard_normal((SIDE, SIDE)))
        layer = np.fft.irfft2(white / frequency**slope, (SIDE, SIDE))
        layers.append(128 + 50 * layer / layer.std())
    return np.clip(np.stack(layers * (3 // channels), -1), 0, 255).astype(np.uint8)


def _bricks(random: np.random.RandomState) -> np.ndarray:
    picture = np.full((SIDE, SIDE, 3), 190, np.uint8)
    for row in range(8):
        for column in range(-1, 6):
            left = column * 24 + 12 * (row % 2)
            colour = (np.array([150, 70, 50]) + random.randint(-20, 21, 3)).tolist()
            cv2.rectangle(picture, (left, row * 14), (left + 21, row * 14 + 11), colour, -1)
    return _speckled(picture, random)


def _text(random: np.random.RandomState) -> np.ndarray:
    picture = np.full((SIDE, SIDE, 3), 245, np.uint8)
    letters = "abcdefghiklmnoprstuvw"
    for row in range(9):
        line = "".join(letters[at] for at in random.randint(len(letters), size=14))
        cv2.putText(picture, line, (3, 12 + 12 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (25, 25, 30), 1, cv2.LINE_AA)
    return picture


def _house(random: np.random.RandomState) -> np.ndarray:
    picture = _between(_grid()[0], (120, 170, 230), (210, 225, 240))
    cv2.rectangle(picture, (0, 84), (111, 111), (80, 130, 60), -1)
    cv2.rectangle(picture, (24, 48), (88, 96), (200, 180, 140), -1)
    cv2.fillPoly(picture, [np.array([[16, 50], [56, 16], [96, 50]], np.int32)], (150, 60, 50))
    cv2.rectangle(picture, (34, 58), (48, 72), (90, 120, 150), -1)
    cv2.rectangle(picture, (64, 66), (78, 96), (90, 60, 40), -1)
    return _speckled(picture, random)


def _bottle(random: np.random.RandomState) -> np.ndarray:
    picture = _between(_grid()[1], (225, 220, 210), (180, 180, 185))
    cv2.rectangle(picture, (42, 44), (70, 108), (40, 110, 70), -1)
    cv2.ellipse(picture, (56, 44), (14, 12), 0, 180, 360, (40, 110, 70), -1)
    cv2.rectangle(picture, (51, 10), (61, 40), (40, 110, 70), -1)
    cv2.rectangle(picture, (42, 62), (70, 88), (230, 225, 200), -1)
    cv2.line(picture, (46, 48), (46, 104), (120, 190, 150), 2)
    return _speckled(cv2.GaussianBlur(picture, (3, 3), 0), random)


def _leaves(random: np.random.RandomState) -> np.ndarray:
    picture = np.full((SIDE, SIDE, 3), (30, 60, 25), np.uint8)
    for _ in range(140):
        at = tuple(random.randint(0, SIDE, 2).tolist())
        green = int(random.randint(90, 200))
        colour = (green // 2, green, green // 3)
        cv2.ellipse(picture, at, (int(random.randint(5, 12)), 4), int(random.randint(0, 180)), 0, 360, colour, -1)
    return _speckled(picture, random)


def _discs(random: np.random.RandomState) -> np.ndarray:
    picture = np.full((SIDE, SIDE, 3), 235, np.uint8)
    for row in range(4):
        for column in range(4):
            colour = random.randint(30, 220, 3).tolist()
            cv2.circle(picture, (14 + 28 * column, 14 + 28 * row), 11, colour, -1, cv2.LINE_AA)
    return picture


def _speckled(picture: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    return np.clip(picture + random.normal(0, 5, picture.shape), 0, 255).astype(np.uint8)


def _wood(random: np.random.RandomState) -> np.ndarray:
    row, column = _grid()
    bend = cv2.GaussianBlur(random.standard_normal((SIDE, SIDE)), (0, 0), 18) * 6
    rings = 0.5 + 0.5 * np.sin(2 * math.pi * (14 * column + bend + 0.6 * row))
    return _speckled(_between(rings, (120, 80, 45), (190, 140, 90)), random)


def _checkerboard(side: int) -> Callable[[np.random.RandomState], np.ndarray]:
    def draw(random: np.random.RandomState) -> np.ndarray:
        row, column = np.mgrid[:SIDE, :SIDE] // side
        return np.repeat(((row + column) % 2 * 255).astype(np.uint8)[..., None], 3, -1)

    return draw


DRAWN: dict[str, Callable[[np.random.RandomState], np.ndarray]] = {
    "black": _plain(0, 0, 0),
    "dark grey": _plain(50, 50, 50),
    "grey": _plain(128, 128, 128),
    "white": _plain(255, 255, 255),
    "skin colour": _plain(205, 160, 135),
    "gradient": lambda random: _between(_grid()[0], (30, 40, 80), (230, 210, 180)),
    "radial gradient": lambda random: _between(
        np.clip(1.3 * np.hypot(_grid()[0] - 0.5, _grid()[1] - 0.5), 0, 1), (235, 200, 170), (40, 40, 50)
    ),
    "uniform noise": lambda random: random.randint(0, 256, (SIDE, SIDE, 3)).astype(np.uint8),
    "grey noise": lambda random: np.repeat(
        np.clip(random.normal(128, 40, (SIDE, SIDE, 1)), 0, 255).astype(np.uint8), 3, -1
    ),
    "clouds": lambda random: _fractal(random, 2.0, channels=1),
    "coloured clouds": lambda random: _fractal(random, 1.3),
    "fine checkerboard": _checkerboard(4),
    "coarse checkerboard": _checkerboard(14),
    "stripes": lambda random: _between(
        0.5 + 0.5 * np.sin(40 * (_grid()[0] + 0.4 * _grid()[1])), (40, 40, 90), (220, 220, 200)
    ),
    "discs": _discs,
    "bricks": _bricks,
    "wood": _wood,
    "leaves": _leaves,
    "writing": _text,
    "house": _house,
    "bottle": _bottle,
}

# Of what is in the wheel of scikit-image, what shows nobody and no animal's face; nothing is downloaded.
PHOTOGRAPHS = {
    "photograph of a brick wall": "brick.png",
    "photograph of grass": "grass.png",
    "photograph of gravel": "gravel.png",
    "photograph of a cup of coffee": "coffee.png",
    "photograph of coins": "coins.png",
    "photograph of a motorcycle": "motorcycle_left.png",
    "photograph of a rocket": "rocket.jpg",
    "photograph of a moving clock": "clock_motion.png",
    "photograph of the moon": "moon.png",
    "photograph of galaxies": "hubble_deep_field.jpg",
    "photograph of a retina": "retina.jpg",
    "micrograph of tissue": "ihc.png",
    "micrograph of a cell": "cell.png",
    "scanned page": "page.png",
    "written text": "text.png",
}


def non_faces(seed: int = 0) -> dict[str, np.ndarray]:
    """
    Pictures without a face by name, each (112, 112, 3) RGB, uint8.

    Those of `DRAWN` always; the middle squares of those of `PHOTOGRAPHS` where scikit-image is installed.

    Args:
        seed: Of what is drawn.
    """
    pictures = {name: draw(np.random.RandomState(seed + at)) for at, (name, draw) in enumerate(DRAWN.items())}
    found = importlib.util.find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        return pictures
    folder = Path(found.submodule_search_locations[0]) / "data"
    for name, file in PHOTOGRAPHS.items():
        path = folder / file
        if path.is_file():  # other releases may carry others
            picture = Image.open(path).convert("RGB")
            pictures[name] = np.array(ImageOps.fit(picture, (SIDE, SIDE), Image.Resampling.LANCZOS))
    return pictures


__all__ = ["DRAWN", "PHOTOGRAPHS", "non_faces"]
