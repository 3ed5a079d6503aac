# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffiqa_hf.degradations.spoiling import DAMAGES, SIZE, Series, draw_non_face


FACES = Path(__file__).parents[2] / "examples" / "faces"
STRENGTHS = (0.05, 0.3, 0.6, 1.0)


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    return np.array(Image.open(FACES / "astronaut.jpg").convert("RGB").resize((SIZE, SIZE)))


@pytest.mark.parametrize("name", list(DAMAGES))
def test_a_stronger_damage_is_further_from_the_face(name, face):
    # The mean over seeds: one draw of a turn or a shift may bring like to like.
    distance = np.zeros(len(STRENGTHS))
    for seed in range(6):
        copies = [Series((name,), (1.0,), seed).apply(face, strength) for strength in STRENGTHS]
        assert all(copy.shape == face.shape and copy.dtype == np.uint8 for copy in copies)
        distance += [np.abs(copy.astype(float) - face).mean() for copy in copies]
    assert distance[0] < distance[1] and distance[-1] > 2 * distance[0], distance / 6


def test_a_series_is_the_same_again_and_leaves_the_face(face):
    before = face.copy()
    series = [Series.draw(np.random.default_rng(seed)) for seed in range(30)]
    assert {len(drawn.names) for drawn in series} == {1, 2, 3, 4}
    for drawn in series:
        assert np.array_equal(drawn.apply(face, 0.4), drawn.apply(face, 0.4)), drawn
    assert np.array_equal(face, before)


def test_a_block_grows_where_it_stands(face):
    covered = []
    for strength in (0.1, 0.3, 0.5):
        copy = Series(("block",), (1.0,), 3).apply(face, strength)
        covered.append((copy != face).any(2))
    assert covered[0].sum() < covered[1].sum() < covered[2].sum()
    # Up to pixels that happen to have the colour of what is before them.
    assert (covered[0] & ~covered[1]).sum() <= 0.02 * covered[0].sum() + 3


def test_non_faces_are_pictures_of_all_kinds(face):
    rng = np.random.default_rng(0)
    drawn = np.stack([draw_non_face([face], rng) for _ in range(60)])
    assert drawn.shape == (60, SIZE, SIZE, 3) and drawn.dtype == np.uint8
    spread = drawn.reshape(60, -1).std(1)
    assert (spread < 1).any() and (spread > 60).any()
    again = draw_non_face([face], np.random.default_rng(0))
    assert np.array_equal(again, drawn[0])
