# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The example faces: whole, described, made as they say, and in the right order for the default pipeline."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffiqa_hf.alignment import ARCFACE_TEMPLATE, similarity_transform
from diffiqa_hf.degradations import STRENGTHS, degrade_at


EXAMPLES = Path(__file__).parent.parent / "examples"
LISTED = json.loads((EXAMPLES / "faces" / "faces.json").read_text())
FACES = LISTED["faces"]
GROUPS = LISTED["groups_best_first"]
LANDMARKS = json.loads((EXAMPLES / "photos" / "landmarks.json").read_text())


def read_face(name: str) -> np.ndarray:
    return np.asarray(Image.open(EXAMPLES / "faces" / name))


def mean_difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(float) - second).mean())


def test_the_list_names_the_crops_that_are_there():
    assert sorted(face["file"] for face in FACES) == sorted(path.name for path in EXAMPLES.glob("faces/*.jpg"))
    for face in FACES:
        with Image.open(EXAMPLES / "faces" / face["file"]) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (112, 112)), face["file"]


def test_the_readme_has_a_row_with_licence_for_every_file():
    rows = [line for line in (EXAMPLES / "README.md").read_text().splitlines() if line.startswith("|")]
    for path in sorted(EXAMPLES.glob("*/*.jpg")):
        found = [row for row in rows if row.startswith(f"| `{path.parent.name}/{path.name}` |")]
        assert len(found) == 1, path.name
        assert " MIT " in found[0] or " public domain " in found[0], path.name


def test_groups_are_the_copies_in_the_order_of_their_strength():
    strengths = {face["file"]: face["strength"] for face in FACES}
    assert len(GROUPS) >= 4
    for files in GROUPS.values():
        assert [strengths[file] for file in files] == [None, *STRENGTHS]
    in_groups = {file for files in GROUPS.values() for file in files}
    assert all(face["file"] in in_groups for face in FACES if face["strength"])


@pytest.mark.parametrize("group", GROUPS)
def test_the_degradation_makes_the_copies_again(group):
    seeds = {face["file"]: face["seed"] for face in FACES}
    as_taken, *copies = (read_face(file) for file in GROUPS[group])
    for file, strength, copy in zip(GROUPS[group][1:], STRENGTHS, copies, strict=True):
        # The file is a JPEG of quality 95: 0.5 to 0.8 grey levels in the mean.
        assert mean_difference(degrade_at(as_taken, strength, seeds[file]), copy) < 1.5, file
    differences = [mean_difference(as_taken, copy) for copy in copies]
    assert differences == sorted(differences) and differences[0] > 1.5


def test_the_landmarks_lie_like_those_of_a_face():
    assert sorted(LANDMARKS) == sorted(path.name for path in EXAMPLES.glob("photos/*.jpg"))
    for name, faces in LANDMARKS.items():
        with Image.open(EXAMPLES / "photos" / name) as image:
            size = image.size
            assert image.mode == "RGB" and max(size) <= 480
        for landmarks in np.array(faces):
            assert landmarks.shape == (5, 2)
            assert (landmarks >= 0).all() and (landmarks <= np.array(size) - 1).all(), name
            matrix = similarity_transform(landmarks)
            aligned = landmarks @ matrix[:, :2].T + matrix[:, 2]
            # The profile is 15 px off, since its eyes are close together; with eyes swapped all are 25 or more.
            assert np.linalg.norm(aligned - ARCFACE_TEMPLATE, axis=1).max() < 20, name
            assert aligned[0, 0] < aligned[1, 0] and aligned[3, 0] < aligned[4, 0], name
            assert aligned[:2, 1].max() < aligned[2, 1] < aligned[3:, 1].min(), name
    assert sum(len(faces) for faces in LANDMARKS.values()) > len(LANDMARKS)


def test_default_scores_fall_with_the_strength():
    # Not at the top: the other tests here need neither torch nor the weights.
    from diffiqa_hf import DifFIQAPipeline

    pipeline = DifFIQAPipeline.from_pretrained("default")
    pipeline.set_progress_bar_config(disable=True)
    files = [file for group in GROUPS.values() for file in group]
    scores = pipeline([EXAMPLES / "faces" / file for file in files]).scores
    scores = np.asarray(scores, dtype=float).reshape(len(GROUPS), -1)
    means = scores.mean(axis=0)
    shown = dict(zip(["as taken", *STRENGTHS], means.round(4).tolist(), strict=True))
    # A light degradation takes nothing that these weights would miss: on average it scores .002 above the face itself.
    assert (np.diff(means[1:]) < 0).all() and means[0] > means[2], shown
    assert (scores[:, 0] > scores[:, -1]).all(), scores[:, [0, -1]]
