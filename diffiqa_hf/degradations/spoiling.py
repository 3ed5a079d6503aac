# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Damages of every strength for training: what the default FR model and DifFIQA(R) learn from.

A quality network knows no damage that it has not seen: BSRGAN's chain (`bsrgan.py`) has neither darkness nor a hand
before the face, and stops well short of a face that nobody would recognise. Here a [`Series`] is one damage, or a
mixture of up to four, whose strength goes from 0 (almost nothing) to 1 (beyond recognition). All that is random in it
is drawn from its seed and not from the strength, so that a stronger copy has the same damage further on: the block
grows where it stands, the noise has the same grain.

What the package is *measured* with (its imaging chain and its panel of damages) shares neither code nor parameters
with this file: a network must not be marked on what it was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .bsrgan import compress_jpeg, degrade_face


SIZE = 112  # sides of the faces; lengths below are in their pixels
_BORDERS = (cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT_101)
_UP = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST, cv2.INTER_LANCZOS4)
_DOWN = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_NEAREST)

Damage = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def _clip(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _colour(rng: np.random.Generator) -> np.ndarray:
    """A colour: black, white, a skin tone, or any."""
    kind = rng.integers(4)
    drawn = rng.integers(0, 256, 3)
    if kind < 2:
        return np.full(3, 255 * kind)
    return np.array([190, 140, 110]) * rng.uniform(0.4, 1.3) if kind == 2 else drawn


# -- optics and the sensor --------------------------------------------------------------------------------------------


def _defocus(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    radius = 0.3 + 11 * strength
    size = 2 * math.ceil(radius) + 1
    x = np.arange(size) - size // 2
    kernel = np.clip(radius + 0.5 - np.hypot(x[:, None], x), 0, 1)
    return cv2.filter2D(face, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def _gaussian_blur(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    across = 1 if rng.random() < 0.7 else rng.uniform(0.2, 1)
    sigma = 0.3 + 8.5 * strength
    return cv2.GaussianBlur(face, (0, 0), sigma, sigmaY=max(sigma * across, 0.1), borderType=cv2.BORDER_REFLECT_101)


def _motion(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    angle, bend = rng.uniform(0, math.pi), rng.uniform(-0.6, 0.6)
    half = 0.5 + 20 * strength
    place = np.linspace(-1, 1, 4 * math.ceil(half) + 1)
    x, y = half * place, half * bend * (place**2 - 1 / 3)
    across = math.ceil(1.3 * half) + 1
    kernel = np.zeros((2 * across + 1, 2 * across + 1))
    columns = np.rint(math.cos(angle) * x - math.sin(angle) * y).astype(int) + across
    rows = np.rint(math.sin(angle) * x + math.cos(angle) * y).astype(int) + across
    np.add.at(kernel, (rows, columns), 1 / len(place))
    return cv2.filter2D(face, -1, kernel, borderType=cv2.BORDER_REPLICATE)


def _resize(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    down, up = _DOWN[rng.integers(len(_DOWN))], _UP[rng.integers(len(_UP))]
    side = max(3, round(SIZE / (1 + 24 * strength**1.3)))
    return cv2.resize(cv2.resize(face, (side, side), interpolation=down), (SIZE, SIZE), interpolation=up)


def _jpeg(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    quality = round(2 + 88 * (1 - strength) ** 2)
    if rng.random() < 0.3:  # a small picture: its blocks are large on the face
        side = int(rng.integers(40, 100))
        small = compress_jpeg(cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA), quality)
        return cv2.resize(small, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    return compress_jpeg(face, quality)


def _noise(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    grey, grain, shot = rng.random() < 0.35, rng.integers(4), rng.random() < 0.3
    noise = rng.standard_normal((SIZE, SIZE, 1 if grey else 3), dtype=np.float32)
    if grain == 0:  # of more than one pixel, as after a demosaicing or an enlargement
        noise = cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.5, 1.5)).reshape(noise.shape)
        noise /= noise.std()
    level = 2 + 115 * strength**1.3
    if shot:
        level = level * np.sqrt((face + 8.0) / 136)
    return _clip(face + level * noise)


def _specks(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    drawn, white = rng.random((SIZE, SIZE)), rng.random((SIZE, SIZE)) < 0.5
    return np.where((drawn < 0.75 * strength)[..., None], np.where(white, 255, 0)[..., None], face).astype(np.uint8)


def _darkness(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    read, gained, even = rng.uniform(0, 5), rng.random() < 0.25, rng.random() < 0.6
    slope, towards = rng.uniform(0.2, 0.9), rng.uniform(0, 2 * math.pi)
    noise = rng.standard_normal(face.shape, dtype=np.float32)
    stops = np.full((SIZE, SIZE, 1), 7 * strength)
    if not even:  # lit from one side
        x = np.linspace(-1, 1, SIZE)
        stops = stops + 5 * strength * slope * (math.cos(towards) * x + math.sin(towards) * x[:, None])[..., None]
    light = 2.0**-stops
    dark = face * light + read * noise * np.sqrt(0.2 + 0.8 * light) * min(1, 4 * strength)
    dark = _clip(dark)
    return _clip(dark * min(2.0 ** (7 * strength), 16)) if gained else dark


def _overexposure(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return _clip(face * (1 + 5 * strength) + 90 * strength)


def _contrast(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    to = rng.uniform(20, 235)
    return _clip(to * strength * 0.98 + face * (1 - 0.98 * strength))


def _glare(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    light = np.zeros((SIZE, SIZE))
    y, x = np.mgrid[:SIZE, :SIZE]
    for _ in range(rng.integers(1, 4)):
        cx, cy = rng.uniform(0, SIZE, 2)
        wide, high = rng.uniform(12, 60, 2) * (0.5 + strength)
        light += rng.uniform(0.5, 1) * np.exp(-0.5 * (((x - cx) / wide) ** 2 + ((y - cy) / high) ** 2))
    veil = rng.uniform(0, 0.5)
    colour = np.array([255, 255, 255]) * rng.uniform(0.8, 1, 3)
    return _clip(face * (1 - 0.5 * veil * strength) + 2.2 * strength * (light + veil)[..., None] * colour)


def _colours(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    kind = rng.integers(3)
    gains = rng.uniform(-1, 1, 3)
    if kind == 0:  # grey
        grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)[..., None]
        return _clip((1 - strength) * face + strength * grey)
    if kind == 1:  # a cast
        return _clip(face * np.exp(1.2 * strength * gains))
    levels = max(2, round(2 ** (7 * (1 - strength))))  # few levels
    return _clip(np.rint(face / 255 * (levels - 1)) / (levels - 1) * 255)


def _bsrgan(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    degraded = degrade_face(face, rng)
    return _clip(cv2.addWeighted(face, 1 - strength, degraded, strength, 0))


# -- geometry ---------------------------------------------------------------------------------------------------------


def _move(face: np.ndarray, rng: np.random.Generator, angle: float, scale: float, dx: float, dy: float) -> np.ndarray:
    middle = (SIZE - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), angle, scale)
    matrix[:, 2] += dx, dy
    border = _BORDERS[rng.integers(len(_BORDERS))]
    return cv2.warpAffine(face, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=border)


def _shift(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    towards = rng.uniform(0, 2 * math.pi)
    far = 80 * strength
    return _move(face, rng, 0, 1, far * math.cos(towards), far * math.sin(towards))


def _turn(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return _move(face, rng, (1 if rng.random() < 0.5 else -1) * 150 * strength, 1, 0, 0)


def _zoom(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return _move(face, rng, 0, 2 ** ((1 if rng.random() < 0.5 else -1) * 1.9 * strength), 0, 0)


def _misalign(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    angle, scale, dx, dy = rng.uniform(-1, 1, 4) * strength
    return _move(face, rng, 70 * angle, 2**scale, 45 * dx, 45 * dy)


def _yaw(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """
    Turns the head to a side, by up to 65 degrees: the crop is laid on an upright ellipsoid with a nose, as large as a
    head is in an aligned crop, and seen from the side. What comes into sight is stretched from the edge.
    """
    yaw = (1 if rng.random() < 0.5 else -1) * math.radians(65) * strength
    radius, high, nose = rng.uniform(40, 50), rng.uniform(66, 80), rng.uniform(8, 15)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    x -= (SIZE - 1) / 2
    width = radius * np.sqrt(np.clip(1 - ((y - 62) / high) ** 2, 0.05, 1))
    inside = np.clip(x / width, -0.999, 0.999)
    source = x.copy()
    bump = np.zeros_like(x)
    for _ in range(4):  # the nose stands before the ellipsoid: where it comes from depends on where it is
        seen = np.clip((x - bump * math.sin(yaw)) / width, -0.999, 0.999)
        source = width * np.sin(np.clip(np.arcsin(seen) - yaw, -1.45, 1.45))
        bump = nose * np.exp(-0.5 * ((source / 7) ** 2 + ((y - 68) / 13) ** 2))
    edge = np.clip((abs(inside) - 0.93) / 0.06, 0, 1)
    source = (1 - edge) * source + edge * np.sign(x) * np.maximum(abs(x), abs(source))
    return cv2.remap(face, source + np.float32((SIZE - 1) / 2), y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _distort(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    coarse = rng.standard_normal((2, int(rng.integers(4, 12)), int(rng.integers(4, 12)))).astype(np.float32)
    dx, dy = (cv2.resize(field, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for field in coarse)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    far = np.float32(11 * strength)
    return cv2.remap(face, x + far * dx, y + far * dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _shuffle(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    tiles = int((4, 7, 8, 14)[rng.integers(4)])
    side = SIZE // tiles
    order = rng.permutation(tiles * tiles)
    moved = order[: round(strength * len(order))]
    out, places = face.copy(), np.sort(moved)
    for there, here in zip(places.tolist(), moved.tolist(), strict=True):
        (r, c), (i, j) = divmod(there, tiles), divmod(here, tiles)
        tile = face[i * side : (i + 1) * side, j * side : (j + 1) * side]
        out[r * side : (r + 1) * side, c * side : (c + 1) * side] = tile
    return out


# -- things before the face -------------------------------------------------------------------------------------------


def _filling(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What stands before the face: a colour, noise, another part of the picture, stripes, or the face in mosaic."""
    kind = rng.integers(6)
    colour = _colour(rng)
    if kind <= 1:
        return np.broadcast_to(colour, face.shape)
    if kind == 2:
        return rng.integers(0, 256, face.shape)
    if kind == 3:
        return np.roll(face[:: rng.choice((-1, 1))], rng.integers(20, 90, 2), (0, 1))
    if kind == 4:
        wave = np.sin(np.arange(SIZE) * rng.uniform(0.1, 1.5))
        return colour * (0.6 + 0.4 * (wave[:, None] if rng.random() < 0.5 else wave))[..., None] + np.zeros(face.shape)
    small = cv2.resize(face, (6, 6), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (SIZE, SIZE), interpolation=_UP[2 if rng.random() < 0.5 else 0])


def _block(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    kind, (cx, cy), tall = rng.integers(3), rng.uniform(25, 87, 2), rng.uniform(-0.7, 0.7)
    angle, filling = rng.uniform(0, 180), _filling(face, rng)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    half = 4 + 88 * strength
    axes = (half * 2**tall, half * 2**-tall)
    if kind == 0:
        cv2.ellipse(mask, (round(cx), round(cy)), (round(axes[0]), round(axes[1])), angle, 0, 360, 255, -1)
    else:
        box = cv2.boxPoints(((cx, cy), (1.7 * axes[0], 1.7 * axes[1]), angle if kind == 1 else 0))
        cv2.fillConvexPoly(mask, np.rint(box).astype(np.int32), 255)
    return _clip(np.where(mask[..., None] > 0, filling, face))


def _side(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """From one side on: a mask, a hat, hair, a door; or the face is cut off there."""
    turns, filling = rng.integers(4), _filling(face, rng)
    covered = np.rot90(face, turns).copy()
    covered[: round(SIZE * strength)] = np.rot90(_clip(filling), turns)[: round(SIZE * strength)]
    return np.ascontiguousarray(np.rot90(covered, -turns))


def _frame(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    shares, colour = rng.uniform(0, 1, 4), _colour(rng)
    top, bottom, left, right = np.rint(SIZE * strength * 0.5 * shares).astype(int).tolist()
    out = np.empty_like(face)
    out[:] = _clip(colour)
    out[top : SIZE - bottom, left : SIZE - right] = face[top : SIZE - bottom, left : SIZE - right]
    return out


def _scribble(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    out = face.copy()
    lines = rng.integers(-10, SIZE + 10, (40, 4))
    colours, widths = rng.integers(0, 256, (40, 3)), rng.integers(1, 7, 40)
    for line, colour, width in list(zip(lines.tolist(), colours.tolist(), widths.tolist(), strict=True))[
        : math.ceil(40 * strength)
    ]:
        cv2.line(out, line[:2], line[2:], colour, width, cv2.LINE_AA)
    return out


def _rows(face: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Rows that came wrong: lost, or moved to a side."""
    drawn, lost, far = rng.random(SIZE), rng.random() < 0.5, rng.integers(-60, 60, SIZE)
    out = face.copy()
    for row in np.flatnonzero(drawn < 0.95 * strength):
        out[row] = 0 if lost else np.roll(face[row], far[row], 0)
    return out


# How often each is drawn: what happens to pictures of faces most.
DAMAGES: dict[str, tuple[Damage, float]] = {
    "defocus": (_defocus, 2),
    "gaussian blur": (_gaussian_blur, 1),
    "motion": (_motion, 2),
    "resize": (_resize, 2),
    "jpeg": (_jpeg, 2),
    "noise": (_noise, 2),
    "specks": (_specks, 0.5),
    "darkness": (_darkness, 2.5),
    "overexposure": (_overexposure, 1),
    "contrast": (_contrast, 1),
    "glare": (_glare, 2),
    "colours": (_colours, 0.7),
    "bsrgan": (_bsrgan, 0.7),
    "shift": (_shift, 1.5),
    "turn": (_turn, 1.5),
    "zoom": (_zoom, 1.5),
    "misalignment": (_misalign, 1.5),
    "yaw": (_yaw, 3),
    "distortion": (_distort, 0.5),
    "shuffle": (_shuffle, 0.5),
    "block": (_block, 2.5),
    "side": (_side, 2),
    "frame": (_frame, 0.5),
    "scribble": (_scribble, 0.5),
    "rows": (_rows, 0.3),
}


@dataclass(frozen=True)
class Series:
    """
    One damage or a mixture of several, to be applied at any strength in [0, 1].

    Args:
        names: Of [`DAMAGES`], in the order in which they are applied.
        shares: What the strength is multiplied by for each.
        seed: Of all that is random in them.
    """

    names: tuple[str, ...]
    shares: tuple[float, ...]
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Series:
        """One damage with probability .45; otherwise two, three or four, each weaker, as a camera's chain has them."""
        count = int(rng.choice((1, 2, 3, 4), p=(0.45, 0.25, 0.18, 0.12)))
        odds = np.array([odds for _, odds in DAMAGES.values()])
        chosen = rng.choice(len(odds), count, replace=False, p=odds / odds.sum())
        shares = [1.0] if count == 1 else rng.uniform(0.1, 0.8, count).tolist()
        return cls(tuple(list(DAMAGES)[i] for i in chosen), tuple(shares), int(rng.integers(2**62)))

    def apply(self, face: np.ndarray, strength: float) -> np.ndarray:
        """The face, (112, 112, 3) RGB uint8, damaged; the same shape and type."""
        for place, (name, share) in enumerate(zip(self.names, self.shares, strict=True)):
            damage, _ = DAMAGES[name]
            face = damage(face, strength * share, np.random.default_rng([self.seed, place]))
        return face


# -- what is no face --------------------------------------------------------------------------------------------------


def _spectrum(rng: np.random.Generator, power: float) -> np.ndarray:
    """Noise with a spectrum of 1 / f^power in three channels, in [0, 255]."""
    f = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE))
    f[0, 0] = 1 / SIZE
    shape = (3, SIZE, SIZE // 2 + 1)
    drawn = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / f**power
    field = np.fft.irfft2(drawn, (SIZE, SIZE))
    mixed = np.einsum("ij,jhw->hwi", np.eye(3) + rng.uniform(0, 1.5) * np.ones((3, 3)), field)
    return 128 + mixed / mixed.std() * rng.uniform(10, 80) + rng.uniform(-60, 60, 3)


def _piece(faces: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """A small piece of a crop, mostly of its corners, where there is background, hair and cloth; enlarged."""
    face = faces[rng.integers(len(faces))]
    side = int(rng.integers(10, 30))
    if rng.random() < 0.7:
        y, x = (int(rng.choice((0, SIZE - side))) for _ in range(2))
    else:
        y, x = rng.integers(0, SIZE - side, 2).tolist()
    piece = face[y : y + side, x : x + side]
    piece = np.rot90(piece, rng.integers(4))
    if rng.random() < 0.4:  # again and again, as a pattern
        times = math.ceil(SIZE / side)
        return np.tile(
            np.block([[[piece], [piece[:, ::-1]]], [[piece[::-1]], [piece[::-1, ::-1]]]]), (times, times, 1)
        )[:SIZE, :SIZE]
    return cv2.resize(piece, (SIZE, SIZE), interpolation=_UP[rng.integers(len(_UP))])


def _leaves(faces: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Things before each other, as in any picture: discs, boxes and strips of colours and of pieces of pictures."""
    out = np.ascontiguousarray(_clip(np.broadcast_to(_piece(faces, rng), (SIZE, SIZE, 3))))
    largest = rng.uniform(10, 60)
    for _ in range(int(rng.integers(3, 60))):
        mask = np.zeros((SIZE, SIZE), np.uint8)
        centre = rng.integers(-10, SIZE + 10, 2).tolist()
        size = np.maximum(2, largest * rng.random(2) ** 1.5)
        if rng.random() < 0.5:
            cv2.ellipse(mask, centre, np.rint(size).astype(int).tolist(), rng.uniform(0, 180), 0, 360, 255, -1)
        else:
            box = cv2.boxPoints((centre, (2 * size).tolist(), rng.uniform(0, 180)))
            cv2.fillConvexPoly(mask, np.rint(box).astype(np.int32), 255)
        if rng.random() < 0.35:
            filling = _piece(faces, rng)
        else:
            shade = rng.uniform(-1, 1) * np.linspace(-60, 60, SIZE)[:, None, None]
            filling = np.broadcast_to(rng.integers(0, 256, 3) + shade, out.shape)
        out = _clip(np.where(mask[..., None] > 0, filling, out))
    return out


def _writing(rng: np.random.Generator) -> np.ndarray:
    out = np.empty((SIZE, SIZE, 3), np.uint8)
    paper, ink = rng.integers(0, 256, 3), rng.integers(0, 256, 3).tolist()
    out[:] = paper
    letters = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789  .,-+=")
    size = rng.uniform(0.25, 1.6)
    for line in range(int(rng.integers(1, 12))):
        text = "".join(rng.choice(letters, 30))
        y = round((line + 1) * 26 * size + rng.integers(-5, 5))
        cv2.putText(out, text, (int(rng.integers(-30, 20)), y), int(rng.integers(0, 8)), size, ink, 1 + (size > 0.8))
    return out


def _pattern(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE] - rng.uniform(0, SIZE, (2, 1, 1))
    angle, period = rng.uniform(0, math.pi), rng.uniform(3, 90)
    along, across = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    kind = rng.integers(5)
    if kind == 0:
        wave = np.sin(2 * math.pi * along / period)
    elif kind == 1:
        wave = np.sign(np.sin(2 * math.pi * along / period) * np.sin(2 * math.pi * across / period))
    elif kind == 2:
        wave = np.sin(2 * math.pi * np.hypot(x, y) / period)
    elif kind == 3:
        wave = along / SIZE
    else:
        wave = np.sin(along * across / period**2) + np.sin(2 * math.pi * across / rng.uniform(3, 90))
    first, second = rng.integers(0, 256, (2, 3))
    return first + (second - first) * (0.5 + 0.5 * np.clip(wave, -1, 1))[..., None]


def draw_non_face(faces: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """
    A picture that is no face: blank, noise, a pattern, writing, things before each other, a piece of a picture or a
    face in pieces; a quarter of them damaged as well.

    Args:
        faces: (112, 112, 3) RGB uint8, for the pieces.
        rng: The source of all that is random; it moves on.

    Returns:
        (112, 112, 3) RGB, uint8.
    """
    kind = rng.choice(8, p=(0.1, 0.1, 0.12, 0.12, 0.08, 0.25, 0.13, 0.1))
    if kind == 0:
        image = np.broadcast_to(_colour(rng), (SIZE, SIZE, 3))
    elif kind == 1:
        shape = (SIZE, SIZE, 1 if rng.random() < 0.3 else 3)
        mean, sd = rng.uniform(0, 255), rng.uniform(1, 130)
        image = np.broadcast_to(mean + sd * rng.standard_normal(shape), (SIZE, SIZE, 3))
        if rng.random() < 0.2:
            image = rng.integers(0, 256, (SIZE, SIZE, 3))
    elif kind == 2:
        image = _spectrum(rng, rng.uniform(0.3, 2.5))
    elif kind == 3:
        image = _pattern(rng)
    elif kind == 4:
        image = _writing(rng)
    elif kind == 5:
        image = _leaves(faces, rng)
    elif kind == 6:
        image = _piece(faces, rng)
    else:
        image = _shuffle(faces[rng.integers(len(faces))], rng.uniform(0.9, 1), rng)
    image = np.ascontiguousarray(_clip(image))
    return Series.draw(rng).apply(image, rng.random() * 0.6) if rng.random() < 0.25 else image


__all__ = ["DAMAGES", "Series", "draw_non_face"]
