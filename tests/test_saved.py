# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
What an earlier build (commit 080801e, 1 December 2026) saved loads and gives what it gave: a pipeline, a quality
model, their calibrations, a study's cache and a folder of labels, of networks of a few thousand random weights. What
another build of that day began goes on.
"""

import csv
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from fixtures.scripts import ROOT, load_script
from transformers import pipeline

from diffiqa_hf import AutoModelForFaceQuality, DifFIQAPipeline, load_method
from diffiqa_hf.cli import main
from diffiqa_hf.evaluation.study.config import StudyConfig
from diffiqa_hf.evaluation.study.runner import StudyRunner
from diffiqa_hf.hub import check_folder
from diffiqa_hf.training.data import load_face_dataset
from diffiqa_hf.training.labels import read_labels


SAVED = Path(__file__).parent / "fixtures" / "saved"
GAVE = json.loads((SAVED / "scores.json").read_text(encoding="utf-8"))
FACES = [str(ROOT / "examples" / "faces" / name) for name in GAVE["faces"]]


def assert_near(found, expected) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_pipeline_with_its_calibration():
    pipe = DifFIQAPipeline.from_pretrained(SAVED / "pipeline")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one says so where a calibration is of other weights or settings
        output = pipe(FACES)
    assert_near(output.scores.numpy(), GAVE["pipeline"])
    assert pipe.usable_calibration() is not None and output.percentiles is not None


def test_quality_model_with_its_calibration():
    AutoModelForFaceQuality.from_pretrained(SAVED / "quality")
    method = load_method("diffiqa-r", weights=SAVED / "quality")
    assert_near(method(FACES).scores.numpy(), GAVE["quality"])
    assert method.usable_calibration() is not None
    found = pipeline("face-image-quality-assessment", model=str(SAVED / "quality"))(FACES)
    assert_near([entry["score"] for entry in found], GAVE["quality"])
    assert all("percentile" in entry for entry in found)


def test_study_computes_nothing_again(tmp_path, monkeypatch):
    for name in ("pipeline", "quality"):
        shutil.copytree(SAVED / name, tmp_path / name)
    shutil.copytree(SAVED / "study_cache", tmp_path / "cache")
    for number, face in enumerate(FACES[:4]):
        (tmp_path / "faces" / f"person{number % 2}").mkdir(parents=True, exist_ok=True)
        shutil.copy(face, tmp_path / "faces" / f"person{number % 2}")
    monkeypatch.chdir(tmp_path)
    runner = StudyRunner(StudyConfig.from_file(SAVED / "study.json"))
    assert runner.compute(only_find=True) == 0
    scores, errors = runner.scores("quality", None, "faces")
    by_name = dict(zip(GAVE["faces"], GAVE["quality"], strict=True))
    names = [Path(name).name for name in runner.benchmarks["faces"].images["file"]]
    assert_near(scores, [by_name[name] for name in names])
    assert errors == [""] * 4


def test_labels():
    assert check_folder(SAVED / "labels") == "quality_labels"
    rows = load_face_dataset(train_parquet=[str(SAVED / "labels" / "data" / "train-000000.parquet")])
    labels = read_labels(rows, ["quality"])[:, 0]
    # They were scored twenty rows at a time.
    assert labels.shape == (4,) and np.isin(np.round(labels, 4), np.round(GAVE["pipeline"][:4], 4)).all()


@pytest.fixture
def begun(request, tmp_path, monkeypatch) -> Path:
    """
    The current folder, with what a build had begun when it was stopped: tables of the first two faces of four, and the
    first of two shards of labels.
    """
    for folder in (SAVED / "pipeline", SAVED / "quality", SAVED / "begun" / request.param):
        shutil.copytree(folder, tmp_path / folder.name)
    (tmp_path / "faces").mkdir()
    for face in FACES[:4]:
        shutil.copy(face, tmp_path / "faces")
    monkeypatch.chdir(tmp_path)
    return tmp_path / request.param


# A build whose fingerprint of networks had a setting in it that was left out later.
every_build = pytest.mark.parametrize("begun", ["42d6fe6"], indirect=True)


@every_build
@pytest.mark.parametrize("model, method", [("quality", "diffiqa-r"), ("pipeline", "diffiqa")])
def test_a_table_goes_on(begun, model, method):
    table = begun / f"{model}.csv"
    before = table.read_text(encoding="utf-8")
    args = ["score", "faces", "--method", method, "--model", model, "--no-align", "--device", "cpu"]
    assert main([*args, "--output", str(table), "--resume"]) == 0
    assert table.read_text(encoding="utf-8").startswith(before)
    with open(table, encoding="utf-8", newline="") as file:
        found = {Path(row["file"]).name: float(row["score"]) for row in csv.DictReader(file)}
    assert_near([found[name] for name in GAVE["faces"][:4]], GAVE[model][:4])


@every_build
def test_a_folder_of_labels_goes_on(begun):
    first = (begun / "labels" / "data" / "train-000000.parquet").read_bytes()
    args = ["--train_data_dir", "faces", "--method", "diffiqa-r", "--model", "quality", "--shard_size", "2"]
    load_script("label_quality").main([*args, "--output_dir", str(begun / "labels")])
    assert (begun / "labels" / "data" / "train-000000.parquet").read_bytes() == first
    manifest = json.loads((begun / "labels" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["complete"] and (manifest["rows"], manifest["failed"]) == (4, 0)
    files = [str(begun / "labels" / shard["file"]) for shard in manifest["shards"]]
    labels = read_labels(load_face_dataset(train_parquet=files), ["quality"])[:, 0]
    assert_near(np.sort(labels), np.sort(GAVE["quality"][:4]))


@pytest.mark.parametrize("folder", ["pipeline", "quality"])
def test_folders_are_as_good_as_new_ones_for_the_hub(folder):
    assert check_folder(SAVED / folder) == {"pipeline": "diffiqa", "quality": "face_quality"}[folder]
