# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa calibrate` with tiny models of the real classes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.networks import make_scheduler, make_unet
from PIL import Image

from diffiqa_hf import DifFIQAPipeline, IResNetConfig, IResNetForFaceQuality
from diffiqa_hf.calibration import Calibration, FNMRLevel, fit_calibration
from diffiqa_hf.cli import main
from diffiqa_hf.cli.calibrate import enough, table


CONFIG = {"depths": [1, 1, 1, 1], "widths": [8, 8, 8, 8], "embedding_size": 16}
QUICK = ["--device", "cpu", "--num-timesteps", "2", "--num-repeats", "1"]


def save_face(path: Path, person: int, seed: int = 0) -> None:
    # One picture for each person, with some noise on it.
    path.parent.mkdir(parents=True, exist_ok=True)
    face = np.random.default_rng(person).integers(0, 256, (7, 7, 3)) + np.random.default_rng(seed).normal(
        0, 25, (7, 7, 3)
    )
    picture = Image.fromarray(np.clip(face, 0, 255).astype(np.uint8))
    picture.resize((112, 112), Image.Resampling.BICUBIC).save(path)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> str:

    from diffiqa_hf import FaceImageProcessor, IResNetModel

    torch.manual_seed(0)
    unet = make_unet(add_attention=False)
    scheduler = make_scheduler()
    fr_model = IResNetModel(IResNetConfig(**CONFIG)).eval()
    folder = tmp_path_factory.mktemp("pipeline")
    DifFIQAPipeline(unet, scheduler, fr_model, FaceImageProcessor()).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def quality_model(tmp_path_factory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("quality_model")
    IResNetForFaceQuality(IResNetConfig(**CONFIG)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """Twelve people with five faces each: 120 mated pairs, 1,650 others."""
    folder = tmp_path_factory.mktemp("people")
    for person in range(12):
        for i in range(5):
            save_face(folder / f"p{person:02}" / f"{i}.png", person, seed=100 * person + i)
    return folder


def test_scores_alone_give_percentiles_that_the_pipeline_has_then(pipeline, tmp_path, capsys):
    for i in range(4):
        save_face(tmp_path / "faces" / f"{i}.png", i)
    output = tmp_path / "new" / "mine.json"
    args = [str(tmp_path / "faces"), "--model", pipeline, "--output", str(output), "--data", "my gate", *QUICK]
    assert main(["calibrate", *args]) == 0
    captured = capsys.readouterr()
    calibration = Calibration.from_pretrained(output)
    assert calibration.num_faces == 4 and calibration.levels == () and calibration.data == "my gate"
    assert captured.out == table(calibration) + "\n"
    assert "percentiles of 4 faces" in captured.err

    pipe = DifFIQAPipeline.from_pretrained(pipeline)
    pipe.calibration = calibration
    files = [str(tmp_path / "faces" / f"{i}.png") for i in range(4)]
    percentiles = pipe(files, num_timesteps=2, num_repeats=1).percentiles
    assert sorted(percentiles.tolist()) == pytest.approx([0, 100 / 3, 200 / 3, 100], abs=1)
    assert pipe(files, num_timesteps=1, num_repeats=1).percentiles is None  # at another t


def test_with_identities_there_is_an_fnmr(quality_model, people, tmp_path, capsys):
    """Of a quality model, with an FR model of its own."""
    output = tmp_path / "mine.json"
    args = [str(people), "--identities", "folder", "--model", quality_model, "--device", "cpu"]
    assert main(["calibrate", *args, "--output", str(output)]) == 0
    captured = capsys.readouterr()
    calibration = Calibration.from_pretrained(output)
    assert calibration.num_faces == 60 and calibration.num_nonmated == 60 * 59 // 2 - 120
    level = calibration.levels[0]
    assert (level.pairs, level.identities) == (120, 12) and level.fnmr == level.errors / 120
    assert f"{level.fnmr:.4f}" in captured.out.splitlines()[1]
    assert "too few" in captured.out.splitlines()[-3] and "take about " in captured.out.splitlines()[-1]
    assert "1,650 non-mated pairs" in captured.out
    assert calibration.data.endswith("; FNMR of the FR model default")
    assert calibration.settings["method"] == "diffiqa-r" and set(calibration.settings["weights"]) == {"model"}

    # The same by a pattern and by a table.
    rows = [f"{file},{file.parent.name}" for file in sorted(people.rglob("*.png"))]
    (tmp_path / "who.csv").write_text("\n".join(["file,identity", *rows]) + "\n")
    for i, how in enumerate([r"regex:/(p\d+)/", str(tmp_path / "who.csv")]):
        args = [str(people), "--recursive", "--identities", how, "--model", quality_model, "--device", "cpu"]
        assert main(["calibrate", *args, "--output", str(tmp_path / f"{i}.json")]) == 0
        other = Calibration.from_pretrained(tmp_path / f"{i}.json")
        assert (other.levels, other.threshold) == (calibration.levels, calibration.threshold)


def test_few_pairs_and_unknown_people_have_a_line_each(pipeline, tmp_path, capsys):
    for i in range(3):
        save_face(tmp_path / "faces" / f"a{i}.png", i)
    save_face(tmp_path / "faces" / "unknown.png", 9)
    (tmp_path / "faces" / "bad.png").write_text("no image")
    output = tmp_path / "mine.json"
    args = [str(tmp_path / "faces"), "--identities", r"regex:/(\w)\d\.png", "--model", pipeline, *QUICK]
    assert main(["calibrate", *args, "--output", str(output)]) == 1
    err = capsys.readouterr().err
    assert "unknown.png: --identities" in err and "does not say who it is" in err
    assert f"diffiqa: {tmp_path / 'faces' / 'bad.png'}: " in err
    assert "no FNMR: there are 3 mated pairs and 0 non-mated ones" in err
    assert "Traceback" not in err and "Warning" not in err
    calibration = Calibration.from_pretrained(output)
    assert calibration.num_faces == 4 and calibration.levels == ()


def test_no_calibration_is_status_2(pipeline, tmp_path, capsys):
    save_face(tmp_path / "one" / "a.png", 0)
    (tmp_path / "none").mkdir()
    output = tmp_path / "mine.json"
    args = ["--model", pipeline, "--output", str(output), *QUICK]
    assert main(["calibrate", str(tmp_path / "one"), *args]) == 2
    assert "two faces or more, and 1 could be scored" in capsys.readouterr().err
    assert main(["calibrate", str(tmp_path / "none"), *args]) == 2
    assert "no images in the folder" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--output", "x.csv"], "the ending is .json"),
        (["--output", "there.json"], "is there already"),
        (
            ["--output", "x.json", "--identities", "who"],
            "who: neither folder, first-folder",
        ),
        (["--output", "x.json", "--identities", "regex:("], "no regular expression"),
        (["--output", "x.json", "--identities", "missing.csv"], "missing.csv: No such file"),
        (
            ["--output", "x.json", "--identities", "columns.csv"],
            "columns.csv: has no column 'identity'",
        ),
        (["--output", "x.json", "--detector", "y.onnx", "--no-align"], "--detector is for faces that are aligned"),
    ],
)
def test_bad_usage_is_one_line_before_anything_is_loaded(tmp_path, monkeypatch, arguments, message, capsys):
    monkeypatch.chdir(tmp_path)
    save_face(tmp_path / "a.png", 0)
    (tmp_path / "there.json").touch()
    (tmp_path / "columns.csv").write_text("file,name\na.png,me\n")
    assert main(["calibrate", "a.png", "--model", "no such model", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err and "no such model" not in err and err.count("\n") == 1


def test_models_that_are_none(quality_model, tmp_path, capsys):
    save_face(tmp_path / "a.png", 0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    for model in ("no such model", str(tmp_path / "empty"), str(tmp_path / "other")):
        assert main(["calibrate", str(tmp_path), "--model", model, "--output", str(tmp_path / "x.json")]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"diffiqa: cannot load the model {model}: ") and err.count("\n") == 1
    args = ["--model", quality_model, "--output", str(tmp_path / "x.json"), "--num-repeats", "2"]
    assert main(["calibrate", str(tmp_path), *args]) == 2
    assert "--num-repeats goes with --method diffiqa" in capsys.readouterr().err


def test_a_detector_that_is_not_there_is_one_line(pipeline, tmp_path, capsys):
    save_face(tmp_path / "a.png", 0)
    detector = str(tmp_path / "missing.onnx")
    args = [str(tmp_path), "--model", pipeline, "--align", "--detector", detector, *QUICK]
    assert main(["calibrate", *args, "--output", str(tmp_path / "x.json")]) == 2
    err = capsys.readouterr().err
    assert "missing.onnx" in err and err.count("\n") == 1 and "Traceback" not in err


def test_the_table():
    without = table(fit_calibration(np.arange(101) / 100)).splitlines()
    assert without[0].split() == ["percentile", "score"] and without[2].split() == ["5", "0.0500"]
    assert len(without) == 22


def test_there_is_no_bar_of_the_libraries(people, tmp_path, capfd):
    """Where the scores come from ONNX Runtime, the FR model is the first network that torch loads."""
    from transformers.utils import logging

    logging.enable_progress_bar()
    args = [str(people), "--identities", "folder", "--no-align", "--device", "cpu", "--engine", "onnx"]
    assert main(["calibrate", *args, "--output", str(tmp_path / "mine.json")]) == 0
    assert "Loading weights" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "people,nonmated,errors,said",
    [
        (400, 80_000, 60, "400 people with two photographs or more are enough: the threshold rests on 80 false"),
        (400, 80_000, 10, "take about 800 people more"),  # three times the errors, of three times the people
        (100, 10_000, 60, "take about 74 people more"),  # three times the non-mated pairs, of the root of three
        (100, 10_000, 10, "take about 200 people more"),
        (100, 10_000, 0, "take about 74 people more"),
        (100, 80_000, 0, "on 0 errors: without an error in 1,000 pairs it is below about 0.003"),
    ],
)
def test_it_says_whether_the_people_are_enough(people, nonmated, errors, said):
    level = FNMRLevel(percentile=0, score=0.0, pairs=1000, errors=errors, identities=people)
    calibration = Calibration(tuple(np.linspace(0, 1, 101)), 2000, (level,), threshold=0.5, num_nonmated=nonmated)
    line = enough(calibration)
    assert said in line and "\n" not in line
    assert f"{nonmated // 1000:,} false matches" in line
