# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What is no face, told from faces: before a method, in the default pipeline, and by `diffiqa score`."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffiqa_hf import DifFIQAPipeline, DifFIQARModel, load_method
from diffiqa_hf.cli import main
from diffiqa_hf.face_check import FaceCheck


FACES = Path(__file__).parents[1] / "examples" / "faces"
SHARP = ("astronaut", "sample2_hair", "sample3_smile", "sample6_left", "sample6_right")


def pictures() -> dict[str, np.ndarray]:
    """Drawn as in neither the training nor `diffiqa trust`: (112, 112, 3), uint8."""
    random = np.random.RandomState(7)
    y, x = np.mgrid[:112, :112]
    spiral = np.sin(np.arctan2(y - 50, x - 60) * 3 + np.hypot(x - 60, y - 50) / 4)
    drawn = {
        "black": np.zeros((112, 112)),
        "grey": np.full((112, 112), 120),
        "white": np.full((112, 112), 255),
        "noise": random.randint(0, 256, (112, 112)),
        "spiral": 128 + 120 * spiral,
        "steps": (x // 16 + y // 16) * 18,
    }
    return {name: np.repeat(np.asarray(image, np.uint8)[..., None], 3, 2) for name, image in drawn.items()}


@pytest.fixture(scope="module")
def check() -> FaceCheck:
    return FaceCheck.load()


def test_faces_are_told_from_what_is_none(check):
    method = load_method("diffiqa-r")
    method.face_check = check
    found = method([FACES / f"{name}.jpg" for name in SHARP]).face_probabilities
    none = method(list(pictures().values()))
    assert (found > 0.9).all() and (none.face_probabilities < 0.1).all(), (found, none.face_probabilities)
    # The score alone puts them below nearly all faces, too.
    assert (none.percentiles < 5).all(), none.percentiles


def test_without_a_check_there_is_no_probability():
    assert load_method("diffiqa-r")([FACES / "astronaut.jpg"]).face_probabilities is None


@pytest.mark.parametrize("name", ["diffiqa-r", "embedding-norm"])
def test_every_method_can_refuse(check, name):
    method = load_method(name)
    images = [FACES / "astronaut.jpg", pictures()["noise"]]
    plain = method(images).scores
    method.face_check = FaceCheck(check.model, action="refuse")
    output = method(images)
    assert output.errors[0] is None and "does not look like a face" in output.errors[1]
    assert output.scores[0] == pytest.approx(float(plain[0]), rel=1e-5) and output.scores[1].isnan()
    with pytest.raises(ValueError, match="mark, lower, refuse"):
        FaceCheck(check.model, action="drop")


def test_an_unreadable_image_has_no_probability(check, tmp_path):
    (tmp_path / "no.jpg").write_bytes(b"no image")
    method = load_method("diffiqa-r")
    method.face_check = check
    output = method([tmp_path / "no.jpg", FACES / "astronaut.jpg"])
    assert output.face_probabilities[0].isnan() and output.face_probabilities[1] > 0.9


def test_only_a_network_with_the_output_can_be_asked():
    config = DifFIQARModel.from_pretrained().config
    config.face_check = False
    with pytest.raises(ValueError, match="no output that tells faces"):
        FaceCheck(DifFIQARModel.from_config(config))


def test_the_default_pipeline_puts_what_is_no_face_below_all_faces(tmp_path):
    pipe = DifFIQAPipeline.from_pretrained("default")
    assert pipe.face_check is not None and pipe.face_check.action == "lower"
    images = [FACES / "astronaut.jpg", FACES / "sample5_dark.jpg", pictures()["black"], pictures()["noise"]]
    output = pipe(images)
    assert output.errors == [None] * 4
    assert output.scores[2:].max() <= -1 < output.scores[:2].min()
    assert (output.percentiles[2:] == 0).all()
    # Another pipeline has none unless it is given one, and it does not travel.
    pipe.save_pretrained(tmp_path)
    assert DifFIQAPipeline.from_pretrained(tmp_path).face_check is None
    assert "face_check" not in json.loads((tmp_path / "model_index.json").read_text())


def test_the_command_marks_and_refuses(tmp_path, capsys):
    folder = tmp_path / "faces"
    folder.mkdir()
    Image.fromarray(pictures()["spiral"]).save(folder / "spiral.png")
    Image.open(FACES / "astronaut.jpg").save(folder / "astronaut.png")
    base = ["score", str(folder), "--fast", "--quiet"]
    assert main([*base, "--face-check", "mark", "--output", str(tmp_path / "marked.csv")]) == 0
    with open(tmp_path / "marked.csv") as file:
        rows = {Path(row["file"]).stem: row for row in csv.DictReader(file)}
    assert float(rows["astronaut"]["face_probability"]) > 0.9 > 0.1 > float(rows["spiral"]["face_probability"])
    assert main([*base, "--face-check", "refuse", "--output", str(tmp_path / "refused.jsonl")]) == 1
    assert "spiral.png: this does not look like a face" in capsys.readouterr().err
    assert main([*base, "--face-check", "lower"]) == 2
    assert "goes with --method diffiqa" in capsys.readouterr().err


def test_probabilities_do_not_depend_on_the_batch(check):
    faces = np.random.default_rng(0).uniform(-1, 1, (5, 3, 112, 112)).astype(np.float32)
    one = np.concatenate([check.probabilities(face[None]) for face in faces])
    np.testing.assert_allclose(check.probabilities(faces), one, rtol=0, atol=1e-5)
