# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import math
from collections import Counter

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from diffiqa_hf.degradations import BSRGANDegradation, degrade_face
from diffiqa_hf.degradations.bsrgan import (
    INTERPOLATIONS,
    AnisotropicBlur,
    BicubicHalve,
    ColourNoise,
    CorrelatedNoise,
    GreyNoise,
    IsotropicBlur,
    Jpeg,
    Resize,
    ShiftedBlurDownsample,
    anisotropic_gaussian_kernel,
    correlated_noise_covariance,
    draw_blur,
    draw_downsample,
    draw_jpeg,
    draw_noise,
    draw_num_passes,
    draw_pre_downsample,
    gaussian_kernel,
    shifted_gaussian_kernel,
)
from diffiqa_hf.degradations.filtering import TRIMMED_WEIGHT


BLURS = (IsotropicBlur, AnisotropicBlur)
NOISES = (ColourNoise, GreyNoise, CorrelatedNoise)
DOWNSAMPLINGS = (Resize, ShiftedBlurDownsample)
DRAWS = 4000


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def image(rng):
    return rng.random((64, 64, 3), dtype=np.float32)


@pytest.fixture
def picture(rng):
    """Smooth shapes with edges, uint8."""
    y, x = np.mgrid[:112, :112] / 112
    face = ((x - 0.5) ** 2 / 0.09 + (y - 0.5) ** 2 / 0.16 < 1) * 120 + 60 * x + 20 * np.sin(40 * y)
    return np.stack([face + 40, face, face + 20 * y], -1).clip(0, 255).astype(np.uint8)


def share(condition):
    return float(np.mean(list(condition)))


def close(probability, draws=DRAWS):
    """The probability within four standard errors of a share out of `draws`."""
    return pytest.approx(probability, abs=4 * math.sqrt(probability * (1 - probability) / draws))


def assert_uniform(values, low, high):
    """Within the range, near both ends, and with the mean of U(low, high) to four standard errors."""
    values, width = np.asarray(values), high - low
    assert low <= values.min() < low + 0.03 * width
    assert high - 0.03 * width < values.max() <= high
    assert values.mean() == pytest.approx((low + high) / 2, abs=4 * width / math.sqrt(12 * len(values)))


# Kernels


@pytest.mark.parametrize("size", [7, 15, 25])
@pytest.mark.parametrize("sigma", [0.05, 0.7, 2.8])
def test_isotropic_kernel_is_the_closed_form(size, sigma):
    half = size // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    expected = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    kernel = gaussian_kernel(size, sigma)
    np.testing.assert_allclose(np.outer(kernel, kernel), expected / expected.sum(), atol=1e-15)


def test_a_blur_of_no_width_is_the_identity(image, rng):
    np.testing.assert_allclose(IsotropicBlur(7, 0.0).apply(image.copy(), rng), image)
    np.testing.assert_allclose(AnisotropicBlur(7, (0.0, 0.0), 1.0).apply(image.copy(), rng), image)


@pytest.mark.parametrize(("eigenvalues", "angle"), [((6.0, 0.5), 0.4), ((0.3, 7.9), 2.5), ((3.0, 3.0), 1.0)])
def test_anisotropic_kernel_is_the_normal_density(eigenvalues, angle):
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    inverse = np.linalg.inv(turn @ np.diag(eigenvalues) @ turn.T)
    expected = np.empty((9, 9))
    for row in range(9):
        for column in range(9):
            offset = np.array([column - 4, row - 4])
            expected[row, column] = math.exp(-0.5 * offset @ inverse @ offset)
    np.testing.assert_allclose(
        anisotropic_gaussian_kernel(9, eigenvalues, angle), expected / expected.sum(), atol=1e-14
    )


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("sigma", [0.6, 1.2])
def test_shifted_kernel_moves_the_mean(scale, sigma):
    kernel = shifted_gaussian_kernel(sigma, scale)
    taps = np.arange(25) - 12
    assert kernel.sum() == pytest.approx(1)
    assert kernel @ taps == pytest.approx((scale - 1) / 2, abs=1e-6)
    # Moving by half a pixel averages two neighbours, which adds a quarter to the variance.
    assert kernel @ (taps - kernel @ taps) ** 2 == pytest.approx(sigma**2 + 0.25, abs=2e-2)


# Steps


