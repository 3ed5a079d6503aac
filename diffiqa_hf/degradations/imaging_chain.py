# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
A face as a camera and what comes after it would give it: optics, light, sensor, colour, tone, resizing, compression.

It is for evaluation: a quality measure that learnt from BSRGAN's degradations ([`degrade_face`]) has to hold on damage
that is made otherwise. So nothing here is shared with `bsrgan.py`, neither code nor parameters: lenses and shaking
hands in place of Gaussian kernels, noise that grows with the light in place of one level, in linear light in place of
sRGB, a colour filter array, exposure, white balance, tone, Pillow's filters and JPEG encoder with its chroma
subsampling in place of OpenCV's.

A [`Shot`] says all that happens to one picture, [`draw_shot`] draws one, and [`photograph`] does both from a seed.
Random numbers are those of `numpy.random.RandomState`, whose stream is frozen, and each picture takes as many whatever
its pixels are, so that a seed means the same picture on any machine, up to the rounding of its arithmetic.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from .image_check import check_image


FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")
SENSOR_BITS = 12
# Of the wave front, in the order of `Shot.aberrations`, as functions of the place in the pupil of radius 1.
ZERNIKE: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = (
    lambda x, y: math.sqrt(3) * (2 * (x**2 + y**2) - 1),  # defocus
    lambda x, y: math.sqrt(6) * (x**2 - y**2),  # astigmatism
    lambda x, y: math.sqrt(6) * 2 * x * y,
    lambda x, y: math.sqrt(8) * (3 * (x**2 + y**2) - 2) * x,  # coma
    lambda x, y: math.sqrt(8) * (3 * (x**2 + y**2) - 2) * y,
    lambda x, y: math.sqrt(5) * (6 * (x**2 + y**2) ** 2 - 6 * (x**2 + y**2) + 1),  # spherical
)


