# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the weights that come with the package hold on the example faces; the report in docs/results/trust has more."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffiqa_hf.evaluation.trust import DAMAGES, non_faces, run_panel
from diffiqa_hf.methods import load_method


EXAMPLES = Path(__file__).parents[3] / "examples" / "faces"
FACES = ("astronaut", "sample1_lowered", "sample3_smile", "sample6_left", "sample6_right")

# The median over the faces of Spearman(score, strength) is at most this, by the kind of damage.
SPEARMAN = {
    "defocus": -0.85,
    "motion": -0.7,
    "low resolution": -0.75,
    "JPEG": -0.85,
    "sensor noise": -0.95,
    "darkness": -0.5,
    "block over the mouth": -0.55,
    "turn": -0.8,
    "shift": -0.5,
    "scale": -0.5,
}
# In so many of the five faces the strongest damage may score above the clean face.
ABOVE = dict.fromkeys(SPEARMAN, 0)
# Pictures below all faces, mildly damaged ones included.
LOW = ("uniform noise", "grey noise", "fine checkerboard", "coarse checkerboard", "bricks", "writing")
PIPELINE = ("sensor noise",)
PIPELINE_SPEARMAN = -0.8


def faces(*names):
    return [np.array(Image.open(EXAMPLES / f"{name}.jpg").convert("RGB")) for name in names]


@pytest.fixture(scope="module")
def fast():
    method = load_method("diffiqa-r")
    method.enable_folding(winograd=True)
    return run_panel(method, faces(*FACES))


@pytest.mark.parametrize("kind", DAMAGES)
def test_scores_of_the_fast_network_fall(kind, fast):
    if kind not in SPEARMAN:
        pytest.skip("these weights do not hold it: docs/results/trust")
    assert np.median(fast.spearman(kind)) <= SPEARMAN[kind], fast.spearman(kind)
    assert fast.above(kind) * len(FACES) <= ABOVE[kind]


@pytest.mark.parametrize("name", LOW)
def test_what_is_no_face_is_below_all_faces(name, fast):
    assert fast.percentiles(fast.non_faces[name]) == 0


def test_copies_score_alike(fast):
    spread = np.ptp(fast.clean)
    for name, scores in fast.copies.items():
        assert np.abs(scores - fast.clean).max() < 0.5 * spread, name


@pytest.mark.parametrize("kind", PIPELINE)
def test_scores_of_the_pipeline_fall(kind):
    found = run_panel(load_method("diffiqa"), faces("astronaut", "sample6_left"), kinds=[kind], pictures={})
    assert np.median(found.spearman(kind)) <= PIPELINE_SPEARMAN
    assert found.above(kind) == 0


def test_drawn_pictures_are_in_the_panel(fast):
    assert set(fast.non_faces) == set(non_faces())