@pytest.mark.parametrize(
    "blur",
    [
        IsotropicBlur(25, 2.8),
        IsotropicBlur(7, 2.8),
        AnisotropicBlur(21, (7.0, 0.4), 0.7),
        AnisotropicBlur(7, (2, 5), 2),
    ],
)
def test_blur_agrees_with_an_untrimmed_float64_convolution(blur, rng):
    image = rng.random((64, 64, 3), dtype=np.float32)  # noise, where what is left out is seen most
    if isinstance(blur, IsotropicBlur):
        kernel = np.outer(gaussian_kernel(blur.size, blur.sigma), gaussian_kernel(blur.size, blur.sigma))
    else:
        kernel = anisotropic_gaussian_kernel(blur.size, blur.eigenvalues, blur.angle)
    expected = ndimage.convolve(image.astype(np.float64), kernel[..., None], mode="mirror")
    errors = np.abs(blur.apply(image.copy(), rng) - expected)
    assert errors.max() < TRIMMED_WEIGHT / 2 and errors.mean() < TRIMMED_WEIGHT / 10


@pytest.mark.parametrize("scale", [2, 4])
def test_down_samplings_keep_the_place_of_a_ramp(scale, rng):
    # Output pixel i stands for the middle of its block of input pixels, at scale * i + (scale - 1) / 2.
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32)[:, None, None], (1, 64, 3))
    expected = (scale * np.arange(64 // scale) + (scale - 1) / 2) / 63
    steps = [ShiftedBlurDownsample(0.5 * scale, scale)] + [BicubicHalve()] * (scale == 2)
    for step in steps:
        result = step.apply(ramp.copy(), rng)
        assert result.shape == (64 // scale, 64 // scale, 3)
        np.testing.assert_allclose(result[4:-4, 5, 1], expected[4:-4], atol=2e-5)


def test_bicubic_halving_by_hand(rng):
    # cubic(d / 2) / 2 at d = .5, 1.5, 2.5, 3.5: 0.43359375, 0.11328125, -0.03515625, -0.01171875.
    weights = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
    line = rng.uniform(0.3, 0.7, 16).astype(np.float32)
    result = BicubicHalve().apply(np.tile(line[:, None, None], (1, 16, 3)), rng)[:, 3, 0]
    assert result[4] == pytest.approx(weights @ line[5:13], abs=1e-6)
    assert result[0] == pytest.approx(weights @ np.concatenate([line[:3][::-1], line[:5]]), abs=1e-6)


def test_every_step_stays_in_range_and_float32(rng):
    image = np.round(rng.random((64, 64, 3))).astype(np.float32)
    covariance = correlated_noise_covariance(np.ones(3), np.eye(3))
    steps = [
        IsotropicBlur(9, 1.0),
        AnisotropicBlur(25, (8.0, 1.0), 0.3),
        BicubicHalve(),
        ShiftedBlurDownsample(1.0, 4),
    ]
    steps += [Resize(40, interpolation) for interpolation in INTERPOLATIONS] + [Resize(100, cv2.INTER_CUBIC)]
    steps += [ColourNoise(25), GreyNoise(25), CorrelatedNoise(covariance), Jpeg(30)]
    for step in steps:
        result = step.apply(image.copy(), rng)
        assert result.dtype == np.float32, step
        assert result.min() >= -1e-6 and result.max() <= 1 + 1e-6, step


def residual(step, rng):
    grey = np.full((400, 400, 3), 0.5, np.float32)
    return (step.apply(grey.copy(), rng) - grey).reshape(-1, 3)


def test_colour_noise_is_independent_in_the_channels(rng):
    covariance = np.cov(residual(ColourNoise(20), rng).T)
    np.testing.assert_allclose(covariance, np.eye(3) * (20 / 255) ** 2, atol=1e-4)


def test_grey_noise_is_the_same_in_the_channels(rng):
    noise = residual(GreyNoise(10), rng)
    assert noise[:, 0].std() == pytest.approx(10 / 255, rel=0.02)
    np.testing.assert_allclose(noise[:, [1, 2]], noise[:, [0, 0]], atol=1e-6)


def test_correlated_noise_has_the_covariance_of_its_formula(rng):
    variances = rng.random(3)
    basis = np.linalg.svd(rng.random((3, 3)))[0]
    expected = np.abs((25 / 255) ** 2 * basis.T @ np.diag(variances) @ basis)
    step = CorrelatedNoise(correlated_noise_covariance(variances, basis))
    np.testing.assert_allclose(step.covariance, expected, atol=1e-15)
    np.testing.assert_allclose(np.cov(residual(step, rng).T), expected, atol=1e-4)


def test_correlated_noise_covariances_are_covariances(rng):
    smallest = [
        np.linalg.eigvalsh(correlated_noise_covariance(rng.random(3), np.linalg.svd(rng.random((3, 3)))[0]))[0]
        for _ in range(500)
    ]
    assert min(smallest) > -1e-15


# Draws


@pytest.mark.parametrize("scale", [2, 4])
def test_drawn_blurs(scale, rng):
    blurs = [draw_blur(rng, scale) for _ in range(DRAWS)]
    isotropic = [blur for blur in blurs if isinstance(blur, IsotropicBlur)]
    anisotropic = [blur for blur in blurs if isinstance(blur, AnisotropicBlur)]
    assert len(anisotropic) / DRAWS == close(0.5)
    sizes = Counter(blur.size for blur in blurs)
    assert sorted(sizes) == list(range(7, 26, 2))
    assert all(count / DRAWS == close(0.1) for count in sizes.values())
    assert_uniform([blur.sigma for blur in isotropic], 0, 2 + 0.2 * scale)
    assert_uniform([blur.eigenvalues[0] for blur in anisotropic], 0, 4 + scale)
    assert_uniform([blur.eigenvalues[1] for blur in anisotropic], 0, 4 + scale)
    assert_uniform([blur.angle for blur in anisotropic], 0, math.pi)


def test_drawn_noise(rng):
    noises = [draw_noise(rng) for _ in range(DRAWS)]
    for kind, probability in ((ColourNoise, 0.4), (GreyNoise, 0.4), (CorrelatedNoise, 0.2)):
        assert share(isinstance(noise, kind) for noise in noises) == close(probability)
    levels = Counter(noise.level for noise in noises if not isinstance(noise, CorrelatedNoise))
    assert sorted(levels) == list(range(2, 26))
    # A diagonal element is L^2 times a weighted mean of U(0, 1) variables.
    diagonals = [noise.covariance.diagonal() for noise in noises if isinstance(noise, CorrelatedNoise)]
    assert np.mean(diagonals) == pytest.approx(0.5 * (25 / 255) ** 2, rel=0.05)


def test_drawn_jpeg_qualities(rng):
    qualities = Counter(draw_jpeg(rng).quality for _ in range(DRAWS))
    assert sorted(qualities) == list(range(30, 96))


@pytest.mark.parametrize(("size", "scale"), [(512, 4), (256, 2)])
def test_drawn_downsamplings(size, scale, rng):
    steps = [draw_downsample(rng, size, scale) for _ in range(DRAWS)]
    resized = [step for step in steps if isinstance(step, Resize)]
    shifted = [step for step in steps if isinstance(step, ShiftedBlurDownsample)]
    assert len(resized) / DRAWS == close(0.75)
    assert_uniform([size / step.size for step in resized], 1, 2 * scale * 1.02)
    assert min(step.size for step in resized) >= size // (2 * scale)
    assert_uniform([step.sigma for step in shifted], 0.1, 0.6 * scale)
    assert {step.scale for step in shifted} == {scale}
    for interpolation in INTERPOLATIONS:
        assert share(step.interpolation == interpolation for step in resized) == close(1 / 3, len(resized))


def test_drawn_pre_downsamplings(rng):
    steps = [draw_pre_downsample(rng) for _ in range(DRAWS)]
    assert share(isinstance(step, BicubicHalve) for step in steps) == close(0.5)
    assert {step.size for step in steps if isinstance(step, Resize)} == {256}


def test_drawn_plans(rng):
    plans = [BSRGANDegradation().draw_plan(rng) for _ in range(DRAWS)]
    halved, positions, jpegs = [], {"blur": [], "noise": []}, []
    for plan in plans:
        # Three down-samplings say that the image was halved first.
        places = [place for place, step in enumerate(plan) if isinstance(step, (*DOWNSAMPLINGS, BicubicHalve))]
        pre = len(places) == 3
        halved.append(pre)
        assert len(places) == 2 + pre
        assert not pre or places[0] == 0
        last = plan[places[-1]]
        assert isinstance(last, Resize) and last.size == 128
        scale = 2 if pre else 4
        first = plan[places[-2]]
        assert first.scale == scale if isinstance(first, ShiftedBlurDownsample) else 64 <= first.size <= 128 * scale

        body = plan[pre:-1]
        assert isinstance(plan[-1], Jpeg)
        assert sum(isinstance(step, BLURS) for step in body) == 2
        assert sum(isinstance(step, NOISES) for step in body) == 1
        jpegs.append(sum(isinstance(step, Jpeg) for step in body))
        if jpegs[-1]:
            positions["noise"].append(next(i for i, step in enumerate(body) if isinstance(step, NOISES)))
            positions["blur"].append(next(i for i, step in enumerate(body) if isinstance(step, BLURS)))
    assert share(halved) == close(0.25)
    assert set(jpegs) == {0, 1}
    assert share(jpegs) == close(0.9)
    # Noise is as likely at each of the six places; the first of two blurs is at k in (5 - k) of 15 orders.
    for place in range(6):
        draws = len(positions["noise"])
        assert share(position == place for position in positions["noise"]) == close(1 / 6, draws)
        assert share(position == place for position in positions["blur"]) == close((5 - place) / 15, draws)


# The whole


def test_same_generator_same_pixels(picture):
    degradation = BSRGANDegradation()
    first, again, other = (
        [degradation(picture, generator) for _ in range(6)]
        for generator in (np.random.default_rng(3), np.random.default_rng(3), np.random.default_rng(4))
    )
    np.testing.assert_array_equal(first, again)
    assert len({result.tobytes() for result in first + other}) == 12
    # Nothing comes from the global generator.
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    np.testing.assert_array_equal(degradation(picture, np.random.default_rng(3)), first[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("shape", [(112, 112, 3), (218, 178, 3), (1, 1, 3), (600, 700, 3)])
def test_output_is_a_new_128_square(shape, rng):
    image = rng.integers(0, 256, shape, dtype=np.uint8)
    original = image.copy()
    result = BSRGANDegradation()(image, rng)
    assert result.shape == (128, 128, 3) and result.dtype == np.uint8
    np.testing.assert_array_equal(image, original)


def test_a_grey_area_keeps_its_brightness(rng):
    # Blur, down-sampling and JPEG keep a constant, and noise has mean 0: so no step drifts or swaps a channel.
    flat = np.full((112, 112, 3), (90, 120, 160), np.uint8)
    means = np.mean([BSRGANDegradation()(flat, rng).mean((0, 1)) for _ in range(20)], 0)
    np.testing.assert_allclose(means, (90, 120, 160), atol=1.5)


@pytest.mark.parametrize("size", [112, 64])
def test_degrade_face(size, picture, rng):
    results = [degrade_face(picture, rng, size=size) for _ in range(10)]
    assert all(result.shape == (size, size, 3) and result.dtype == np.uint8 for result in results)
    clean = np.asarray(Image.fromarray(picture).resize((size, size)), float)
    errors = [np.mean((result - clean) ** 2) for result in results]
    assert min(errors) > 1
    # Degraded, but still that picture.
    assert all(np.corrcoef(result.ravel(), clean.ravel())[0, 1] > 0.8 for result in results)


def moments(image, clean):
    """What a degradation does: its error in all and in colour, its shift, its fine detail, how it is correlated."""
    image = image.astype(float)
    change = image - clean
    grey = change.mean(2)
    return [
        np.log(np.mean(change**2)),
        change.mean(),
        np.log(np.mean((change - grey[..., None]) ** 2)),
        np.log(np.mean(np.diff(image.mean(2), axis=1) ** 2)),
        np.mean(grey[:, 1:] * grey[:, :-1]) / np.mean(grey**2),
        np.arctanh(np.corrcoef(image.ravel(), clean.ravel())[0, 1]),
    ]


# Means and standard deviations over 3,000 draws by the code of 25 November 2026, whose filters and noise were exact.
RECORDED_MEANS = (5.0826, 0.5944, 1.1808, 3.6689, 0.4247, 2.3184)
RECORDED_DEVIATIONS = (0.5125, 0.387, 0.6846, 0.7133, 0.1988, 0.2593)


def test_the_distribution_is_that_of_exact_filters_and_noise(picture):
    generator, draws = np.random.default_rng(2), 240
    found = np.array([moments(degrade_face(picture, generator), picture.astype(float)) for _ in range(draws)])
    deviations = np.array(RECORDED_DEVIATIONS)
    np.testing.assert_array_less(np.abs(found.mean(0) - RECORDED_MEANS), 4 * deviations / draws**0.5)
    # The relative variance of a standard deviation is (excess kurtosis + 2) / 4 n; that of a double exponential is 3.
    np.testing.assert_allclose(found.std(0), deviations, rtol=4 * (5 / (4 * draws)) ** 0.5)


def test_drawn_numbers_of_passes(rng):
    passes = Counter(draw_num_passes(rng) for _ in range(DRAWS))
    assert passes[1] / DRAWS == close(0.8 * 0.99)
    assert passes[2] / DRAWS == close(0.2 * 0.99 + 0.8 * 0.01)
    assert passes[3] / DRAWS == close(0.2 * 0.01)
    assert set(passes) <= {1, 2, 3}


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((8, 8, 3), np.float32), "float32"),
        (np.zeros((8, 8), np.uint8), r"\(8, 8\)"),
        (np.zeros((3, 8, 8), np.uint8), r"\(3, 8, 8\)"),
        (np.zeros((0, 8, 3), np.uint8), "empty"),
        (Image.new("RGB", (8, 8)), "Image"),
    ],
)
def test_wrong_images_are_refused(image, reason, rng):
    with pytest.raises(ValueError, match=reason):
        degrade_face(image, rng)
