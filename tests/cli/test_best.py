# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa best`."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffiqa_hf import IResNetConfig, IResNetForFaceQuality
from diffiqa_hf.cli import main


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    config = IResNetConfig(depths=[1, 1, 1, 1], widths=[8, 8, 8, 8], embedding_size=16)
    IResNetForFaceQuality(config).save_pretrained(folder)
    return str(folder)


def save_face(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    Image.fromarray(small).resize((112, 112), Image.Resampling.BICUBIC).save(path)


def listed(out: str) -> list[tuple[str, str, float, str]]:
    rows = [line.split("\t") for line in out.splitlines()]
    return [(group, rank, float(score), file) for group, rank, score, file in rows]


# -- scoring ----------------------------------------------------------------------------------------------------------


def test_the_best_of_each_folder_are_those_that_score_highest(model, tmp_path, capsys):
    from diffiqa_hf import load_method

    faces = tmp_path / "faces"
    files = [faces / person / f"{i}.png" for person in ("Bob", "Äda") for i in range(3)]
    for seed, file in enumerate(files):
        save_face(file, seed)
    args = ["best", str(faces), "--group-by", "folder", "--model", model, "--device", "cpu"]
    assert main([*args, "--top", "2"]) == 0
    rows = listed(capsys.readouterr().out)
    scores = load_method("diffiqa-r", weights=model)([str(file) for file in files]).scores.tolist()
    expected = []
    for group, own in (("Bob", slice(0, 3)), ("Äda", slice(3, 6))):
        ranked = sorted(zip(scores[own], files[own], strict=True), reverse=True)[:2]
        expected += [(group, str(rank), str(file)) for rank, (_, file) in enumerate(ranked, 1)]
    assert [(group, rank, file) for group, rank, _, file in rows] == expected
    assert {file: score for *_, score, file in rows} == {
        str(file): pytest.approx(score, abs=1e-4)
        for file, score in zip(files, scores, strict=True)
        if str(file) in [row[2] for row in expected]
    }


def test_bad_files_have_a_line_and_the_rest_is_picked(model, tmp_path, capsys):
    faces = tmp_path / "faces"
    save_face(faces / "a" / "good.png")
    (faces / "a" / "bad.png").write_text("no image")
    (faces / "b").mkdir()
    (faces / "b" / "empty.png").touch()
    assert main(["best", str(faces), "--group-by", "folder", "--model", model, "--device", "cpu"]) == 1
    captured = capsys.readouterr()
    assert [(row[0], row[3]) for row in listed(captured.out)] == [("a", str(faces / "a" / "good.png"))]
    assert captured.err.count(f"diffiqa: {faces / 'a' / 'bad.png'}: ") == 1
    assert "diffiqa: b: none of its faces could be scored\n" in captured.err
    (faces / "a" / "good.png").unlink()
    assert main(["best", str(faces), "--group-by", "folder", "--model", model, "--device", "cpu"]) == 2


# -- with scores ------------------------------------------------------------------------------------------------------


@pytest.fixture
def scores(tmp_path, monkeypatch) -> Path:
    """A table as `diffiqa score` writes it, with a column of somebody's own."""
    monkeypatch.chdir(tmp_path)
    rows = [
        ("t1/a.png", 0.3, "x", ""),
        ("t1/b.png", 0.5, "x", ""),
        ("t2/a.png", 0.4, "x", ""),
        ("t2/c.png", "", "y", "no face found"),
        ("t2/d.png", 0.1, "y", ""),
        ("t3/e.png", 0.2, "", ""),
    ]
    for file, *_ in rows:
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).write_bytes(file.encode())
    lines = ["file,face,score,track,error", *(f"{file},0,{score},{who},{error}" for file, score, who, error in rows)]
    Path("scores.csv").write_text("\n".join(lines) + "\n")
    return Path("scores.csv")


@pytest.mark.parametrize(
    "how,top,expected",
    [
        ("folder", "1", [("t1", "t1/b.png"), ("t2", "t2/a.png"), ("t3", "t3/e.png")]),
        ("folder", "2", [(file[:2], file) for file in ("t1/b.png", "t1/a.png", "t2/a.png", "t2/d.png", "t3/e.png")]),
        ("column:track", "1", [("x", "t1/b.png"), ("y", "t2/d.png")]),
        (r"regex:/([ab])\.png", "1", [("a", "t2/a.png"), ("b", "t1/b.png")]),
        (r"regex:^t\d", "1", [("t1", "t1/b.png"), ("t2", "t2/a.png"), ("t3", "t3/e.png")]),
    ],
)  # fmt: skip
def test_groups(scores, how, top, expected, capsys):
    assert main(["best", "--scores", str(scores), "--group-by", how, "--top", top, "--list"]) == 1
    captured = capsys.readouterr()
    assert [(row[0], row[3]) for row in listed(captured.out)] == expected
    assert "diffiqa: t2/c.png: no face found\n" in captured.err
    assert ("t3/e.png: --group-by" in captured.err) == ("folder" not in how and "^t" not in how)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_other_tables(tmp_path, ending, capsys):
    rows = [{"file": f"{i}.png", "score": i / 10, "person": i % 2, "error": None} for i in range(4)]
    path = tmp_path / f"scores.{ending}"
    if ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pyarrow = pytest.importorskip("pyarrow.parquet")
        import pyarrow as pa

        pyarrow.write_table(pa.Table.from_pylist(rows), path)
    assert main(["best", "--scores", str(path), "--group-by", "column:person"]) == 0
    assert [(row[0], row[3]) for row in listed(capsys.readouterr().out)] == [("0", "2.png"), ("1", "3.png")]


