# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest

from diffiqa_hf.degradations import STRENGTHS, degrade_at


def drawn_face(size):
    """Head, eyes, brows and mouth on a background, in integers, so that it has a face's edges at a face's scales."""
    y, x = np.mgrid[:size, :size] * 112 // size
    image = np.stack([60 + x // 2, 80 + y // 2, 120 - x // 4], -1)
    image[(x - 56) ** 2 * 16 + (y - 58) ** 2 * 9 < 16 * 40**2] = (205, 160, 135)
    for eye in (38, 74):
        image[(x - eye) ** 2 + 4 * (y - 52) ** 2 < 64] = (245, 245, 245)
        image[(x - eye) ** 2 + (y - 52) ** 2 < 12] = (50, 30, 20)
        image[(abs(x - eye) < 10) & (abs(y - 43) < 2)] = (70, 45, 30)
    image[(x - 56) ** 2 + 9 * (y - 88) ** 2 < 220] = (170, 60, 70)
    return image.astype(np.uint8)


def error(image, strength, seed):
    return np.mean((degrade_at(image, strength, seed).astype(float) - image) ** 2)


def test_names_are_in_order():
    assert STRENGTHS == ("light", "medium", "heavy", "extreme")


@pytest.mark.parametrize("size", [64, 112, 250])
@pytest.mark.parametrize("seed", range(4))
def test_each_strength_is_worse_than_the_one_before(size, seed):
    errors = [error(drawn_face(size), strength, seed) for strength in STRENGTHS]
    assert errors[0] > 5
    assert all(worse > 1.3 * better for better, worse in zip(errors, errors[1:], strict=False))


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_strength_means_the_same_at_any_size(strength):
    small, large = error(drawn_face(112), strength, 0), error(drawn_face(336), strength, 0)
    assert large == pytest.approx(small, rel=0.35)


@pytest.mark.parametrize("shape", [(112, 112, 3), (120, 90, 3), (5, 7, 3), (1, 1, 3)])
@pytest.mark.parametrize("strength", STRENGTHS)
def test_shape_stays_and_the_input_is_left_alone(shape, strength):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    original = image.copy()
    result = degrade_at(image, strength, 1)
    assert result.shape == shape and result.dtype == np.uint8
    np.testing.assert_array_equal(image, original)


def test_the_seed_decides():
    face = drawn_face(112)
    np.testing.assert_array_equal(degrade_at(face, "heavy", 5), degrade_at(face, "heavy", 5))
    assert (degrade_at(face, "heavy", 5) != degrade_at(face, "heavy", 6)).any()


def test_refusals():
    face = drawn_face(112)
    with pytest.raises(ValueError, match="light, medium, heavy, extreme, not 'strong'"):
        degrade_at(face, "strong", 0)
    with pytest.raises(ValueError, match="uint8"):
        degrade_at(face / 255, "light", 0)
