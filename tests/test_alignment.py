# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The alignment onto the ArcFace template, and the face detector."""

import math
import pickle

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diffiqa_hf.alignment import (
    ARCFACE_TEMPLATE,
    TEMPLATE_DEPTH,
    YuNetFaceDetector,
    align_face,
    arcface_template,
    estimate_yaw,
    similarity_transform,
)


def similarity(scale: float, angle: float, shift: tuple[float, float]) -> np.ndarray:
    """The 2x3 matrix that turns by `angle`, scales and shifts."""
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def draw_spots(width: int, height: int, points: np.ndarray, sigma: float) -> np.ndarray:
    """A black picture with a bright Gaussian spot at each point."""
    y, x = np.mgrid[:height, :width]
    spots = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2)) for px, py in points]
    return np.round(255 * np.max(spots, axis=0)).astype(np.uint8)[:, :, None].repeat(3, axis=2)


def find_spots(crop: np.ndarray, reach: int = 8) -> np.ndarray:
    """The centre of the brightness around each point of the template."""
    found = []
    for px, py in ARCFACE_TEMPLATE.round().astype(int):
        window = crop[py - reach : py + reach + 1, px - reach : px + reach + 1, 0].astype(float)
        y, x = np.mgrid[py - reach : py + reach + 1, px - reach : px + reach + 1]
        found.append([(x * window).sum() / window.sum(), (y * window).sum() / window.sum()])
    return np.array(found)


# -- the template and the transform


def test_the_template_is_in_the_order_of_the_picture():
    left_eye, right_eye, nose, left_mouth, right_mouth = ARCFACE_TEMPLATE
    assert left_eye[0] < nose[0] < right_eye[0] and left_mouth[0] < nose[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_templates_of_other_sizes():
    assert np.allclose(arcface_template((112, 112)), ARCFACE_TEMPLATE)
    assert np.allclose(arcface_template((112, 96)), ARCFACE_TEMPLATE - [8, 0])
    # Pixel 0 of a halved picture is the mean of pixels 0 and 1, so it lies at .5.
    assert np.allclose((arcface_template((224, 224)) - 0.5) / 2, ARCFACE_TEMPLATE)


def test_similarity_transform_worked_by_hand():
    assert np.allclose(similarity_transform(ARCFACE_TEMPLATE), [[1, 0, 0], [0, 1, 0]])
    assert np.allclose(similarity_transform(2 * ARCFACE_TEMPLATE + [10, 20]), [[0.5, 0, -5], [0, 0.5, -10]])
    # A quarter turn: the picture's x is the template's -y.
    turned = ARCFACE_TEMPLATE @ np.array([[0, 1], [-1, 0]])
    assert np.allclose(similarity_transform(turned), [[0, 1, 0], [-1, 0, 0]])
    # Of two points any similarity is met exactly: (0, 0) to (1, 1), (2, 0) to (1, 5) turns by 90 degrees and doubles.
    matrix = similarity_transform(np.array([[0, 0], [2, 0]]), np.array([[1, 1], [1, 5]]))
    assert np.allclose(matrix, [[0, -2, 1], [2, 0, 1]])


coordinate = st.floats(-5000, 5000)


@settings(deadline=None)
@given(st.floats(0.05, 40), st.floats(-np.pi, np.pi), st.tuples(coordinate, coordinate))
def test_a_similarity_is_recovered_exactly(scale, angle, shift):
    to_picture = similarity(scale, angle, shift)
    matrix = similarity_transform(apply(to_picture, ARCFACE_TEMPLATE))
    assert np.allclose(matrix[:, :2] @ to_picture[:, :2], np.eye(2), atol=1e-8)
    assert np.allclose(apply(matrix, apply(to_picture, ARCFACE_TEMPLATE)), ARCFACE_TEMPLATE, atol=1e-6)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_similarity_near_it_fits_better(seed):
    rng = np.random.default_rng(seed)
    landmarks = apply(similarity(3, 0.4, (50, -20)), ARCFACE_TEMPLATE) + rng.normal(0, 20, (5, 2))
    matrix = similarity_transform(landmarks)
    best = ((apply(matrix, landmarks) - ARCFACE_TEMPLATE) ** 2).sum()
    (c, tx), (s, ty) = matrix[:, [0, 2]]
    assert np.allclose(matrix[:, 1], [-s, c])
    for change in rng.normal(0, 0.01, (20, 4)) * [1, 1, 100, 100]:
        c2, s2, tx2, ty2 = [c, s, tx, ty] + change
        other = np.array([[c2, -s2, tx2], [s2, c2, ty2]])
        assert ((apply(other, landmarks) - ARCFACE_TEMPLATE) ** 2).sum() >= best


def test_mirrored_points_give_no_reflection():
    matrix = similarity_transform(ARCFACE_TEMPLATE * [-1, 1])
    assert np.linalg.det(matrix[:, :2]) > 0


@pytest.mark.parametrize(
    ("landmarks", "reason"),
    [
        (np.full((5, 2), np.nan), "NaN"),
        (ARCFACE_TEMPLATE * [np.inf, 1], "NaN or infinite"),
        (np.full((5, 2), 50.0), "within a pixel"),
        (ARCFACE_TEMPLATE / 112, "in pixels of the picture"),
        (ARCFACE_TEMPLATE[:4], "5 points x, y"),
        (ARCFACE_TEMPLATE.ravel(), "5 points x, y"),
        (np.zeros((5, 3)), "5 points x, y"),
    ],
)
def test_landmarks_that_are_none(landmarks, reason):
    with pytest.raises(ValueError, match=reason):
        similarity_transform(landmarks)


# -- cutting out a face


def test_an_aligned_crop_stays_as_it_is():
    crop = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    assert np.array_equal(align_face(crop, ARCFACE_TEMPLATE), crop)
    assert np.array_equal(align_face(Image.fromarray(crop), ARCFACE_TEMPLATE), crop)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7, 2.3, 5.0])