def test_a_table_of_diffiqa_score_is_read(model, tmp_path, capsys):
    from diffiqa_hf.cli.score_table import COLUMNS, ScoreTable

    table = ScoreTable(tmp_path / "s.csv", {}, {}, resume=False)
    for i in range(3):
        row = dict.fromkeys(COLUMNS) | {"file": f'a, "b"/{i}.png', "face": 0, "score": i / 2}
        table.append([row])
    table.close()
    assert main(["best", "--scores", str(tmp_path / "s.csv"), "--group-by", "folder"]) == 0
    assert listed(capsys.readouterr().out) == [('a, "b"', "1", 1.0, 'a, "b"/2.png')]


# -- copies and links -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--copy-to", "--link-to"])
def test_copies_and_links(scores, tmp_path, option, capsys):
    args = ["best", "--scores", str(scores), "--group-by", "column:track", "--top", "3", option, "out/best"]
    assert main(args) == 1
    found = {str(path.relative_to("out/best")): path for path in Path("out/best").rglob("*") if not path.is_dir()}
    # Two files of one name in a group.
    assert set(found) == {"x/a.png", "x/a_2.png", "x/b.png", "y/d.png"}
    assert found["x/a.png"].read_bytes() == b"t2/a.png" and found["x/a_2.png"].read_bytes() == b"t1/a.png"
    assert all(path.is_symlink() == (option == "--link-to") for path in found.values())
    assert "4 files of 2 groups" in capsys.readouterr().err
    # What lies there is of another run.
    assert main(args) == 2
    assert "is not empty" in capsys.readouterr().err


def test_a_file_that_has_gone_has_a_line(scores, capsys):
    Path("t1/b.png").unlink()
    for i, option in enumerate(["--copy-to", "--link-to"]):
        assert main(["best", "--scores", str(scores), "--group-by", "column:track", option, f"out{i}"]) == 1
        assert "diffiqa: t1/b.png: No such file or directory\n" in capsys.readouterr().err
        assert [path.name for path in Path(f"out{i}").rglob("*.png")] == ["d.png"]


@pytest.mark.parametrize("group", ["../../up", "..", "/root", "a/b", "."])
def test_no_group_leads_out_of_the_folder(tmp_path, group, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(b"a")
    Path("s.jsonl").write_text(json.dumps({"file": "a.png", "score": 1, "who": group}) + "\n")
    assert main(["best", "--scores", "s.jsonl", "--group-by", "column:who", "--copy-to", "out"]) == 0
    assert [path.relative_to("out").parts[1:] for path in Path("out").rglob("*.png")] == [("a.png",)]
    assert sorted(os.listdir(tmp_path)) == ["a.png", "out", "s.jsonl"]


def test_groups_whose_folders_would_have_one_name_stay_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = []
    for i, group in enumerate(["a/b", "a_b", "A_B"]):
        Path(f"{i}.png").touch()
        rows.append({"file": f"{i}.png", "score": 1, "who": group})
    Path("s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["best", "--scores", "s.jsonl", "--group-by", "column:who", "--copy-to", "out"]) == 0
    assert sorted(str(path.relative_to("out")) for path in Path("out").rglob("*.png")) == [
        "A_B_3/2.png",
        "a_b/0.png",
        "a_b_2/1.png",
    ]


# -- usage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--group-by", "folder"], "give images and folders, or --scores"),
        (["x.png", "--scores", "s.csv", "--group-by", "folder"], "give images and folders, or --scores"),
        (["x.png", "--group-by", "column:who"], "goes with --scores"),
        (["x.png", "--group-by", "who"], "neither folder, first-folder, parent, each-folder, name, regex:PATTERN"),
        (["--scores", "s.csv", "--group-by", "column:who"], "s.csv: has no column 'who'; it has file, score"),
        (["--scores", "e.csv", "--group-by", "folder"], "e.csv: has no rows"),
        (["--scores", "w.csv", "--group-by", "folder"], "w.csv: column score: row 1: 'high' is no number"),
        (["--scores", "s.dat", "--group-by", "folder"], "s.dat: a table ends in .csv, "),
        (["--scores", "s.csv", "--group-by", "folder", "--align"], "--align is for scoring images"),
        (["--scores", "s.csv", "--group-by", "folder", "--model", "x"], "--model is for scoring images"),
        (["--scores", "s.csv", "--group-by", "folder", "--recursive"], "--recursive is for folders"),
        (["--scores", "s.csv", "--group-by", "folder", "--score-column", "x"], "has no column 'x'"),
        (["x.png", "--group-by", "folder", "--name-column", "x"], "go with --scores"),
        (["--scores", "s.csv", "--group-by", "folder", "--copy-to", "s.csv"], "cannot use the folder s.csv"),
    ],
)
def test_bad_usage_is_one_line(tmp_path, monkeypatch, arguments, message, capsys):
    monkeypatch.chdir(tmp_path)
    Path("s.csv").write_text("file,score\na.png,1\n")
    Path("e.csv").write_text("file,score\n")
    Path("w.csv").write_text("file,score\na.png,high\n")
    Path("s.dat").write_text("file,score\na.png,1\n")
    assert main(["best", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_two_places_at_once_are_refused():
    with pytest.raises(SystemExit) as exit_:
        main(["best", "x", "--group-by", "folder", "--copy-to", "a", "--link-to", "b"])
    assert exit_.value.code == 2
