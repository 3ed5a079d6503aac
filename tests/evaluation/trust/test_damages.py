# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffiqa_hf.evaluation.trust import COPIES, DAMAGES, STRENGTHS, damage, non_faces
from diffiqa_hf.evaluation.trust.non_faces import DRAWN


FACES = Path(__file__).parents[3] / "examples" / "faces"
MISALIGNED = ("shift", "turn", "scale")


@pytest.fixture(scope="module")
def face():
    return np.array(Image.open(FACES / "astronaut.jpg").convert("RGB"))


def error(image, other):
    return float(np.mean((image.astype(float) - other) ** 2))


@pytest.mark.parametrize("kind", [kind for kind in DAMAGES if kind not in MISALIGNED])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_stronger_damage_is_a_larger_error(kind, seed, face):
    errors = [error(damage(face, kind, strength, seed), face) for strength in STRENGTHS]
    assert errors == sorted(errors) and errors[0] > 0.5 and errors[-1] > 2 * errors[0]


@pytest.mark.parametrize("kind", MISALIGNED)
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_stronger_misalignment_moves_a_mark_further(kind, seed):
    # Two marks, neither in the middle, on an even ground.
    marked = np.full((112, 112, 3), 30, np.uint8)
    marked[40:47, 56:63] = 255
    marked[66:73, 50:57, 0] = 255

    def places(image):
        # Green belongs to the first mark alone; those beyond the border are mirror images.
        row, column = np.mgrid[:112, :112]
        green, red = image[..., 1] > 128, (image[..., 0] > 128) & (image[..., 1] < 128)
        return np.array([[row[m].mean(), column[m].mean()] if m.any() else [np.nan] * 2 for m in (green, red)])

    moved = [np.linalg.norm(places(damage(marked, kind, s, seed)) - places(marked), axis=1).max() for s in (1, 2, 3)]
    assert 1 < moved[0] < moved[1] < moved[2]


@pytest.mark.parametrize("kind", DAMAGES)
def test_size_stays_the_seed_decides_and_the_face_is_left_alone(kind, face):
    before = face.copy()
    for image in (face, np.array(Image.fromarray(face).resize((160, 160)))):
        results = [damage(image, kind, strength, 3) for strength in STRENGTHS]
        assert {(result.shape, result.dtype) for result in results} == {(image.shape, np.dtype(np.uint8))}
    np.testing.assert_array_equal(damage(face, kind, 4, 5), damage(face, kind, 4, 5))
    np.testing.assert_array_equal(face, before)


@pytest.mark.parametrize("kind", ["motion", "sensor noise", "glare", "block over the eyes", "shift"])
def test_each_face_has_damage_of_its_own(kind, face):
    assert len({damage(face, kind, 3, seed).tobytes() for seed in range(5)}) == 5


def test_a_block_covers_what_it_says(face):
    eyes, mouth = (np.abs(damage(face, f"block over the {part}", 5).astype(int) - face).sum((1, 2)) > 0
                   for part in ("eyes", "mouth"))  # fmt: skip
    # In an aligned face of 112 rows the eyes are in row 52, the mouth in row 92.
    assert eyes[52] and not eyes[92] and not eyes[5]
    assert mouth[92] and mouth[111] and not mouth[52]


def test_copies_are_nearly_the_face(face):
    assert error(COPIES["JPEG of quality 95"](face), face) < 15
    np.testing.assert_array_equal(COPIES["mirrored"](face)[:, ::-1], face)
    np.testing.assert_array_equal(COPIES["shifted by a pixel"](face)[:, 1:], face[:, :-1])


def test_refusals(face):
    with pytest.raises(ValueError, match="defocus, motion"):
        damage(face, "rain", 1)
    with pytest.raises(ValueError, match="from 1 to 5, not 0"):
        damage(face, "defocus", 0)
    with pytest.raises(ValueError, match="float32"):
        damage(face.astype(np.float32), "defocus", 1)


def test_pictures_without_a_face():
    pictures, again = non_faces(), non_faces()
    assert len(pictures) >= len(DRAWN) == 21
    assert {(picture.shape, picture.dtype) for picture in pictures.values()} == {((112, 112, 3), np.dtype(np.uint8))}
    assert all((pictures[name] == again[name]).all() for name in pictures)
    assert len({picture.tobytes() for picture in pictures.values()}) == len(pictures)
    assert (pictures["black"] == 0).all() and (pictures["white"] == 255).all()
    assert non_faces(1)["bricks"].tolist() != pictures["bricks"].tolist()