@pytest.mark.parametrize("angle", [0.0, 0.5, -2.5])
def test_the_points_come_to_lie_on_the_template(scale, angle):
    side = int(150 * scale) + 20
    to_picture = similarity(scale, angle, (0, 0))
    to_picture[:, 2] = side / 2 - to_picture[:, :2] @ [56, 70]
    points = apply(to_picture, ARCFACE_TEMPLATE)
    crop = align_face(draw_spots(side, side, points, sigma=2 * scale), points)
    assert np.abs(find_spots(crop) - ARCFACE_TEMPLATE).max() < 0.15


def test_a_whole_factor_is_the_mean_over_blocks():
    picture = np.random.default_rng(1).integers(0, 256, (336, 336, 3), dtype=np.uint8)
    crop = align_face(picture, (ARCFACE_TEMPLATE + 0.5) * 3 - 0.5)
    means = picture.reshape(112, 3, 112, 3, 3).mean(axis=(1, 3))
    assert np.abs(crop - means).max() < 0.6  # Pillow rounds .5556 down


def test_a_large_face_is_not_aliased():
    # Stripes of one pixel: a bilinear warp alone would give black and white, or moire.
    stripes = np.zeros((2100, 2100, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = align_face(stripes, ARCFACE_TEMPLATE * 16.4 + 100)
    assert crop.min() >= 118 and crop.max() <= 137


@pytest.mark.parametrize("scale", [2.0, 2.9, 7.5])
def test_reducing_first_agrees_with_the_plain_warp_where_nothing_is_fine(scale):
    side = int(112 * scale) + 150
    y, x = np.mgrid[:side, :side] / side
    smooth = np.stack([127 + 120 * np.sin(3 * x), 127 + 120 * np.cos(4 * y), 200 * x * y], axis=2).astype(np.uint8)
    points = apply(similarity(scale, 0.05, (80, 50)), ARCFACE_TEMPLATE)
    plain = cv2.warpAffine(smooth, similarity_transform(points), (112, 112), flags=cv2.INTER_LINEAR)
    assert np.abs(align_face(smooth, points).astype(int) - plain).max() <= 2


def test_outside_of_the_picture_is_black():
    white = np.full((112, 112, 3), 255, np.uint8)
    crop = align_face(white, ARCFACE_TEMPLATE - [50, 0])
    assert (crop[:, :50] == 0).all() and (crop[:, 50:] == 255).all()
    for scale in (1, 4):
        assert not align_face(white, ARCFACE_TEMPLATE * scale + 5000).any()


def test_other_sizes_of_crops():
    rng = np.random.default_rng(2)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (400, 400, 3), dtype=np.uint8), (0, 0), 3)
    points = apply(similarity(1.4, 0.2, (120, 90)), ARCFACE_TEMPLATE)
    crop = align_face(picture, points)
    assert np.abs(align_face(picture, points, (112, 96)).astype(int) - crop[:, 8:104]).max() <= 1
    half = np.asarray(Image.fromarray(align_face(picture, points, (224, 224))).reduce(2))
    assert np.abs(half.astype(int) - crop).mean() < 1


