# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The best faces of each group."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diffiqa_hf.labelling.best_shot import best_faces, best_of_groups
from diffiqa_hf.labelling.labeller import QualityLabeller
from diffiqa_hf.pipeline_output import FaceQualityOutput


datasets = pytest.importorskip("datasets")


def brightness(images, landmarks) -> FaceQualityOutput:
    """A quality that is plain to see: the mean of the pixels; a picture without any fails."""
    scores, errors = [], []
    for image in images:
        mean = np.asarray(image).mean() / 255
        scores.append(mean if mean > 0 else math.nan)
        errors.append(None if mean > 0 else "black")
    return FaceQualityOutput(torch.tensor(scores), {}, torch.arange(len(scores)), errors)


def grey(*values: int) -> list[Image.Image]:
    return [Image.new("RGB", (16, 16), (value,) * 3) for value in values]


def test_best_of_groups():
    groups = ["b", "a", "b", None, "a", "b", "c"]
    scores = [0.1, 0.9, 0.3, 1.0, math.nan, 0.3, None]
    assert best_of_groups(groups, scores) == {"b": [2], "a": [1], "c": []}
    assert best_of_groups(groups, scores, top=2) == {"b": [2, 5], "a": [1], "c": []}
    assert best_of_groups(groups, scores, top=9) == {"b": [2, 5, 0], "a": [1], "c": []}
    with pytest.raises(ValueError, match="at least 1"):
        best_of_groups(groups, scores, top=0)
    with pytest.raises(ValueError):
        best_of_groups(groups, scores[1:])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-2, 2)), max_size=30), st.integers(1, 4))
def test_nobody_who_is_left_out_is_better(rows, top):
    groups, scores = [row[0] for row in rows], [float(row[1]) for row in rows]
    best = best_of_groups(groups, scores, top)
    assert set(best) == set(groups)
    for group, chosen in best.items():
        members = [i for i in range(len(rows)) if groups[i] == group]
        assert len(chosen) == len(set(chosen)) == min(top, len(members)) and set(chosen) <= set(members)
        assert [scores[i] for i in chosen] == sorted((scores[i] for i in chosen), reverse=True)
        out = [scores[i] for i in members if i not in chosen]
        assert not out or max(out) <= scores[chosen[-1]]


def test_a_dataset_with_scores():
    dataset = datasets.Dataset.from_dict({"track": [7, 7, 8, None, 8], "sharpness": [0.2, 0.4, None, 1.0, 0.1]})
    best = best_faces(dataset, "track", quality_column="sharpness")
    assert best[:] == {"track": [7, 8], "sharpness": [0.4, 0.1]}


def test_a_dataset_of_images_is_scored():
    columns = {"image": grey(10, 200, 90, 0, 30), "person": ["x", "x", "y", "y", "y"]}
    features = datasets.Features({"image": datasets.Image(), "person": datasets.Value("string")})
    dataset = datasets.Dataset.from_dict(columns, features=features)
    best = best_faces(dataset, "person", 2, labeller=QualityLabeller(brightness), batch_size=2)
    assert best["person"][:] == ["x", "x", "y", "y"]
    assert [np.asarray(image)[0, 0, 0] for image in best["image"]] == [200, 10, 90, 30]
    assert best["quality"][:] == pytest.approx([200 / 255, 10 / 255, 90 / 255, 30 / 255])
    assert set(best["quality_error"][:]) == {None}


def test_the_default_weights_score_where_nothing_is_said(tmp_path):
    rng = np.random.default_rng(0)
    for name in "abc":
        small = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8))
        small.resize((112, 112), Image.Resampling.BICUBIC).save(tmp_path / f"{name}.png")
    files = [str(tmp_path / f"{name}.png") for name in "abc"]
    dataset = datasets.Dataset.from_dict({"image": files, "person": [1, 1, 1]})
    best = best_faces(dataset, "person", top=3)
    assert sorted(best["image"][:]) == files
    assert best["quality"][:] == sorted(best["quality"][:], reverse=True)
    assert max(best["quality"][:]) > min(best["quality"][:])


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"group_column": "nobody"}, "no column 'nobody'; there are person, image"),
        ({"group_column": "person", "quality_column": "mine"}, "no column 'mine'"),
        ({"group_column": "person", "labeller": QualityLabeller(brightness, image_column="face")}, "nor one 'face'"),
        ({"group_column": "person", "top": 0}, "at least 1"),
    ],
)
def test_what_is_not_there(arguments, message):
    dataset = datasets.Dataset.from_dict({"person": [1], "image": ["a.png"]})
    with pytest.raises(ValueError, match=message):
        best_faces(dataset, **arguments)
