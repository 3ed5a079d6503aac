# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fixtures.hub import LocalHub

from diffiqa_hf import MobileFaceNetConfig, MobileFaceNetForFaceQuality
from diffiqa_hf.cli import main


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
