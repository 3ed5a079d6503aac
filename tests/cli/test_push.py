# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from fixtures.hub import LocalHub

from diffiqa_hf import MobileFaceNetConfig, MobileFaceNetForFaceQuality, MobileFaceNetModel
from diffiqa_hf.cli import main


EXAMPLES = Path(__file__).parents[2] / "examples" / "faces"
TINY = {"stem_width": 8, "stem_groups": 8, "stages": [[8, 8, 1, 2]] * 3, "feature_width": 16, "embedding_size": 8}


@pytest.fixture
def folder(tmp_path) -> Path:
    MobileFaceNetForFaceQuality(MobileFaceNetConfig(**TINY)).save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_push_and_its_options(folder, tmp_path):
    def push(*options: str, token: str | None = "token-of-ann") -> subprocess.CompletedProcess:
        code = f"import sys; from diffiqa_hf.cli import main; sys.exit(main({['push', str(folder), *options]!r}))"
        environment = hub.environment(tmp_path / "home", token)
        return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)

    with LocalHub({"token-of-ann": "ann"}) as hub:
        done = push("ann/tiny", "--private", "--revision", "trial", "--commit-message", "first try")
        assert (done.returncode, done.stderr) == (0, "")
        repository = hub.repositories["models", "ann/tiny"]
        assert repository.private and repository.messages == ["initial commit", "first try"]
        assert set(repository.files[repository.refs["main"]]) == {".gitattributes"}
        files = repository.files[repository.refs["trial"]]
        assert files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
        assert files["README.md"] == (folder / "README.md").read_bytes()
        lines = done.stdout.splitlines()
        assert f"{folder / 'README.md'}: written" in lines and lines[-1].endswith(": 4 files")

        done = push("ann/tiny", token=None)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "diffiqa: no token for the Hub: `hf auth login`, or set HF_TOKEN\n"


def test_dry_run(folder, capsys):
    assert main(["push", str(folder), "ann/tiny", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"{folder / 'README.md'}: would be written" in out
    expected = "ann/tiny: 4 files would be uploaded: README.md, config.json, model.safetensors"
    assert expected in out and not (folder / "README.md").exists()


def test_folder_that_is_refused(folder, capsys):
    torch.save({}, folder / "optimizer.pt")
    assert main(["push", str(folder), "ann/tiny", "--dry-run"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "optimizer.pt: only safetensors are pushed" in err


def test_figures_of_a_benchmark_go_with_it(tmp_path, capsys):
    pytest.importorskip("datasets")
    torch.manual_seed(0)
    folder = tmp_path / "fr"
    MobileFaceNetModel(MobileFaceNetConfig(**TINY)).save_pretrained(folder)
    for face in json.loads((EXAMPLES / "faces.json").read_text())["faces"]:
        (tmp_path / "faces" / face["person"]).mkdir(parents=True, exist_ok=True)
        shutil.copy(EXAMPLES / face["file"], tmp_path / "faces" / face["person"])
    study = {
        "output": str(tmp_path / "report"),
        "methods": [{"name": "norm", "method": "embedding-norm", "fr_model": "each"}],
        "fr_models": [{"name": "tiny", "model": str(folder)}],
        "benchmarks": [{"name": "examples", "folder": str(tmp_path / "faces"), "mated_per_person": 5}],
        "fmr": 0.05,
        "replicates": 20,
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    assert main(["benchmark", str(tmp_path / "study.yaml"), "--no-plot", "--device", "cpu", "--quiet"]) == 0
    report = tmp_path / "report" / "results.json"
    (evaluation,) = json.loads(report.read_text())["evaluations"]
    measured = evaluation["methods"]["norm"]
    capsys.readouterr()

    options = ["--results", str(report), "--method", "norm", "--note", "A test's."]
    assert main(["push", str(folder), "ann/fr", *options, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"{folder / 'training.json'}: would be written" in out and "README.md, config.json" in out
    assert not (folder / "training.json").exists() and not (folder / "README.md").exists()

    with LocalHub({"token-of-ann": "ann"}) as hub:
        code = (
            f"import sys; from diffiqa_hf.cli import main; sys.exit(main({['push', str(folder), 'fr', *options]!r}))"
        )
        environment = hub.environment(tmp_path / "home", "token-of-ann")
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        repository = hub.repositories["models", "ann/fr"]
        files = repository.files[repository.refs["main"]]
    record = json.loads(files["training.json"])
    assert record["notes"] == ["A test's."]
    fnmr, *paucs = record["results"]
    assert fnmr["value"] == measured["fnmr"] and fnmr["dataset"] == "examples, FR model tiny"
    assert [entry["value"] for entry in paucs] == list(measured["pauc"].values())
    assert [[entry["low"], entry["high"]] for entry in paucs] == list(measured["interval"].values())
    assert f"{measured['false_non_matches']} errors in {measured['mated']} mated pairs" in fnmr["basis"]
    assert "at most 5 of each person" in fnmr["basis"]
    card = files["README.md"].decode()
    assert "- A test's." in card and f"| {measured['pauc']['0.3']:.4g} | " in card and '"ann/fr"' in card
    assert (folder / "README.md").read_text() == card

    assert main(["push", str(folder), "ann/fr", "--results", str(report), "--method", "ours", "--dry-run"]) == 1
    assert "has no method 'ours'; it has norm" in capsys.readouterr().err
    for half in (options[:2], options[2:4]):
        assert main(["push", str(folder), "ann/fr", *half]) == 2
        assert capsys.readouterr().err == "diffiqa: --results and --method go together\n"
