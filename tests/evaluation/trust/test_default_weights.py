# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the weights that come with the package hold on the example faces; the report in docs/results/trust has more."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffiqa_hf.evaluation.trust import DAMAGES, run_panel
from diffiqa_hf.evaluation.trust.non_faces import DRAWN
from diffiqa_hf.methods import load_method


EXAMPLES = Path(__file__).parents[3] / "examples" / "faces"
FACES = ("astronaut", "sample1_lowered", "sample3_smile", "sample6_left", "sample6_right")

# The median over the faces of Spearman(score, strength) is at most this, by the kind of damage.
SPEARMAN = dict.fromkeys(DAMAGES, -0.9) | {"JPEG": -0.85}
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
    assert np.median(fast.spearman(kind)) <= SPEARMAN[kind], fast.spearman(kind)
    assert fast.above(kind) == 0


@pytest.mark.parametrize("name", DRAWN)
def test_what_is_no_face_is_below_all_faces(name, fast):
    assert fast.percentiles(fast.non_faces[name]) == 0


def test_copies_score_alike(fast):
    spread = np.ptp(fast.clean)
    for name, scores in fast.copies.items():
        assert np.abs(scores - fast.clean).max() < 0.3 * spread, name


@pytest.mark.parametrize("kind", PIPELINE)
def test_scores_of_the_pipeline_fall(kind):
    found = run_panel(load_method("diffiqa"), faces("astronaut", "sample6_left"), kinds=[kind], pictures={})
    assert np.median(found.spearman(kind)) <= PIPELINE_SPEARMAN
    assert found.above(kind) == 0
