# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import math
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from scipy import stats

from diffiqa_hf.degradations import degrade_face
from diffiqa_hf.degradations.bsrgan import (
    BicubicHalve,
    BSRGANDegradation,
    Resize,
    ShiftedBlurDownsample,
    anisotropic_gaussian_kernel,
    shifted_gaussian_kernel,
)
from diffiqa_hf.degradations.filtering import (
    TRIMMED_WEIGHT,
    Buffers,
    _add_strips,
    _separable,
    _strips,
    correlate,
    draw_normal,
    filter_every,
    new_array,
    thinned,
)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def image(rng):
    return rng.random((48, 48, 3), dtype=np.float32)


def kernels(rng, count):
    for _ in range(count):
        size = int(2 * rng.integers(2, 11, endpoint=True) + 3)
        yield anisotropic_gaussian_kernel(size, rng.random(2) * 8, rng.random() * math.pi)


def test_strips_hold_all_taps_once_and_are_small(rng):
    several = 0
    for kernel in kernels(rng, 200):
        thin = thinned(kernel)
        seen = np.zeros(thin.shape, int)
        for top, bottom, left, end in _strips(thin):
            seen[top:bottom, left:end] += 1
            assert (bottom - top) * (end - left) <= 129
        assert (seen[thin > 0] == 1).all() and seen.max() == 1
        several += len(_strips(thin)) > 1
    assert 50 < several < 200


def test_taps_in_strips_are_the_filter_of_opencv(rng, image):
    for kernel in kernels(rng, 60):
        thin = thinned(kernel)
        expected = cv2.filter2D(image, -1, thin, borderType=cv2.BORDER_REFLECT_101)
        np.testing.assert_allclose(_add_strips(image, thin, _strips(thin), new_array), expected, atol=2e-6)


def test_a_kernel_is_thinned_by_little(rng):
    for kernel in kernels(rng, 60):
        thin = thinned(kernel)
        assert thin.sum() == pytest.approx(1, abs=1e-6)
        assert np.abs(thin - kernel).sum() <= 2 * TRIMMED_WEIGHT + 1e-6
        # Its mean stays in the middle: nothing moves.
        row, column = np.mgrid[: len(thin), : len(thin)] - len(thin) // 2
        assert abs((thin * row).sum()) < 0.02 and abs((thin * column).sum()) < 0.02


def test_separable_terms_add_up_to_the_kernel(rng):
    found = 0
    for kernel in kernels(rng, 100):
        terms = _separable(kernel, 3)
        if terms:
            whole = sum(np.outer(column, row) for column, row in terms)
            assert np.abs(whole - kernel).sum() < 2 * TRIMMED_WEIGHT
            assert whole.sum() == pytest.approx(1)
            found += 1
    assert found > 30


def test_a_filter_keeps_an_even_area(rng):
    flat = np.full((40, 40, 3), 0.6, np.float32)
    for kernel in kernels(rng, 60):
        np.testing.assert_allclose(correlate(flat, kernel, new_array), flat, atol=1e-5)


def test_either_way_is_near_the_whole_kernel(rng, image):
    for kernel in kernels(rng, 60):
        expected = cv2.filter2D(image, -1, kernel.astype(np.float32), borderType=cv2.BORDER_REFLECT_101)
        errors = np.abs(correlate(image, kernel, new_array) - expected)
        assert errors.max() < TRIMMED_WEIGHT and errors.mean() < TRIMMED_WEIGHT / 4


@pytest.mark.parametrize("step", [2, 4])
def test_every_few_pixels_of_a_filter(step, image):
    kernel = shifted_gaussian_kernel(0.4 * step, step)
    whole = cv2.sepFilter2D(image, -1, kernel, kernel, anchor=(12, 12), borderType=cv2.BORDER_REFLECT_101)
    some = filter_every(image, kernel, 12, step, cv2.BORDER_REFLECT_101, new_array)
    np.testing.assert_allclose(some, whole[::step, ::step], atol=2e-6)


def test_normal_numbers_are_normal(rng):
    values = draw_normal(rng, np.empty((500, 400), np.float32)).astype(float)
    count = values.size
    assert values.mean() == pytest.approx(0, abs=4 / count**0.5)
    assert values.var() == pytest.approx(1, abs=4 * (2 / count) ** 0.5)
    assert stats.kurtosis(values, axis=None) == pytest.approx(0, abs=4 * (24 / count) ** 0.5)
    assert stats.kstest(values.ravel(), "norm").pvalue > 1e-4
    assert 3.9 < np.abs(values).max() < 4.5
    for moved in (values[1:] * values[:-1], values[:, 1:] * values[:, :-1]):
        assert moved.mean() == pytest.approx(0, abs=4 / moved.size**0.5)


def test_any_number_of_normal_numbers(rng):
    for shape in ((1,), (3, 3), (65537,), (7, 100, 100)):
        values = draw_normal(rng, np.full(shape, np.nan, np.float32))
        assert np.isfinite(values).all()


def test_a_buffer_is_good_until_its_turn_comes_again():
    buffers = Buffers()
    given = [buffers.new((4, 5, 3)) for _ in range(Buffers.COUNT)]
    for at, array in enumerate(given):
        array[:] = at
    assert [array.max() for array in given] == list(range(Buffers.COUNT))
    larger = buffers.new((9, 9, 3))
    larger[:] = -1
    assert given[0].min() == 0  # it was too small, and is another one now
    assert buffers.new((2, 2, 3)).base is not None


def test_arrays_that_are_used_again_change_nothing(rng):
    face = rng.random((512, 512, 3), dtype=np.float32)
    face = cv2.GaussianBlur(face, (0, 0), 3)
    for seed in range(150):
        plan, buffers = BSRGANDegradation().draw_plan(np.random.default_rng(seed)), Buffers()
        # Small, where the arrays take turns as they do at full size.
        first = second = cv2.resize(face, (96, 96))
        noise, same_noise = np.random.default_rng(seed), np.random.default_rng(seed)
        for step in plan:
            if isinstance(step, (Resize, ShiftedBlurDownsample, BicubicHalve)):
                continue
            first = step.apply(first.copy(), noise, new_array)
            second = step.apply(second, same_noise, buffers.new)
            np.testing.assert_array_equal(first, second, err_msg=f"seed {seed}, {step}")


def test_threads_do_not_disturb_each_other(rng):
    faces = rng.integers(0, 256, (12, 112, 112, 3), dtype=np.uint8)

    def degrade(at):
        return degrade_face(faces[at], np.random.default_rng(at))

    alone = [degrade(at) for at in range(len(faces))]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(degrade, range(len(faces))))
    for first, second in zip(alone, together, strict=True):
        np.testing.assert_array_equal(first, second)
