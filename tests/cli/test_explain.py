# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa explain`, with the weights of the package and with a tiny quality model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffiqa_hf import IResNetConfig, IResNetForFaceQuality
from diffiqa_hf.calibration import fit_calibration, weights_digest
from diffiqa_hf.cli import main


EXAMPLES = Path(__file__).parents[2] / "examples" / "faces"


def make_model() -> IResNetForFaceQuality:
    torch.manual_seed(0)
    return IResNetForFaceQuality(IResNetConfig(depths=[1, 1, 1, 1], widths=[8, 8, 8, 8], embedding_size=16)).eval()


@pytest.fixture
def model(tmp_path) -> str:
    make_model().save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_a_picture_for_each_face(tmp_path, capsys):
    files = [str(EXAMPLES / name) for name in ("astronaut.jpg", "sample2_profile.jpg")]
    args = ["--output", str(tmp_path / "new" / "out"), "--device", "cpu", "--num-repeats", "2"]
    assert main(["explain", *files, *args]) == 0
    captured = capsys.readouterr()
    pictures = [tmp_path / "new" / "out" / f"{Path(file).stem}_explained.png" for file in files]
    assert sorted((tmp_path / "new" / "out").iterdir()) == pictures
    # The scores are those of `diffiqa score`, which has no percentiles for two repeats.
    assert main(["score", *files, "--device", "cpu", "--num-repeats", "2", "--quiet"]) == 0
    scores = [line.split()[-1] for line in capsys.readouterr().out.splitlines()]
    lines = [f"{path}  {score}" for path, score in zip(pictures, scores, strict=True)]
    assert captured.out.splitlines() == lines
    first, second = (np.asarray(Image.open(path)) for path in pictures)
    assert first.shape == second.shape and (first != second).any()


def test_bad_files_have_a_line_and_the_rest_is_drawn(model, tmp_path, capsys):
    faces = tmp_path / "faces"
    (faces / "again").mkdir(parents=True)
    for name in ("Jürgen.png", "again/Jürgen.png"):
        Image.new("RGB", (112, 112), (200, 90, 40)).save(faces / name)
    (faces / "bad.jpg").write_text("no image")
    args = ["--model", model, "--device", "cpu", "--output", str(tmp_path / "out")]
    assert main(["explain", str(faces), str(tmp_path / "gone.png"), "--recursive", *args]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 2 and "Traceback" not in captured.err
    assert f"diffiqa: {faces / 'bad.jpg'}: " in captured.err
    assert f"diffiqa: {tmp_path / 'gone.png'}: no such file\n" in captured.err
    # Two files of one name; nothing is drawn over the other.
    assert len(list((tmp_path / "out").iterdir())) == 2 == len(captured.out.splitlines())


def test_percentiles_of_a_quality_model_with_a_calibration(model, tmp_path, capsys, monkeypatch):
    from diffiqa_hf.explanation import FaceExplanation

    drawn: list[FaceExplanation] = []
    from diffiqa_hf import explanation

    draw = explanation.draw_explanation
    monkeypatch.setattr(explanation, "draw_explanation", lambda e, *texts: (drawn.append(e), draw(e, *texts))[1])
    args = [str(EXAMPLES / "astronaut.jpg"), "--model", model, "--device", "cpu", "--output", str(tmp_path / "out")]
    settings = {"method": "diffiqa-r", "weights": {"model": weights_digest(make_model())}}
    fit_calibration([-1e6, 1e6], settings=settings).save_pretrained(model)
    assert main(["explain", *args]) == 0
    assert drawn[0].percentile == pytest.approx(50, abs=0.01)
    settings["weights"] = {"model": "of another"}
    fit_calibration([-1e6, 1e6], settings=settings).save_pretrained(model)
    capsys.readouterr()
    assert main(["explain", *args]) == 0
    assert "no percentiles: the calibration was measured with other settings" in capsys.readouterr().err
    assert drawn[1].percentile is None
    (Path(model) / "calibration.json").write_text("{")
    assert main(["explain", *args]) == 2
    assert "is no calibration" in capsys.readouterr().err


def test_nothing_drawn_is_status_2(model, tmp_path, capsys):
    (tmp_path / "bad.png").touch()
    args = ["--model", model, "--device", "cpu"]
    assert main(["explain", str(tmp_path / "bad.png"), *args, "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"diffiqa: {tmp_path / 'bad.png'}: empty file\n"
    (tmp_path / "file").touch()
    Image.new("RGB", (112, 112)).save(tmp_path / "good.png")
    assert main(["explain", str(tmp_path / "good.png"), *args, "--output", str(tmp_path / "file" / "out")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("diffiqa: cannot write") and err.count("\n") == 1
