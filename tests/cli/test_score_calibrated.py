# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Percentiles in what `diffiqa score` writes, and the distilled network of the package, with tiny networks."""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from methods.conftest import make_network
from PIL import Image

from diffiqa_hf import load_method
from diffiqa_hf.calibration import Calibration
from diffiqa_hf.cli import main


DIFFIQA = ["--num-timesteps", "200", "--num-inference-steps", "1", "--num-repeats", "2"]


def read_rows(path: Path) -> list[dict]:
    if path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            return [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path).to_pylist()


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    for i in range(5):
        small = Image.fromarray(np.random.default_rng(i).integers(0, 256, (7, 7, 3), dtype=np.uint8))
        small.resize((112, 112), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    (folder / "bad.png").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def networks(tmp_path_factory, faces) -> Path:
    """A quality model and a pipeline, the calibration of each on these faces in a file of its own."""
    folder = tmp_path_factory.mktemp("networks")
    for name, options in (("diffiqa-r", []), ("diffiqa", DIFFIQA)):
        make_network(name).save_pretrained(folder / name)
        args = [str(faces), "--model", str(folder / name), "--output", str(folder / f"{name}.json"), *options]
        assert main(["calibrate", *args, "--device", "cpu"]) == 1  # there is a bad file
    return folder


@pytest.fixture
def model(networks, tmp_path) -> str:
    """The quality model with its calibration beside it."""
    folder = shutil.copytree(networks / "diffiqa-r", tmp_path / "model")
    shutil.copy(networks / "diffiqa-r.json", folder / "calibration.json")
    return str(folder)


def score(faces: Path, *args: str, method: str = "diffiqa-r") -> int:
    return main(["score", str(faces), "--method", method, "--device", "cpu", *args])


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_the_table_has_percentiles_and_integers(model, faces, tmp_path, ending, capsys):
    output = tmp_path / f"scores.{ending}"
    args = ["--model", model, "--iso", "--output", str(output)]
    assert score(faces, *args) == 1
    printed = capsys.readouterr().out.splitlines()
    rows = read_rows(output)
    assert list(rows[0]) == ["file", "face", "score", "percentile", "iso", "error"]
    expected = load_method("diffiqa-r", model)(sorted(str(path) for path in faces.iterdir()))
    calibration = Calibration.from_pretrained(model)
    iso = calibration.to_iso(expected.scores)
    for i, row in enumerate(rows):
        assert row["iso"] == (str(iso[i]) if ending == "csv" else iso[i])
        if row["error"]:
            assert row["percentile"] is row["score"] is None and iso[i] == -1
            assert printed[i].split()[-3:] == ["-", "iso", "-1"]
        else:
            assert float(row["percentile"]) == pytest.approx(expected.percentiles[i].item(), abs=0.01)
            shown = [f"{float(row['percentile']):.1f}", "iso", str(iso[i])]
            assert printed[i].split()[-3:] == shown and printed[i].split()[-4] == "percentile"
    assert sorted(iso.tolist()) == [-1, 0, 25, 50, 75, 100]

    # A run that goes on, and one that would mix tables.
    Image.new("RGB", (112, 112), (200, 100, 50)).save(tmp_path / "new.png")
    assert main(["score", str(faces), str(tmp_path / "new.png"), *args, "--fast", "--device", "cpu", "--resume"]) == 1
    again = read_rows(output)
    assert again[:-1] == rows and again[-1]["percentile"] is not None and again[-1]["iso"] is not None
    capsys.readouterr()
    assert score(faces, "--model", model, "--output", str(output), "--resume") == 2
    assert "it was made with other settings: iso was True, is None" in capsys.readouterr().err
    (Path(model) / "calibration.json").unlink()
    assert score(faces, "--model", model, "--output", str(output), "--resume") == 2
    err = capsys.readouterr().err
    assert "calibration was " in err and "is None" in err and err.count("\n") == 1
    assert read_rows(output) == again


def test_a_table_without_percentiles_gets_none_by_resume(networks, faces, tmp_path, capsys):
    output = tmp_path / "s.csv"
    args = ["--model", str(networks / "diffiqa-r"), "--output", str(output)]
    assert score(faces, *args) == 1
    assert list(read_rows(output)[0]) == ["file", "face", "score", "error"]
    record = output.with_name("s.csv.settings.json")
    # As an earlier version wrote it.
    old = {name: value for name, value in json.loads(record.read_text()).items() if name not in ("calibration", "iso")}
    record.write_text(json.dumps(old))
    assert score(faces, *args, "--resume") == 1
    capsys.readouterr()
    assert score(faces, *args, "--resume", "--calibration", str(networks / "diffiqa-r.json")) == 2
    assert "calibration was None, is " in capsys.readouterr().err


def test_a_calibration_of_ones_own(networks, model, faces, tmp_path, capsys):
    # It stands in the place of the one beside the model, by whatever name the network is called.
    other = tmp_path / "other.json"
    assert (
        main(["calibrate", *(str(faces / f"{i}.png") for i in range(3)), "--model", model, "--output", str(other)])
        == 0
    )
    percentiles = {}
    for name, method, more in (
        ("beside", "diffiqa-r", []),
        ("given", "diffiqa-r", ["--calibration", str(networks / "diffiqa-r.json")]),
        ("cr-fiqa", "cr-fiqa", []),
        ("bfloat16", "diffiqa-r", ["--dtype", "bfloat16"]),
        ("other", "diffiqa-r", ["--calibration", str(other)]),
    ):
        output = tmp_path / f"{name}.jsonl"
        assert score(faces, "--model", model, "--output", str(output), *more, method=method) == 1
        percentiles[name] = [row["percentile"] for row in read_rows(output)]
        assert percentiles[name][-1] is None and all(0 <= value <= 100 for value in percentiles[name][:-1])
    for name in ("given", "cr-fiqa"):
        assert percentiles[name][:-1] == pytest.approx(percentiles["beside"][:-1], abs=0.02)
    assert percentiles["other"][:-1] != pytest.approx(percentiles["beside"][:-1], abs=0.02)
    capsys.readouterr()


def test_of_the_pipeline(networks, faces, tmp_path, capsys):
    args = ["--model", str(networks / "diffiqa"), *DIFFIQA, "--calibration", str(networks / "diffiqa.json"), "--iso"]
    output = tmp_path / "s.jsonl"
    assert score(faces, *args, "--output", str(output), method="diffiqa") == 1
    rows = read_rows(output)
    assert list(rows[0])[2:6] == ["score", "percentile", "iso", "noisy"]
    # Sampled scores of folded networks, among five faces: to a percentile or two.
    found = sorted(row["iso"] for row in rows)
    assert found == [-1] + [pytest.approx(value, abs=2) for value in (0, 25, 50, 75, 100)]
    assert all(row["iso"] == math.floor(row["percentile"] + 0.5) for row in rows if row["error"] is None)
    capsys.readouterr()
    for more, difference in (
        (["--num-repeats", "3"], "num_repeats was 2, is 3"),
        (["--option", "use_flip=false"], "terms was "),
        (["--option", "preset=official"], "off_by_one was False, is True"),
    ):
        assert score(faces, *args, *more, "--output", str(tmp_path / "t.csv"), method="diffiqa") == 2
        err = capsys.readouterr().err
        assert err.startswith("diffiqa: no percentiles: the calibration was measured with other settings")
        assert difference in err and "--iso needs a calibration" in err and "`diffiqa calibrate`" in err
        assert err.count("\n") == 2 and not (tmp_path / "t.csv").exists()


def test_a_calibration_beside_the_model_that_does_not_hold_is_one_line(networks, faces, tmp_path, capsys):
    folder = shutil.copytree(networks / "diffiqa", tmp_path / "pipeline")
    shutil.copy(networks / "diffiqa.json", folder / "calibration.json")
    output = tmp_path / "s.jsonl"
    args = ["--model", str(folder), *DIFFIQA, "--num-repeats", "1", "--output", str(output), "--quiet"]
    assert score(faces, *args, method="diffiqa") == 1
    assert capsys.readouterr().err.count("no percentiles") == 1
    assert "percentile" not in read_rows(output)[0]


def test_calibrations_that_are_none(networks, faces, tmp_path, capsys):
    model = ["--model", str(networks / "diffiqa-r")]
    (tmp_path / "none.json").write_text("{}")
    for args, message in (
        (["--iso"], "--iso needs a calibration of this model with these settings: `diffiqa calibrate` makes one"),
        (["--calibration", str(tmp_path / "none.json")], "none.json is no calibration"),
        (["--calibration", "missing.json"], "--calibration missing.json: no such file"),
        (["--calibration", str(tmp_path)], f"--calibration {tmp_path}: no such file"),
    ):
        assert score(faces, *model, *args) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
    # Of another network.
    assert score(faces, *model, "--calibration", str(networks / "diffiqa.json")) == 2
    err = capsys.readouterr().err
    assert "other weights of unet" in err and "--calibration needs a calibration of this model" in err


def test_fast_is_the_distilled_network(faces, tmp_path, capsys):
    files = [str(faces / f"{i}.png") for i in range(5)]
    expected = load_method("diffiqa-r")(files)
    for name, args in (("fast", ["--fast"]), ("method", ["--method", "diffiqa-r"])):
        output = tmp_path / f"{name}.jsonl"
        assert main(["score", *files, *args, "--iso", "--device", "cpu", "--output", str(output)]) == 0
        rows = read_rows(output)
        assert [row["score"] for row in rows] == pytest.approx(expected.scores.tolist(), rel=1e-4, abs=1e-5)
        assert [row["percentile"] for row in rows] == pytest.approx(expected.percentiles.tolist(), abs=1)
        assert json.loads(output.with_name(f"{output.name}.settings.json").read_text())["method"] == "diffiqa-r"
    for command in (
        ["best", *files, "--group-by", "folder"],
        ["explain", files[0], "--output", str(tmp_path / "out")],
    ):
        assert main([*command, "--fast", "--device", "cpu"]) == 0
    capsys.readouterr()
    output = tmp_path / "mine.json"
    assert main(["calibrate", *files, "--fast", "--device", "cpu", "--output", str(output)]) == 0
    assert Calibration.from_pretrained(output).settings == load_method("diffiqa-r").calibration_settings()
    capsys.readouterr()
    for command in (
        ["score", "--fast", "--method", "faceqan"],
        ["best", "--fast", "--method", "x", "--group-by", "folder"],
    ):
        with pytest.raises(SystemExit) as stop:
            main([*command, *files])
        assert stop.value.code == 2 and "not allowed with argument" in capsys.readouterr().err
    assert main(["score", files[0], "--method", "cr-fiqa", "--model", "default"]) == 2
    assert "cr-fiqa has no default weights, it needs its own" in capsys.readouterr().err