def test_a_very_wide_picture():
    wide = np.zeros((60, 40000, 3), np.uint8)
    wide[:, 35000:] = 255
    assert align_face(wide, ARCFACE_TEMPLATE * 0.4 + [36000, 0])[20:100].min() == 255


# -- the detector


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("no/such/file.onnx", "no file no/such/file.onnx"),
        ("somebody/no_such_repository", "could not be had from the Hub repository somebody/no_such_repository"),
        ("/no/such/folder", "could not be had"),
    ],
)
def test_a_detector_that_is_not_there(model, reason):
    # The tests run with HF_HUB_OFFLINE=1.
    with pytest.raises(OSError, match=reason):
        YuNetFaceDetector(model).detect(np.zeros((64, 64, 3), np.uint8))


def test_a_detector_that_is_no_network(tmp_path):
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(OSError, match="text.onnx is not a network"):
        YuNetFaceDetector(tmp_path / "text.onnx").detect(np.zeros((64, 64, 3), np.uint8))


def test_the_detector_is_pickled_without_its_network():
    detector = pickle.loads(pickle.dumps(YuNetFaceDetector("some/model.onnx", 0.7)))
    assert (detector.model, detector.threshold) == ("some/model.onnx", 0.7)


@pytest.fixture(scope="module")
def detector(shared_dir):
    return YuNetFaceDetector(shared_dir / "weights" / "yunet" / "yunet_n_dynamic.onnx")


@pytest.mark.shared
@pytest.mark.parametrize("shape", [(16, 16), (20, 5000), (5000, 20), (300, 300)])
def test_nothing_is_found_where_nothing_is(detector, shape):
    assert detector.detect(np.zeros((*shape, 3), np.uint8)) == []


def head_turned_by(yaw, pitch=0.0):
    """The five points of a head seen from afar, with the depths of the template."""
    x, y = (ARCFACE_TEMPLATE - ARCFACE_TEMPLATE.mean(0)).T
    z = TEMPLATE_DEPTH
    yaw, pitch = math.radians(yaw), math.radians(pitch)
    x, z = x * math.cos(yaw) + z * math.sin(yaw), z * math.cos(yaw) - x * math.sin(yaw)
    return np.stack([x, y * math.cos(pitch) + z * math.sin(pitch)], 1) + 60


def test_the_template_looks_ahead():
    assert estimate_yaw(ARCFACE_TEMPLATE) == 0


@pytest.mark.parametrize("yaw", [-70, -25, 3, 40])
@pytest.mark.parametrize("pitch", [-20, 0, 10])
def test_yaw_of_a_turned_head_in_any_place_size_and_roll(yaw, pitch):
    points = head_turned_by(yaw, pitch)
    roll = np.array([[math.cos(0.4), -math.sin(0.4)], [math.sin(0.4), math.cos(0.4)]])
    moved = 2.7 * points @ roll.T + [300, -40]
    # Mirrored, left and right change places, in the picture and in the order of the points.
    mirrored = (points * [-1, 1])[[1, 0, 2, 4, 3]]
    found = estimate_yaw(np.stack([points, moved, mirrored]))
    assert found.tolist() == pytest.approx([yaw, yaw, -yaw], abs=1)


def test_yaw_of_noisy_points_is_near():
    noise = np.random.default_rng(0).normal(0, 1, (200, 5, 2))  # a pixel, of 35 between the eyes
    for yaw in (-45, 0, 45):
        assert np.abs(estimate_yaw(head_turned_by(yaw) + noise) - yaw).mean() < 5


def test_points_that_are_not_there_have_no_yaw():
    points = np.stack([ARCFACE_TEMPLATE, np.full((5, 2), np.nan)])
    assert np.isnan(estimate_yaw(points)).tolist() == [False, True]
    with pytest.raises(ValueError, match=r"\(4, 2\)"):
        estimate_yaw(np.zeros((4, 2)))
