# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the commands do where nothing is said: which method scores, and which images are aligned."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffiqa_hf import DifFIQAPipeline, load_method
from diffiqa_hf.cli import main


EXAMPLES = Path(__file__).parents[2] / "examples"
FACE = str(EXAMPLES / "faces" / "astronaut.jpg")


def last_number(line: str, text: str) -> float:
    return float(line.split(text)[1].split()[0])


@pytest.mark.parametrize(
    "args,fast",
    [
        ([], True),
        (["--fast"], True),
        (["--method", "diffiqa"], False),
        (["--model", "default"], False),
        (["--fr-model", "default"], False),
        (["--num-repeats", "1"], False),
    ],
)
def test_the_small_network_scores_and_diffiqa_by_name(args, fast, capsys):
    scorer = load_method() if fast else DifFIQAPipeline.from_pretrained("default")
    expected = scorer(FACE).scores.item()
    assert main(["score", FACE, "--device", "cpu", "--quiet", *args]) == 0
    assert last_number(capsys.readouterr().out, FACE) == pytest.approx(expected, abs=1e-4)
    assert main(["best", FACE, "--group-by", "folder", "--device", "cpu", *args]) == 0
    assert float(capsys.readouterr().out.split("\t")[2]) == pytest.approx(expected, abs=1e-4)


def test_score_takes_the_method_of_a_quality_model(tmp_path, capsys):
    load_method(engine="torch").model.save_pretrained(tmp_path / "mine")
    assert main(["score", FACE, "--model", str(tmp_path / "mine"), "--device", "cpu", "--quiet"]) == 0
    assert last_number(capsys.readouterr().out, FACE) == pytest.approx(load_method()(FACE).scores.item(), abs=1e-4)
    (tmp_path / "model.pth").touch()
    assert main(["score", FACE, "--model", str(tmp_path / "model.pth")]) == 2
    err = capsys.readouterr().err
    assert "--method NAME does" in err and err.count("\n") == 1


def test_explain_has_the_score_of_both(tmp_path, capsys):
    args = ["--output", str(tmp_path), "--device", "cpu"]
    assert main(["explain", FACE, *args]) == 0
    line = capsys.readouterr().out
    assert last_number(line, ".png") == pytest.approx(load_method()(FACE).scores.item(), abs=1e-4)
    pipe = DifFIQAPipeline.from_pretrained("default")
    assert last_number(line, "DifFIQA") == pytest.approx(pipe(FACE).scores.item(), abs=1e-4)
    assert main(["explain", FACE, *args, "--method", "faceqan"]) == 2
    assert "there are pictures of diffiqa, and of networks that give a score alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [["score"], ["best", "--group-by", "folder"], ["explain"], ["calibrate", "--output", "c.json"]]
)
def test_photographs_without_a_detector_have_one_line_before_anything_is_scored(
    command, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (112, 112)).save("a.png")
    Image.new("RGB", (300, 200)).save("b.png")
    args = [*command, "a.png", "b.png", "--device", "cpu"]
    assert main([*args, "--detector", "gone.onnx"]) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if "--group-by" not in line]
    assert captured.out == "" and len(lines) == 1
    assert "b.png is 300x200, no aligned crop of 112x112" in lines[0] and "gone.onnx" in lines[0]
    assert "--detector FILE" in lines[0] and "--no-align" in lines[0]
    # Whoever says that they are crops has them scored.
    assert main([*args, "--no-align"]) == 0