@dataclass(frozen=True, kw_only=True)
class Shot:
    """
    How one picture comes about. Unless said, nothing happens: the default gives the face back, to a grey level or two.

    Lengths are shares of the shorter side of the picture, so that a shot means the same at any size.

    Args:
        disc (`float`): Radius of the disc into which a lens that is out of focus spreads a point.
        aberrations (`tuple[float, ...]`, *optional*): Of the wave front, in waves (RMS, by Zernike polynomial): focus,
            astigmatism along the axes and across, coma in x and in y, spherical. The point spread function is that of
            a round pupil whose perfect spot is a 112th of the side wide.
        path (`tuple[tuple[float, float], ...]`): Where the picture moves (x, y) while the shutter is open, through
            points at equal times.
        light (`tuple[float, float, float]`): Of the lamp by channel: factors of linear light.
        exposure (`float`): In stops: the light counts 2 ** exposure times.
        resolution (`float`): Pixels of the sensor along a side, as a share of those of the picture.
        colour_filter (`bool`): Whether each pixel of the sensor sees one colour alone (a Bayer array, interpolated
            linearly).
        full_well (`float`): Electrons at white; their number is a Poisson variable (here with its mean, its variance
            to 1/8, and its skewness). Infinite: no shot noise.
        read_noise (`float`): Standard deviation in electrons; needs a finite `full_well`.
        gain (`float`): In stops, after the sensor.
        balance (`tuple[float, float, float]`): White balance: factors of linear light by channel, after the sensor.
        gamma (`float`): Exponent of the tone curve on sRGB values; above 1 is darker.
        contrast (`float`): Slope of the tone curve, an S, at its middle.
        saturation (`float`): Of the colours: 1 as they are, 0 grey.
        sharpening (`float`): Weight of the unsharp mask.
        resizes (`tuple[tuple[float, str], ...]`): Sizes, as shares of those of the picture, with a name out of
            `FILTERS`; one after the other.
        jpegs (`tuple[tuple[int, str], ...]`): Quality (1 to 100) with one of `SUBSAMPLINGS`; one after the other, the
            first after the first resize, and so on.
    """

    disc: float = 0.0
    aberrations: tuple[float, ...] | None = None
    path: tuple[tuple[float, float], ...] = ()
    light: tuple[float, float, float] = (1.0, 1.0, 1.0)
    exposure: float = 0.0
    resolution: float = 1.0
    colour_filter: bool = False
    full_well: float = math.inf
    read_noise: float = 0.0
    gain: float = 0.0
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    sharpening: float = 0.0
    resizes: tuple[tuple[float, str], ...] = ()
    jpegs: tuple[tuple[int, str], ...] = ()

    def take(self, image: np.ndarray, random: np.random.RandomState) -> np.ndarray:
        """
        The picture of this shot.

        Args:
            image: (H, W, 3) RGB, uint8.
            random: Of the noise of the sensor; it moves on by the size of the sensor, whatever the shot is.

        Returns:
            (H, W, 3) RGB, uint8.

        Raises:
            ValueError: `image` is not uint8 of shape (H, W, 3).
        """
        check_image(image)
        height, width = image.shape[:2]
        light = to_linear(image)
        for kernel in self._kernels(min(height, width)):
            # OpenCV applies large kernels by a Fourier transform, which leaves a little less than no light.
            light = np.maximum(cv2.filter2D(light, -1, kernel, borderType=cv2.BORDER_REPLICATE), 0)
        light = light * np.float32(2.0**self.exposure) * np.float32(self.light)
        light = self._sense(light, (_pixels(width, self.resolution), _pixels(height, self.resolution)), random)
        light = light * np.float32(2.0**self.gain) * np.float32(self.balance)
        return self._deliver(self._develop(light), (width, height))

    def _kernels(self, side: int) -> list[np.ndarray]:
        kernels = []
        if self.disc:
            kernels.append(disc_kernel(self.disc * side))
        if self.aberrations is not None:
            kernels.append(aberration_kernel(self.aberrations, side / 112))
        if self.path:
            kernels.append(path_kernel(np.array(self.path) * side))
        return kernels

    def _sense(self, light: np.ndarray, size: tuple[int, int], random: np.random.RandomState) -> np.ndarray:
        """What the pixels count, as shares of white in [0, 1]."""
        if size != (light.shape[1], light.shape[0]):
            light = cv2.resize(light, size, interpolation=cv2.INTER_AREA)
        noise = random.standard_normal((2, *light.shape)).astype(np.float32)
        if math.isfinite(self.full_well):
            # (z / 2 + sqrt(m)) ** 2 - 1/4 has the mean m and the variance m + 1/8.
            electrons = (noise[0] / 2 + np.sqrt(light * np.float32(self.full_well))) ** 2 - np.float32(0.25)
            light = (electrons + np.float32(self.read_noise) * noise[1]) / np.float32(self.full_well)
        steps = np.float32(2**SENSOR_BITS - 1)
        light = np.rint(np.clip(light, 0, 1) * steps) / steps
        return _demosaic(light) if self.colour_filter else light

    def _develop(self, light: np.ndarray) -> np.ndarray:
        """From linear light to the uint8 picture that the camera makes of it."""
        picture = to_srgb(np.clip(light, 0, 1))
        if self.gamma != 1:
            picture = picture ** np.float32(self.gamma)
        if self.contrast != 1:
            # x^c / (x^c + (1 - x)^c) has the slope c at one half, and keeps 0 and 1.
            high, low = picture ** np.float32(self.contrast), (1 - picture) ** np.float32(self.contrast)
            picture = high / (high + low)
        if self.saturation != 1:
            grey = (picture @ np.float32([0.2126, 0.7152, 0.0722]))[..., None]
            picture = grey + np.float32(self.saturation) * (picture - grey)
        if self.sharpening:
            picture = picture + np.float32(self.sharpening) * (picture - cv2.blur(picture, (3, 3)))
        return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)

    def _deliver(self, picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Resized and compressed as often as it is passed on; at `size`."""
        image = Image.fromarray(picture)
        for at in range(max(len(self.resizes), len(self.jpegs))):
            if at < len(self.resizes):
                share, name = self.resizes[at]
                image = image.resize((_pixels(size[0], share), _pixels(size[1], share)), FILTERS[name])
            if at < len(self.jpegs):
                quality, subsampling = self.jpegs[at]
                buffer = io.BytesIO()
                image.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
                image = Image.open(buffer).convert("RGB")
        if image.size != size:
            image = image.resize(size, Image.Resampling.BICUBIC)
        return np.array(image)


def _pixels(length: int, share: float) -> int:
    return max(1, round(length * share))


def to_linear(image: np.ndarray) -> np.ndarray:
    """uint8 sRGB to linear light, float32 in [0, 1] (IEC 61966-2-1)."""
    values = np.arange(256) / 255
    table = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return table.astype(np.float32)[image]


def to_srgb(light: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] to sRGB values in [0, 1], the inverse of [`to_linear`]."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** np.float32(1 / 2.4) - 0.055).astype(np.float32)


def disc_kernel(radius: float) -> np.ndarray:
    """The share of each pixel that lies within `radius` pixels of the middle of the middle one; sum 1, float32."""
    half, parts = math.ceil(radius), 24
    offsets = (np.arange((2 * half + 1) * parts) + 0.5) / parts - half - 0.5
    inside = offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius**2
    kernel = inside.reshape(2 * half + 1, parts, 2 * half + 1, parts).mean((1, 3))
    return _normalised(kernel) if kernel.any() else np.ones((1, 1), np.float32)


def aberration_kernel(coefficients: tuple[float, ...], scale: float = 1.0) -> np.ndarray:
    """
    Point spread function of a round pupil: the power of the Fourier transform of exp(2 pi i W), W the wave front.

    Args:
        coefficients: Waves (RMS) of each polynomial of `ZERNIKE`.
        scale: Pixels of a 112th of the side.

    Returns:
        (K, K) float32, K odd, sum 1.
    """
    size, radius = 63, 28.0
    x, y = np.meshgrid(*[(np.arange(size) - size // 2) / radius] * 2)
    wave_front = sum(weight * term(x, y) for weight, term in zip(coefficients, ZERNIKE, strict=True))
    pupil = np.where(x**2 + y**2 <= 1, np.exp(2j * math.pi * wave_front), 0)
    kernel = np.abs(np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(pupil)))) ** 2
    if scale != 1:
        wanted = 2 * math.ceil(size * scale / 2) + 1
        # About its middle: pixel i of the new kernel lies at (i - wanted // 2) / scale of the old one.
        middle = wanted // 2 - scale * (size // 2)
        move = np.float64([[scale, 0, middle], [0, scale, middle]])
        kernel = cv2.warpAffine(kernel, move, (wanted, wanted), flags=cv2.INTER_LINEAR)
    return _normalised(kernel)


def path_kernel(points: np.ndarray) -> np.ndarray:
    """
    The time that a point spends in each pixel on its way through `points` (N, 2), x and y, in pixels, at equal times;
    about its mean place, so that the picture stays where it is. Sum 1, float32.
    """
    times = np.linspace(0, len(points) - 1, 32 * len(points))
    way = np.stack([np.interp(times, np.arange(len(points)), axis) for axis in points.T], 1)
    way -= way.mean(0)
    half = math.ceil(np.abs(way).max()) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    corner = np.floor(way).astype(int)
    part = way - corner
    for right in (0, 1):
        for down in (0, 1):
            weight = np.abs(1 - right - part[:, 0]) * np.abs(1 - down - part[:, 1])
            np.add.at(kernel, (corner[:, 1] + down + half, corner[:, 0] + right + half), weight)
    # filter2D correlates: mirrored, the kernel moves what it spreads along the path.
    return _normalised(kernel[::-1, ::-1])


def _normalised(kernel: np.ndarray) -> np.ndarray:
    return (kernel / kernel.sum()).astype(np.float32)


def _demosaic(light: np.ndarray) -> np.ndarray:
    """What a Bayer array (RG, GB) leaves of the three channels, each interpolated linearly."""
    height, width = light.shape[:2]
    row, column = np.mgrid[:height, :width] % 2
    red, blue = (row == 0) & (column == 0), (row == 1) & (column == 1)
    kernel = np.float32([[1, 2, 1], [2, 4, 2], [1, 2, 1]])
    channels = []
    for at, seen in enumerate((red, ~(red | blue), blue)):
        mask = seen.astype(np.float32)
        values, weights = (
            cv2.filter2D(part, -1, kernel, borderType=cv2.BORDER_CONSTANT) for part in (light[..., at] * mask, mask)
        )
        # A sensor of one row or column has no pixel of some colour.
        channels.append(np.where(mask > 0, light[..., at], values / np.maximum(weights, np.float32(1e-6))))
    return np.stack(channels, -1)


# ---------------------------------------------------------------------------------------------------------------------
# The draw


# Each fault: from a strength in [0, 1] and the generator to the fields of a shot that it sets.


def _optics(strength: float, random: np.random.RandomState) -> dict:
    kind, *waves = random.uniform(-1, 1, 1 + len(ZERNIKE))
    if kind < 0:
        return {"disc": 0.04 * strength}
    length = math.sqrt(sum(wave**2 for wave in waves)) or 1.0
    return {"aberrations": tuple(0.8 * strength * wave / length for wave in waves)}


def _motion(strength: float, random: np.random.RandomState) -> dict:
    # A hand: the speed wanders about a drift.
    drift, wander = random.standard_normal((1, 2)), random.standard_normal((8, 2))
    steps = drift + 0.6 * np.cumsum(wander, 0) / math.sqrt(8)
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
    length = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
    return {"path": tuple((x, y) for x, y in (points * 0.14 * strength / length).tolist())}


def _darkness(strength: float, random: np.random.RandomState) -> dict:
    # A camera lifts some of what is missing, and the noise with it.
    lifted = random.uniform(0.3, 0.9)
    return {"exposure": -5 * strength, "gain": 5 * strength * lifted}


def _brightness(strength: float, random: np.random.RandomState) -> dict:
    return {"exposure": 2 * strength, "gain": -2 * strength * random.uniform(0, 0.5)}


def _sensor(strength: float, random: np.random.RandomState) -> dict:
    return {
        "full_well": 10 ** (4.3 - 2.4 * strength * random.uniform(0.6, 1)),
        "read_noise": 1.5 + 8 * strength * random.uniform(0, 1),
    }


def _resolution(strength: float, random: np.random.RandomState) -> dict:
    return {"resolution": 0.18**strength, "colour_filter": bool(random.uniform() < 0.7)}


def _colour(strength: float, random: np.random.RandomState) -> dict:
    warm, green, saturation = random.uniform(-1, 1, 3)
    # The lamp is warm or cold; the camera takes it for another one.
    light = tuple(2.0 ** (stops * strength) for stops in (0.9 * warm, 0.2 * green, -1.2 * warm))
    balance = tuple(2.0 ** (stops * strength) for stops in (0.5 * green, -0.3 * warm, 0.5 * saturation))
    return {"light": light, "balance": balance, "saturation": 1 + strength * (saturation - 0.25) * 0.8}


def _tone(strength: float, random: np.random.RandomState) -> dict:
    gamma, contrast, sharpening = random.uniform(-1, 1, 3)
    return {
        "gamma": 2.4 ** (strength * gamma),
        "contrast": 3.0 ** (strength * contrast),
        "sharpening": 2.5 * strength * max(0.0, sharpening),
    }


def _passing_on(strength: float, random: np.random.RandomState) -> dict:
    names = list(FILTERS)
    count = random.randint(1, 4)
    sizes = random.uniform(0, 1, 3)
    chosen = random.randint(len(names), size=3)
    # One step is as small as the strength says, the others lie between it and a little enlarged.
    smallest = 0.2**strength
    shares = [smallest, *(smallest + (1.3 - smallest) * size for size in sizes[1:count])]
    shares = [shares[at] for at in np.argsort(sizes[:count])]
    return {"resizes": tuple((float(share), names[at]) for share, at in zip(shares, chosen, strict=False))}


def _compression(strength: float, random: np.random.RandomState) -> dict:
    count = random.randint(1, 3)
    better, kinds = random.uniform(0, 0.4), random.randint(len(SUBSAMPLINGS), size=2)
    qualities = [97 - 87 * strength, 97 - 87 * strength * (1 - better)][:count]
    return {"jpegs": tuple((round(q), SUBSAMPLINGS[at]) for q, at in zip(qualities, kinds, strict=False))}


FAULTS: dict[str, Callable[[float, np.random.RandomState], dict]] = {
    "optics": _optics,
    "motion": _motion,
    "darkness": _darkness,
    "brightness": _brightness,
    "sensor": _sensor,
    "resolution": _resolution,
    "colour": _colour,
    "tone": _tone,
    "passing on": _passing_on,
    "compression": _compression,
}
MOST_FAULTS = 3
SLIGHT = 0.15


def draw_shot(random: np.random.RandomState) -> Shot:
    """
    A shot with one to three of `FAULTS`, each with a strength from U(SLIGHT, 1), and a little of all others, of
    strengths from U(0, SLIGHT). Darkness and brightness exclude each other: of the two the stronger one counts.
    """
    drawn_strengths = random.uniform(0, SLIGHT, len(FAULTS))
    grave = random.permutation(len(FAULTS))[: random.randint(1, MOST_FAULTS + 1)]
    drawn_strengths[grave] = random.uniform(SLIGHT, 1, len(grave))
    strengths = dict(zip(FAULTS, drawn_strengths.tolist(), strict=True))
    weaker = min(("darkness", "brightness"), key=lambda name: strengths[name])
    fields: dict = {}
    for name, strength in strengths.items():
        drawn = FAULTS[name](strength, random)
        if name != weaker:
            fields.update(drawn)
    return Shot(**fields)


def photograph(image: np.ndarray, seed: int) -> np.ndarray:
    """
    A worse picture of the same face: [`draw_shot`] and [`Shot.take`] from one seed.

    Args:
        image: (H, W, 3) RGB, uint8.
        seed: From 0 to 2**32 - 1.

    Returns:
        (H, W, 3) RGB, uint8.

    Raises:
        ValueError: `image` is not uint8 of shape (H, W, 3).
    """
    random = np.random.RandomState(seed)
    return draw_shot(random).take(image, random)
