# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The wheel works alone, away from the checkout."""

import csv
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from PIL import Image


ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_scores_a_picture_with_its_default_weights(tmp_path):
    # The sources are copied: setuptools would otherwise put what it makes on the way into the checkout, and take files
    # out of it that an earlier build left there.
    source = tmp_path / "source"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in listed.split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", tmp_path / "dist", source]
    subprocess.run(command, check=True)
    (wheel,) = (tmp_path / "dist").glob("diffiqa_hf-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"diffiqa_hf/py.typed", "diffiqa_hf/metrics/pauc/pauc.py", "diffiqa_hf/metrics/edc/README.md"} <= set(names)
    assert "diffiqa_hf/methods/cards/speeds.json" in names
    assert {
        "diffiqa_hf/model_cards/diffiqa.md",
        "diffiqa_hf/pipelines/diffiqa/pipeline.py",
        "diffiqa_hf/evaluation/study/report_page.html",
    } <= set(names)
    assert {name.split("/")[0] for name in names} == {"diffiqa_hf", wheel.name.split("-py3")[0] + ".dist-info"}

    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--no-deps", "--quiet", wheel], check=True)
    # The dependencies come from where they are; the checkout does not: its editable install is known there only by a
    # .pth file, which Python reads in site directories alone.
    site = Path(sysconfig.get_path("purelib", vars={"base": environment, "platbase": environment}))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Image.effect_noise((112, 112), 60).convert("RGB").save(elsewhere / "face.png")

    where = subprocess.run(
        [python, "-c", "import diffiqa_hf; print(diffiqa_hf.__file__)"],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert Path(where.strip()).is_relative_to(environment)
    command = [environment / "bin" / "diffiqa", "score", "face.png", "--output", "scores.csv", "--device", "cpu"]
    subprocess.run(command, cwd=elsewhere, check=True)
    with open(elsewhere / "scores.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["file"] == "face.png" and float(row["score"]) <= 1