def test_evaluate_aligns_as_the_commands_that_score(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, size in (("a", (112, 112)), ("b", (112, 112)), ("c", (300, 200))):
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(f"{name}.png")
    Path("scores.csv").write_text("file,score\na.png,1\nb.png,2\nc.png,3\n")
    args = ["evaluate", "--scores", "scores.csv", "--fr-model", "default", "--device", "cpu", "--threshold", "2"]
    args += ["--replicates", "0", "--detector", "gone.onnx", "--pairs"]
    for name, pair in (("crops", "a.png,b.png,1"), ("photographs", "a.png,c.png,1")):
        Path(f"{name}.csv").write_text(f"file_a,file_b,mated\n{pair}\n")
    assert main([*args, "crops.csv"]) == 0
    capsys.readouterr()
    assert main([*args, "photographs.csv"]) == 2
    err = capsys.readouterr().err
    assert "c.png is 300x200, no aligned crop of 112x112" in err and "--no-align" in err and err.count("\n") == 1
    assert main([*args[:-3], "--no-align", "--pairs", "photographs.csv"]) == 0
    assert main([*args[:-1], "--no-align", "--pairs", "photographs.csv"]) == 2
    assert "--detector is for faces that are aligned" in capsys.readouterr().err
    without = ["evaluate", "--scores", "scores.csv", "--similarities", "--pairs", "crops.csv"]
    for option in (["--no-align"], ["--detector", "x.onnx"]):
        assert main([*without, *option]) == 2
        assert "goes with --fr-model" in capsys.readouterr().err


def test_crops_need_no_detector(tmp_path):
    for name, size in (("a", (112, 112)), ("b", (96, 112))):
        Image.new("RGB", size, (90, 120, 60)).save(tmp_path / f"{name}.png")
    assert main(["score", str(tmp_path), "--detector", str(tmp_path / "gone.onnx"), "--device", "cpu"]) == 0
    assert main(["score", str(tmp_path), "--align", "--detector", str(tmp_path / "gone.onnx")]) == 2


@pytest.mark.shared
def test_what_is_no_crop_is_aligned(shared_dir, tmp_path, capsys):
    detector = str(shared_dir / "weights" / "yunet" / "yunet_n_dynamic.onnx")
    photo = str(EXAMPLES / "photos" / "sample6.jpg")
    with Image.open(FACE) as crop:
        crop.resize((300, 300), Image.Resampling.BICUBIC).save(tmp_path / "crop.png")
    args = ["score", photo, FACE, str(tmp_path / "crop.png"), "--quiet", "--device", "cpu", "--detector", detector]
    assert main(args) == 0
    scores = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    aligned = load_method(align=True, detector=detector)(photo).scores.item()
    crops = load_method(align=False)([FACE, str(tmp_path / "crop.png")]).scores.tolist()
    assert scores == pytest.approx([aligned, *crops], abs=1e-4)
    assert np.ptp(scores) > 1e-3


@pytest.mark.shared
def test_evaluate_compares_aligned_faces(shared_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    detector = str(shared_dir / "weights" / "yunet" / "yunet_n_dynamic.onnx")
    photo, other = str(EXAMPLES / "photos" / "sample6.jpg"), str(EXAMPLES / "photos" / "astronaut.jpg")
    Path("scores.csv").write_text(f"file,score\n{photo},1\n{other},2\n{FACE},3\n")
    Path("pairs.csv").write_text(f"file_a,file_b,mated\n{photo},{FACE},0\n{other},{FACE},1\n")
    args = ["evaluate", "--scores", "scores.csv", "--pairs", "pairs.csv", "--fr-model", "default", "--device", "cpu"]
    pipe = DifFIQAPipeline.from_pretrained("default")
    processor = pipe.image_processor.with_changes(do_align="auto", detector=detector)
    import torch

    with torch.no_grad():
        faces = torch.from_numpy(np.stack([processor.extract_faces(f)[0].pixel_values for f in (photo, other, FACE)]))
        unit = torch.nn.functional.normalize(pipe.fr_model(faces).embeddings)
    mated = float(unit[1] @ unit[2])
    # Just below the similarity of the aligned faces there is no error, just above it there is one.
    for threshold, errors in ((mated - 1e-4, 0), (mated + 1e-4, 1)):
        status = main([*args, "--detector", detector, "--threshold", str(threshold), "--replicates", "0"])
        captured = capsys.readouterr()
        assert status == 0 and f"({errors} errors)" in captured.out, captured


def test_what_alignment_can_not_mean(capsys):
    for args in (["--no-align", "--detector", "x.onnx"], ["--no-align", "--faces", "all"]):
        assert main(["score", FACE, *args]) == 2
        assert capsys.readouterr().err.count("\n") == 1
