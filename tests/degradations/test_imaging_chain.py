# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import io
import math

import numpy as np
import pytest
from PIL import Image

from diffiqa_hf.degradations import Shot, draw_shot, photograph
from diffiqa_hf.degradations.imaging_chain import (
    FAULTS,
    FILTERS,
    SUBSAMPLINGS,
    aberration_kernel,
    disc_kernel,
    path_kernel,
    to_linear,
    to_srgb,
)


@pytest.fixture
def random():
    return np.random.RandomState(7)


@pytest.fixture
def face():
    """A head with edges and texture on a background, uint8, 112x112."""
    y, x = np.mgrid[:112, :112] / 112
    head = (x - 0.5) ** 2 / 0.09 + (y - 0.5) ** 2 / 0.16 < 1
    texture = 25 * np.sin(50 * x) * np.sin(60 * y)
    channels = [60 + 120 * head + texture, 70 + 80 * head + texture, 110 - 20 * head + 40 * x]
    return np.stack(channels, -1).clip(0, 255).astype(np.uint8)


def grey(value, size=96):
    return np.full((size, size, 3), value, np.uint8)


def error(image, other):
    return float(np.mean((image.astype(float) - other) ** 2))


# Kernels


def centre(kernel):
    row, column = np.mgrid[: kernel.shape[0], : kernel.shape[1]]
    return (kernel * column).sum() - kernel.shape[1] // 2, (kernel * row).sum() - kernel.shape[0] // 2


@pytest.mark.parametrize("radius", [0.3, 1.0, 2.5, 6.0])
def test_a_disc_is_even_inside_and_nothing_outside(radius):
    kernel = disc_kernel(radius)
    row, column = np.mgrid[: len(kernel), : len(kernel)] - len(kernel) // 2
    distance = np.hypot(row, column)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert centre(kernel) == pytest.approx((0, 0), abs=1e-5)
    assert not kernel[distance > radius + 0.71].any()
    inside = kernel[distance < radius - 0.71]
    np.testing.assert_allclose(inside, 1 / (math.pi * radius**2), rtol=0.03)


def test_a_perfect_lens_gives_a_small_spot_and_aberrations_a_larger_one():
    def spread(*coefficients, scale=1.0):
        kernel = aberration_kernel(coefficients, scale)
        row, column = np.mgrid[: len(kernel), : len(kernel)] - len(kernel) // 2
        assert kernel.sum() == pytest.approx(1, abs=1e-5) and kernel.min() >= 0
        return np.median(np.repeat(np.hypot(row, column).ravel(), np.rint(kernel.ravel() * 1e5).astype(int)))

    perfect = aberration_kernel((0,) * 6)
    assert perfect[31, 31] > 0.5 and centre(perfect) == pytest.approx((0, 0), abs=1e-4)
    for at in range(6):
        spreads = [spread(*(waves * (place == at) for place in range(6))) for waves in (0.0, 0.4, 1.0)]
        assert spreads[0] <= spreads[1] < spreads[2]
    # A spot of 112ths of the side has twice the pixels on a picture of 224.
    assert spread(0.8, 0, 0, 0, 0, 0, scale=2.0) == pytest.approx(2 * spread(0.8, 0, 0, 0, 0, 0), rel=0.2)


