# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The part of the BSRGAN degradation (Zhang et al., ICCV 2021) that the DifFIQA authors use as `d(x)`.

Follows `degradation_bsrgan` (not `_plus`) of cszn/BSRGAN as called by LSIbabnikz/DifFIQA: the image is resized to
512x512, blurred twice, down-sampled in two steps to 128x128, given Gaussian noise and JPEG artefacts, all in random
order, and compressed once more. A call first draws a plan, a list of the small steps of this module, and then applies
it; every random number comes from the `numpy.random.Generator` that the caller gives.

What differs from the authors' code, none of it in distribution:

- Random numbers are drawn in another order from another generator, so their seeds give other images.
- The camera sensor (ISP) step is left out. The authors draw it with probability .25 but supply no ISP model, so in
  their code it does nothing.
- Gaussian kernels come in closed form, applied as two 1-D filters where they are separable. Taps that weigh less than
  4e-3 together are left out: a grey level if all neighbours conspire, a tenth of one in pictures.
- Noise is drawn from 65,536 evenly spaced quantiles of the normal distribution (the outermost at 4.3 standard
  deviations), and the channel-correlated kind through a square root of its covariance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image

from .filtering import BUFFERS, New, correlate, draw_normal, filter_every, negligible, new_array, trimmed
from .image_check import check_image


WORKING_SIZE = 512
SCALE = 4
OUTPUT_SIZE = WORKING_SIZE // SCALE

PRE_DOWNSAMPLE_PROBABILITY = 0.25
ANISOTROPIC_PROBABILITY = 0.5
RESIZE_PROBABILITY = 0.75
JPEG_PROBABILITY = 0.9
NOISE_LEVELS = (2, 25)
JPEG_QUALITIES = (30, 95)
PASS_PROBABILITIES = (1.0, 0.2, 0.01)
INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA)

_SHIFTED_KERNEL_SIZE = 25


def gaussian_kernel(size: int, sigma: float) -> np.ndarray:
    """1-D Gaussian of `size` taps (odd) with standard deviation `sigma` in pixels, sum 1.

    Its outer product with itself is the isotropic kernel `fspecial("gaussian", size, sigma)` of MATLAB and BSRGAN.
    """
    x = np.arange(size) - (size - 1) / 2
    # The floor keeps the middle tap from 0 / 0 where a draw from U(0, s) is 0; below it the kernel is one tap anyway.
    kernel = np.exp(-(x**2) / (2 * max(sigma, 1e-3) ** 2))
    return kernel / kernel.sum()


def anisotropic_gaussian_kernel(size: int, eigenvalues: Sequence[float], angle: float) -> np.ndarray:
    """2-D Gaussian of `size` x `size` taps (odd), sum 1.

    Args:
        size: Taps along each side.
        eigenvalues: Variance in squared pixels along the axis at `angle`, and across it.
        angle: Radians from the x axis towards the y axis.
    """
    along, across = (max(value, 1e-6) for value in eigenvalues)
    x = np.arange(size) - (size - 1) / 2
    u = math.cos(angle) * x[None, :] + math.sin(angle) * x[:, None]
    v = math.cos(angle) * x[:, None] - math.sin(angle) * x[None, :]
    kernel = np.exp(-0.5 * (u**2 / along + v**2 / across))
    return kernel / kernel.sum()


def shifted_gaussian_kernel(sigma: float, scale: int) -> np.ndarray:
    """1-D Gaussian of 25 taps, moved by (scale - 1) / 2 pixels by linear interpolation, for use with correlation.

    Every `scale`-th pixel of an image filtered with it, from the first on, is an average about the middle of its
    block. BSRGAN moves the 2-D kernel to the upper left and convolves; correlation needs it mirrored.
    """
    kernel = gaussian_kernel(_SHIFTED_KERNEL_SIZE, sigma)
    taps = np.arange(_SHIFTED_KERNEL_SIZE)
    kernel = np.interp(np.minimum(taps + (scale - 1) / 2, _SHIFTED_KERNEL_SIZE - 1), taps, kernel)[::-1]
    return kernel / kernel.sum()


