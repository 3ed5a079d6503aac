# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Embeddings beside a dataset have its rows, and a pointer is no dataset: said before anything is computed."""

import json

import numpy as np
import pytest
from fixtures.scripts import ROOT, load_script, run_anew


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    from datasets import Dataset, Image

    folder = tmp_path_factory.mktemp("rows")
    rows = json.loads((ROOT / "examples" / "faces" / "faces.json").read_text())["faces"]
    columns = {
        "image": [str(ROOT / "examples" / "faces" / row["file"]) for row in rows],
        "identity": [row["person"] for row in rows],
        "quality": [float(at) for at in range(len(rows))],
    }
    Dataset.from_dict(columns).cast_column("image", Image()).to_parquet(str(folder / "faces.parquet"))
    return folder / "faces.parquet", len(rows)


SCRIPTS = [
    ("train_diffiqa_r", "--validation_embeddings", ["--model_name_or_path", "none"]),
    ("train_diffiqa_r", "--fr_embeddings", ["--model_name_or_path", "none", "--representation_weight", "1"]),
    ("train_face_recognition", "--teacher_embeddings", []),
    ("train_quality", "--fr_embeddings", ["--recipe", "sdd-fiqa", "--model_name_or_path", "none"]),
]


@pytest.mark.parametrize(("script", "option", "more"), SCRIPTS)
def test_another_number_of_rows_is_refused(faces, tmp_path, script, option, more):
    parquet, count = faces
    args = ["--train_parquet", str(parquet), "--output_dir", str(tmp_path / "out"), "--report_to", "none", *more]
    main = load_script(script).main
    for rows in (count - 1, count + 35):
        np.save(tmp_path / "e.npy", np.ones((rows, 8), np.float32))
        with pytest.raises(
            ValueError, match=f"e.npy has {rows} rows and the dataset {count}: they must be the same images"
        ):
            run_anew(main, [*args, option, str(tmp_path / "e.npy")])
    (tmp_path / "e.npy").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match="e.npy: a Git LFS pointer and not the file itself"):
        run_anew(main, [*args, option, str(tmp_path / "e.npy")])


@pytest.mark.parametrize(
    ("script", "more"), [("train_face_recognition", ["--teacher", "none"]), ("label_quality", [])]
)
def test_a_pointer_is_no_dataset(tmp_path, script, more, capsys):
    path = tmp_path / "train.parquet"
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    line = "train.parquet: a Git LFS pointer and not the file itself"
    with pytest.raises((ValueError, SystemExit)) as error:
        run_anew(
            load_script(script).main, ["--train_parquet", str(path), "--output_dir", str(tmp_path / "out"), *more]
        )
    assert line in str(error.value) or line in capsys.readouterr().err