def test_a_path_spreads_along_it_and_stays_in_place(random):
    straight = path_kernel(np.array([[0, 0], [5, 0], [10, 0.0]]))
    row, column = np.nonzero(straight > 1e-6)
    assert set(row) == {len(straight) // 2}
    assert column.max() - column.min() == pytest.approx(10, abs=1.1)
    np.testing.assert_allclose(straight[len(straight) // 2][column][2:-2], 0.1, rtol=0.15)
    kernel = path_kernel(np.cumsum(random.standard_normal((9, 2)), 0) * 4)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert centre(kernel) == pytest.approx((0, 0), abs=1e-4)


# The faults one by one


def test_nothing_happens_by_default(face, random):
    np.testing.assert_array_equal(Shot().take(face, random), face)


def test_linear_light_and_back():
    values = np.arange(256, dtype=np.uint8)
    light = to_linear(values)
    np.testing.assert_allclose(to_srgb(light) * 255, values, atol=1e-3)
    # sRGB 188 is half of the light of white.
    assert light[188] == pytest.approx(0.503, abs=0.001)


def test_one_stop_is_twice_the_light(random):
    # The quantisation of the sensor is worth 1 / 4095 of white, half a grey level here.
    for value, other in ((188, 255), (137, 188), (99, 137)):
        assert Shot(exposure=1).take(grey(value), random)[5, 5, 0] == pytest.approx(other, abs=1)
        assert Shot(exposure=-1).take(grey(other), random)[5, 5, 0] == pytest.approx(value, abs=1)
    # What the sensor has clipped does not come back; what it has not, does.
    assert Shot(exposure=2, gain=-2).take(grey(220), random)[5, 5, 0] == pytest.approx(137, abs=1)
    assert Shot(exposure=-2, gain=2).take(grey(220), random)[5, 5, 0] == pytest.approx(220, abs=1)


@pytest.mark.parametrize(
    "shot", [Shot(disc=0.05), Shot(aberrations=(0.6, 0.3, 0, 0.4, 0, 0)), Shot(path=((0, 0), (0.1, 0.05)))]
)
def test_optics_blurs_linear_light(shot, random):
    # Stripes of black and white have the mean light of one half, which is 188 and not 128.
    stripes = np.zeros((112, 112, 3), np.uint8)
    stripes[:, ::2] = 255
    assert shot.take(stripes, random)[40:70, 40:70].mean() == pytest.approx(188, abs=3)
    np.testing.assert_allclose(shot.take(grey(90), random), 90, atol=1)


def test_black_beside_white_has_no_light_below_none(random):
    halves = np.zeros((112, 112, 3), np.uint8)
    halves[:, 56:] = 255
    with np.errstate(all="raise"):
        for shot in (Shot(disc=0.05, full_well=1000), Shot(path=((0, 0), (0.2, 0.1)), full_well=1000)):
            assert shot.take(halves, random)[:, :30].max() < 60


@pytest.mark.parametrize("value", [90, 140, 200])
def test_shot_noise_grows_with_the_light(value, random):
    full_well, read_noise = 400.0, 3.0
    light = float(to_linear(np.uint8([value]))[0])
    noisy = to_linear(Shot(full_well=full_well, read_noise=read_noise).take(grey(value, 200), random)) * full_well
    assert noisy.mean() == pytest.approx(light * full_well, rel=0.01)
    assert noisy.var() == pytest.approx(light * full_well + read_noise**2, rel=0.06)
    assert abs(np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1]) < 0.03


def test_a_lifted_dark_picture_is_noisier(face, random):
    errors = [
        error(Shot(full_well=5000, read_noise=4, exposure=-stops, gain=stops).take(face, random), face)
        for stops in (0, 2, 4, 6)
    ]
    assert errors == sorted(errors) and errors[-1] > 20 * errors[0]


def test_the_lamp_and_the_balance_work_by_channel(random):
    warm = Shot(light=(1.5, 1.0, 0.5)).take(grey(120), random)[3, 3].tolist()
    assert warm[0] > 130 > 121 > warm[1] > 119 > 100 > warm[2]
    back = Shot(light=(1.5, 1.0, 0.5), balance=(1 / 1.5, 1.0, 2.0)).take(grey(120), random)
    np.testing.assert_allclose(back, 120, atol=1)


def test_tone(face, random):
    dark, light = (Shot(gamma=gamma).take(grey(120), random).mean() for gamma in (1.8, 0.6))
    assert dark < 100 < 140 < light
    flat, steep = (Shot(contrast=contrast).take(face, random).std() for contrast in (0.5, 2.0))
    assert flat < face.std() < steep
    assert np.ptp(Shot(saturation=0).take(face, random).astype(int), axis=2).max() <= 1
    # An unsharp mask raises the contrast of neighbours.
    sharp = Shot(sharpening=1.0).take(face, random).astype(float)
    assert np.abs(np.diff(sharp, axis=1)).mean() > 1.2 * np.abs(np.diff(face.astype(float), axis=1)).mean()


def test_a_colour_filter_keeps_colours_of_areas_and_confuses_those_of_details(face, random):
    flat = np.full((64, 64, 3), (200, 120, 60), np.uint8)
    np.testing.assert_allclose(Shot(colour_filter=True).take(flat, random), flat, atol=1)
    stripes = np.zeros((112, 112, 3), np.uint8)
    stripes[:, ::2] = 255
    coloured = Shot(colour_filter=True).take(stripes, random).astype(int)
    assert np.ptp(coloured[10:100, 10:100], axis=2).max() > 100


@pytest.mark.parametrize("make", [
    lambda s: Shot(disc=0.06 * s),
    lambda s: Shot(aberrations=(1.2 * s, 0, 0, 0, 0, 0)),
    lambda s: Shot(path=((0, 0), (0.2 * s, 0.1 * s))),
    lambda s: Shot(resolution=1 - 0.9 * s),
    lambda s: Shot(exposure=-5 * s),
    lambda s: Shot(exposure=4 * s),
    lambda s: Shot(full_well=10 ** (4 - 3 * s)),
    lambda s: Shot(jpegs=((round(97 - 92 * s), "4:2:0"),)),
    lambda s: Shot(resizes=((1 - 0.9 * s, "lanczos"),)),
])  # fmt: skip
def test_a_stronger_fault_is_a_larger_error(make, face):
    errors = [error(make(s).take(face, np.random.RandomState(0)), face) for s in (0.2, 0.4, 0.6, 0.8, 1.0)]
    assert errors == sorted(errors) and errors[0] > 0


def test_chroma_subsampling_costs_colour_and_no_brightness(face, random):
    def luma_and_chroma(image):
        # Inside, where no block ends at a border.
        parts = np.asarray(Image.fromarray(image).convert("YCbCr"), float)
        return parts[..., 0], parts[..., 1:]

    stripes = np.zeros((112, 112, 3), np.uint8)
    stripes[:, ::2], stripes[:, 1::2] = (200, 60, 60), (60, 120, 200)
    y, c = luma_and_chroma(stripes)
    losses = {}
    for name in SUBSAMPLINGS:
        new_y, new_c = luma_and_chroma(Shot(jpegs=((98, name),)).take(stripes, random))
        losses[name] = np.abs(new_c - c).mean()
        assert np.abs(new_y - y).mean() < 8
    assert losses["4:4:4"] < 3 and losses["4:2:2"] > 30 and losses["4:2:0"] > 30


def test_jpegs_are_those_of_pillow(face, random):
    buffer = io.BytesIO()
    Image.fromarray(face).save(buffer, "JPEG", quality=40, subsampling="4:2:0")
    np.testing.assert_array_equal(Shot(jpegs=((40, "4:2:0"),)).take(face, random), np.array(Image.open(buffer)))


# The draw


def test_drawn_shots():
    shots = [draw_shot(np.random.RandomState(seed)) for seed in range(400)]
    # Every fault comes, slight and grave, and in both kinds where it has two.
    assert 0.3 < np.mean([shot.aberrations is None for shot in shots]) < 0.7
    assert max(shot.disc for shot in shots) > 0.03
    assert min(shot.exposure for shot in shots) < -4 and max(shot.exposure for shot in shots) > 1.5
    assert min(shot.resolution for shot in shots) < 0.25 and max(shot.resolution for shot in shots) > 0.95
    assert {name for shot in shots for _, name in shot.jpegs} == set(SUBSAMPLINGS)
    assert {name for shot in shots for _, name in shot.resizes} == set(FILTERS)
    assert {len(shot.resizes) for shot in shots} == {1, 2, 3} and {len(shot.jpegs) for shot in shots} == {1, 2}
    qualities = [quality for shot in shots for quality, _ in shot.jpegs]
    assert 10 <= min(qualities) < 20 and 90 < max(qualities) <= 97
    lengths = [np.linalg.norm(np.diff(np.array(shot.path), axis=0), axis=1).sum() for shot in shots]
    assert 0.11 < max(lengths) <= 0.14 + 1e-9 and min(lengths) < 0.01


@pytest.mark.parametrize("name", FAULTS)
def test_no_strength_is_no_fault_and_full_strength_is_one(name, face):
    random = np.random.RandomState(3)
    none = Shot(**FAULTS[name](0.0, random)).take(face, random)
    strong = np.median([error(Shot(**FAULTS[name](1.0, random)).take(face, random), face) for _ in range(9)])
    # Without a fault there is still a colour filter, a JPEG of quality 97, and a resizing to a larger size or two.
    assert error(none, face) < 60
    assert strong > 4 * error(none, face) and strong > 60


def test_a_seed_decides_and_nothing_else_is_random(face):
    first = photograph(face, 5)
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    np.testing.assert_array_equal(photograph(face, 5), first)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert len({photograph(face, seed).tobytes() for seed in range(20)}) == 20


def test_a_seed_draws_the_same_shot_for_any_face(face):
    # So that a rounding of another machine in one picture does not change the next.
    random, other = np.random.RandomState(11), np.random.RandomState(11)
    for _ in range(5):
        shot, same = draw_shot(random), draw_shot(other)
        assert shot == same
        shot.take(face, random)
        shot.take(np.zeros_like(face), other)
    assert random.uniform() == other.uniform()


@pytest.mark.parametrize("shape", [(112, 112, 3), (90, 140, 3), (5, 7, 3), (1, 1, 3), (250, 250, 3)])
def test_shape_stays_and_the_input_is_left_alone(shape):
    image = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
    original = image.copy()
    for seed in range(6):
        result = photograph(image, seed)
        assert result.shape == shape and result.dtype == np.uint8
    np.testing.assert_array_equal(image, original)


def test_pictures_are_worse_but_mostly_still_that_face(face):
    errors, likeness = [], []
    for seed in range(60):
        result = photograph(face, seed)
        errors.append(error(result, face))
        if result.std() > 0:
            likeness.append(np.corrcoef(result.ravel(), face.ravel())[0, 1])
    assert min(errors) > 1 and np.median(errors) > 100
    assert np.median(likeness) > 0.6


def test_wrong_images_are_refused():
    with pytest.raises(ValueError, match="float32"):
        photograph(np.zeros((8, 8, 3), np.float32), 0)
    with pytest.raises(ValueError, match="empty"):
        photograph(np.zeros((0, 8, 3), np.uint8), 0)