def correlated_noise_covariance(variances: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Channel covariance |L^2 U^T D U| of BSRGAN's third kind of noise, elementwise absolute, L = 25 / 255.

    The elementwise absolute value of a positive semidefinite 3x3 matrix is positive semidefinite again (the principal
    minors of order 2 stay, the determinant can only grow), so this is always a covariance.

    Args:
        variances: (3,) diagonal of D, in [0, 1].
        basis: (3, 3) orthonormal U.
    """
    return np.abs((NOISE_LEVELS[1] / 255) ** 2 * (basis.T * variances) @ basis)


@lru_cache(maxsize=1)
def _bicubic_halving_kernel() -> np.ndarray:
    # MATLAB's imresize(x, 1/2) stretches the cubic (a = -.5) by two. At this ratio every output pixel lies midway
    # between two input pixels, so that one set of eight weights serves all.
    x = np.abs(np.arange(8) - 3.5) / 2
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    kernel = np.where(x <= 1, near, far)
    return kernel / kernel.sum()


def _clip(image: np.ndarray) -> np.ndarray:
    return np.clip(image, 0.0, 1.0, out=image)


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return cv2.convertScaleAbs(image, alpha=255.0)


# Every step maps a float32 (H, H, 3) RGB image in [0, 1] to another one and may write over its input. `new` gives it
# arrays of the shapes that it asks for, with anything in them; it takes three at most, and returns one of them.


@dataclass(frozen=True)
class Resize:
    """Resize to `size` x `size` with an interpolation of OpenCV."""

    size: int
    interpolation: int

    def apply(self, image: np.ndarray, rng: np.random.Generator, new: New = new_array) -> np.ndarray:
        size = (self.size, self.size)
        image = cv2.resize(image, size, dst=new((*size, 3)), interpolation=self.interpolation)
        # The others are means, and leave the range by rounding at most.
        return _clip(image) if self.interpolation == cv2.INTER_CUBIC else image


@dataclass(frozen=True)
class BicubicHalve:
    """Halve the size with MATLAB's antialiased bicubic (symmetric border)."""

    def apply(self, image: np.ndarray, rng: np.random.Generator, new: New = new_array) -> np.ndarray:
        kernel = _bicubic_halving_kernel()
        return _clip(filter_every(image, kernel, 3, 2, cv2.BORDER_REFLECT, new))


@dataclass(frozen=True)
class ShiftedBlurDownsample:
    """Blur with the shifted Gaussian and take every `scale`-th pixel (mirror border)."""

    sigma: float
    scale: int

    def apply(self, image: np.ndarray, rng: np.random.Generator, new: New = new_array) -> np.ndarray:
        kernel = shifted_gaussian_kernel(self.sigma, self.scale)
        start, end = negligible(kernel), len(kernel) - negligible(kernel[::-1])
        kernel, middle = kernel[start:end] / kernel[start:end].sum(), len(kernel) // 2 - start
        return filter_every(image, kernel, middle, self.scale, cv2.BORDER_REFLECT_101, new)


@dataclass(frozen=True)
class IsotropicBlur:
    """Gaussian blur with `size` taps a side and standard deviation `sigma` in pixels (mirror border)."""

    size: int
    sigma: float

    def apply(self, image: np.ndarray, rng: np.random.Generator, new: New = new_array) -> np.ndarray:
        kernel = trimmed(gaussian_kernel(self.size, self.sigma))
        return cv2.sepFilter2D(image, -1, kernel, kernel, dst=new(image.shape), borderType=cv2.BORDER_REFLECT_101)


@dataclass(frozen=True)
class AnisotropicBlur:
    """Gaussian blur with `size` taps a side, two `eigenvalues` (variances) and their `angle` (mirror border)."""

    size: int
    eigenvalues: tuple[float, float]
    angle: float

    def apply(self, image: np.ndarray, rng: np.random.Generator, new: New = new_array) -> np.ndarray:
        kernel = anisotropic_gaussian_kernel(self.size, self.eigenvalues, self.angle)
        return correlate(image, kernel, new)


@dataclass(frozen=True)
class ColourNoise:
    """Gaussian noise, independent in each pixel and channel, with standard deviation `level` / 255."""

    level: int

    def apply(self, image: np.ndarray, rng: np.random.Generator, new: New = new_array) -> np.ndarray:
        noise = draw_normal(rng, new(image.shape))
        return _clip(cv2.scaleAdd(noise, self.level / 255, image, dst=noise))


@dataclass(frozen=True)
class GreyNoise:
    """Gaussian noise, independent in each pixel, the same in its channels, with standard deviation `level` / 255."""

    level: int

    def apply(self, image: np.ndarray, rng: np.random.Generator, new: New = new_array) -> np.ndarray:
        noise = cv2.merge([draw_normal(rng, new(image.shape[:2]))] * 3, dst=new(image.shape))
        return _clip(cv2.scaleAdd(noise, self.level / 255, image, dst=noise))


@dataclass(frozen=True, eq=False)  # arrays don't compare to one truth value
class CorrelatedNoise:
    """Gaussian noise, independent in each pixel, whose channels have the given 3x3 `covariance`."""

    covariance: np.ndarray

    def apply(self, image: np.ndarray, rng: np.random.Generator, new: New = new_array) -> np.ndarray:
        values, vectors = np.linalg.eigh(self.covariance)
        root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
        noise = draw_normal(rng, new(image.shape))
        noise = cv2.transform(noise, root.astype(np.float32), dst=new(image.shape))
        return _clip(cv2.add(image, noise, dst=noise))


@dataclass(frozen=True)
class Jpeg:
    """JPEG compression with OpenCV's encoder at `quality` (0 to 100)."""

    quality: int

    def apply(self, image: np.ndarray, rng: np.random.Generator, new: New = new_array) -> np.ndarray:
        image = compress_jpeg(_to_uint8(image), self.quality)
        return np.multiply(image, np.float32(1 / 255), out=new(image.shape))


Step = (
    Resize
    | BicubicHalve
    | ShiftedBlurDownsample
    | IsotropicBlur
    | AnisotropicBlur
    | ColourNoise
    | GreyNoise
    | CorrelatedNoise
    | Jpeg
)


def compress_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Compress and decompress a uint8 (H, W, 3) RGB image."""
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def draw_interpolation(rng: np.random.Generator) -> int:
    """Linear, cubic or area, each as likely."""
    return INTERPOLATIONS[rng.integers(len(INTERPOLATIONS))]


def draw_blur(rng: np.random.Generator, scale: int) -> IsotropicBlur | AnisotropicBlur:
    """Half the time anisotropic; 7, 9, ... or 25 taps a side.

    Anisotropic: two eigenvalues from U(0, 4 + scale), angle from U(0, pi). Isotropic: sigma from U(0, 2 + scale / 5).
    """
    anisotropic = rng.random() < ANISOTROPIC_PROBABILITY
    size = int(2 * rng.integers(2, 11, endpoint=True) + 3)
    if anisotropic:
        along, across, angle = (rng.random(3) * (4 + scale, 4 + scale, math.pi)).tolist()
        return AnisotropicBlur(size, (along, across), angle)
    return IsotropicBlur(size, rng.random() * (2 + 0.2 * scale))


def draw_noise(rng: np.random.Generator) -> ColourNoise | GreyNoise | CorrelatedNoise:
    """40 % per-channel and 40 % grey noise with a level from 2 to 25 (of 255), 20 % channel-correlated noise."""
    kind = rng.random()
    level = int(rng.integers(*NOISE_LEVELS, endpoint=True))
    if kind > 0.6:
        return ColourNoise(level)
    if kind < 0.4:
        return GreyNoise(level)
    return CorrelatedNoise(correlated_noise_covariance(rng.random(3), np.linalg.svd(rng.random((3, 3)))[0]))


def draw_jpeg(rng: np.random.Generator) -> Jpeg:
    """A quality from 30 to 95."""
    return Jpeg(int(rng.integers(*JPEG_QUALITIES, endpoint=True)))


def draw_pre_downsample(rng: np.random.Generator) -> Resize | BicubicHalve:
    """To half the size, half the time with a random interpolation and half the time with the antialiased bicubic."""
    if rng.random() < 0.5:
        return Resize(WORKING_SIZE // 2, draw_interpolation(rng))
    return BicubicHalve()


def draw_downsample(rng: np.random.Generator, size: int, scale: int) -> Resize | ShiftedBlurDownsample:
    """75 %: resize by 1 / U(1, 2 * scale); else shifted Gaussian, sigma from U(.1, .6 * scale), and sub-sampling."""
    if rng.random() < RESIZE_PROBABILITY:
        return Resize(int(size / rng.uniform(1, 2 * scale)), draw_interpolation(rng))
    return ShiftedBlurDownsample(rng.uniform(0.1, 0.6 * scale), scale)


def draw_num_passes(rng: np.random.Generator) -> int:
    """How often [`degrade_face`] degrades a face: once, with probability .2 once more, with .01 once more."""
    return sum(rng.random() < probability for probability in PASS_PROBABILITIES)


class BSRGANDegradation:
    """The BSRGAN degradation with the settings of the DifFIQA authors: one call of their `auto_degrade`.

    An image of any size is resized to 512x512 (both sides forced), degraded and comes back at 128x128.
    """

    def draw_plan(self, rng: np.random.Generator) -> list[Step]:
        """Draw the steps of one degradation of a 512x512 image, in their order, with their parameters.

        With probability .25 the image is first halved and the scale factor is 2 instead of 4. Then, in random order,
        two blurs, two down-samplings of which the second is always to 128x128, noise, and JPEG with probability .9.
        JPEG ends it.
        """
        plan: list[Step] = []
        size, scale = WORKING_SIZE, SCALE
        if rng.random() < PRE_DOWNSAMPLE_PROBABILITY:
            plan.append(draw_pre_downsample(rng))
            size, scale = size // 2, scale // 2

        order = ["blur", "blur", "downsample", "downsample", "noise", "jpeg"]
        downsampled = False
        for name in (order[index] for index in rng.permutation(len(order))):
            if name == "blur":
                plan.append(draw_blur(rng, scale))
            elif name == "noise":
                plan.append(draw_noise(rng))
            elif name == "jpeg":
                if rng.random() < JPEG_PROBABILITY:
                    plan.append(draw_jpeg(rng))
            elif downsampled:
                plan.append(Resize(OUTPUT_SIZE, draw_interpolation(rng)))
            else:
                plan.append(draw_downsample(rng, size, scale))
                downsampled = True
        plan.append(draw_jpeg(rng))
        return plan

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Degrade one image.

        Args:
            image: (H, W, 3) RGB, uint8.
            rng: The source of all that is random; it moves on.

        Returns:
            (128, 128, 3) RGB, uint8.

        Raises:
            ValueError: If `image` is not uint8 of shape (H, W, 3).
        """
        check_image(image)
        size = (WORKING_SIZE, WORKING_SIZE)
        # In whole grey levels, as the authors do it: OpenCV rounds them down, by a ninth of one in the mean.
        image = np.multiply(cv2.resize(image, size), np.float32(1 / 255), out=BUFFERS.new((*size, 3)))
        for step in self.draw_plan(rng):
            image = step.apply(image, rng, BUFFERS.new)
        return _to_uint8(image)


def degrade_face(image: np.ndarray, rng: np.random.Generator, size: int = 112) -> np.ndarray:
    """The degraded face d(x) on which the authors train their diffusion model.

    [`BSRGANDegradation`] once, with probability .2 once more, with probability .01 once more, then resized (bilinear
    with antialiasing, as Pillow does it).

    Args:
        image: (H, W, 3) RGB face crop, uint8.
        rng: The source of all that is random; it moves on.
        size: Side of the result in pixels.

    Returns:
        (size, size, 3) RGB, uint8.

    Raises:
        ValueError: If `image` is not uint8 of shape (H, W, 3).
    """
    degradation = BSRGANDegradation()
    for _ in range(draw_num_passes(rng)):
        image = degradation(image, rng)
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
