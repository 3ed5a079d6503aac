# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Who is who, which files there are, and what stands in a table, by way of the commands."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffiqa_hf import IResNetConfig, IResNetForFaceQuality
from diffiqa_hf.cli import main
from diffiqa_hf.scoring.image_files import image_endings


FACES = Path(__file__).parents[2] / "examples" / "faces"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    config = IResNetConfig(depths=[1, 1, 1, 1], widths=[8, 8, 8, 8], embedding_size=16)
    IResNetForFaceQuality(config).save_pretrained(folder)
    return str(folder)


def save_face(path: str, seed: int = 0) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    Image.fromarray(small).resize((112, 112), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def people(tmp_path, monkeypatch):
    """Embeddings and scores of 30 people with four images each, under names that a test chooses."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    identities = np.repeat(np.arange(30), 4)
    embeddings = rng.normal(size=(30, 8))[identities] + 0.4 * rng.normal(size=(120, 8))
    np.save("e.npy", embeddings.astype(np.float32))
    scores = rng.random(120)

    def write(layout: str, table: str = "s.csv", extra: tuple[str, ...] = ()) -> list[str]:
        names = [
            layout.format(who=f"{k // 4:03d}", i=k % 4 + 1, pose=("frontal", "profile")[k % 2]) for k in range(120)
        ]
        rows = [f"{name},{score}" for name, score in zip(names, scores.tolist(), strict=True)]
        Path(table).write_text("\n".join(["file,score", *rows, *extra]) + "\n")
        return names

    return write


def evaluated(*options, capsys) -> tuple[str, str]:
    point = [] if "--threshold" in options else ["--fmr", "0.01"]
    assert main(["evaluate", *point, "--replicates", "0", *map(str, options)]) == 0
    captured = capsys.readouterr()
    return captured.out, captured.err


DRAWN = ("--scores", "s.csv", "--embeddings", "e.npy", "--identities")


def test_evaluate_the_same_faces_are_the_same_people(people, capsys):
    people("p/{who}/{i}.jpg")
    out, err = evaluated(*DRAWN, "folder", capsys=capsys)
    assert out.startswith("180 mated and 6,960 non-mated pairs of 120 images")
    assert "--identities folder: 30 people in 120 images, such as 000 (4: p/000/1.jpg, ...); from the folders" in err
    for layout, how in [
        ("x/y/p/{who}/{i}.jpg", "folder"),
        ("p/{who}/{pose}/{i}.jpg", "folder"),
        ("p/{who}/{i}/1.jpg", "first-folder"),
        ("p/{pose}/{who}/{i}.jpg", "parent"),
        ("Ann_{who}_{i:04d}.jpg", "name"),
        ("{i}-{who}.jpg", r"regex:-(\d+)"),
    ]:
        people(layout)
        assert evaluated(*DRAWN, how, capsys=capsys)[0] == out
    people("p/{who}/{i}/1.jpg")
    assert main(["evaluate", *DRAWN, "folder"]) == 2
    err = capsys.readouterr().err
    assert (
        err.count("\n") == 1
        and "which folder is the person is not clear, as in 000/1: --identities first-folder" in err
    )


def test_evaluate_counts_a_file_once_and_unknown_people_not_at_all(people, tmp_path, capsys):
    names = people("p/{who}/{i}.jpg")
    once = evaluated(*DRAWN, "folder", capsys=capsys)[0]
    rows = Path("s.csv").read_text().splitlines()[1:]
    doubled = [f"{tmp_path}/{row}" for row in rows] + [row.replace("p/", "./p//") for row in rows]
    people("p/{who}/{i}.jpg", extra=tuple(doubled))
    np.save("e.npy", np.concatenate([np.load("e.npy"), np.zeros((240, 8), np.float32)]))
    out, err = evaluated(*DRAWN, "folder", capsys=capsys)
    assert out == once and "s.csv: 240 rows are of files that are there already and count once" in err
    # The embeddings are as many as the rows of the table.
    np.save("e.npy", np.load("e.npy")[:120])
    assert main(["evaluate", *DRAWN, "folder"]) == 2
    assert "e.npy has 120 rows and s.csv 360: they must be the same images" in capsys.readouterr().err
    # Ten images of nobody known, by whatever a table has for it.
    people("p/{who}/{i}.jpg")
    missing = ["", "nan", "NaN", "None", "null", " ", "<NA>", "#N/A", "N/A", "NULL"]
    who = [*missing, *(name.split("/")[1] for name in names[10:])]
    lines = Path("s.csv").read_text().splitlines()
    lines = [f"{line},{label}" for line, label in zip(lines, ["who", *who], strict=True)]
    Path("s.csv").write_text("\n".join(lines) + "\n")
    out, err = evaluated(*DRAWN[:-1], "--identity-column", "who", capsys=capsys)
    assert out.startswith("163 mated and ") and " of 110 images" in out
    assert "28 people in 110 images" in err and "10 of nobody known, such as p/000/1.jpg" in err


def test_evaluate_distances_and_what_is_the_wrong_way_round(people, capsys):
    people("p/{who}/{i}.jpg")
    rng = np.random.default_rng(1)
    rows = []
    for k in range(200):
        mated = k % 2
        first, second = (k % 30, k % 30) if mated else (k % 30, (k + 7) % 30)
        similarity = 0.5 * mated + 0.2 * rng.normal()
        rows.append(f"{first:03d}/1.jpg,{second:03d}/{2 + k % 3}.jpg,{mated},{similarity},{1 - similarity}")
    Path("pairs.csv").write_text("\n".join(["file_a,file_b,mated,similarity,distance", *rows]) + "\n")
    given = ["--scores", "s.csv", "--pairs", "pairs.csv"]
    right, err = evaluated(*given, "--similarities", capsys=capsys)
    repeated = "diffiqa: pairs.csv: 170 pairs are there before and count again, such as 000/1.jpg and 007/2.jpg\n"
    assert err == repeated and "less alike" not in right
    turned, err = evaluated(*given, "--distances", capsys=capsys)
    assert err == repeated and turned.splitlines()[3:] == right.splitlines()[3:]
    out, err = evaluated(*given, "--similarities", "distance", capsys=capsys)
    line = "mated pairs are less alike than non-mated ones (medians"
    assert f"diffiqa: {line}" in err and f"note: {line}" in out and "--distances turns them round" in err
    # A threshold is one of distances as well, at or below which two images match.
    one = evaluated(*given, "--similarities", "--threshold", "0.25", capsys=capsys)
    other = evaluated(*given, "--distances", "--threshold", "0.75", capsys=capsys)
    assert one[0].splitlines()[1].startswith("threshold 0.2500: ")
    assert other[0].splitlines()[1] == one[0].splitlines()[1].replace("0.2500", "-0.7500")
    assert other[0].splitlines()[2:] == one[0].splitlines()[2:]


def test_evaluate_pairs_as_people_write_them(people, capsys):
    people("lfw/P{who}_{i}.jpg")
    lines = [f"P{k:03d}\t1\t2" for k in range(10)] + [f"P{k:03d}\t1\tP{k + 1:03d}\t1" for k in range(10)]
    Path("pairs.txt").write_text("\n".join(["10", *lines]) + "\n")
    given = ["--scores", "s.csv", "--embeddings", "e.npy", "--pairs"]
    assert main(["evaluate", *given, "pairs.txt", "--threshold", "0.5", "--replicates", "0"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("10 mated and 10 non-mated pairs of 21 images")
    lines = [f"P{k:03d}_1.jpg P{k:03d}_2.jpg 1" for k in range(10)]
    lines += [f"P{k:03d}_1.jpg P{k + 1:03d}_1.jpg 0" for k in range(10)]
    Path("ab1.txt").write_text("\n".join(lines) + "\n")
    assert main(["evaluate", *given, "ab1.txt", "--threshold", "0.5", "--replicates", "0"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == out.splitlines()[1:]


def test_best_and_calibrate_ask_before_anything_is_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("Ann/2019/1.png", "Ann/2020/1.png", "Bob/2019/1.png"):
        save_face(f"p/{name}")
    for command, option in (("best", "--group-by"), ("calibrate", "--identities")):
        args = [command, "p", option, "folder", "--model", "no such model"]
        assert main([*args, *(["--output", "c.json"] if command == "calibrate" else [])]) == 2
        err = capsys.readouterr().err
        assert f"{option} first-folder would give 2 people such as Ann, {option} parent 2 such as 2019" in err
        assert err.count("\n") == 1


def test_best_says_its_groups_and_leaves_tools_out(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(["Ann/frontal/1.png", "Ann/profile/1.jfif", "Bob/frontal/1.tga", "Bob/profile/2.png"]):
        save_face("face.png", seed)
        Path(f"p/{name}").parent.mkdir(parents=True, exist_ok=True)
        with Image.open("face.png") as face:
            face.save(f"p/{name}", format="JPEG" if name.endswith("jfif") else None)
    for name in ("p/Ann/frontal/.ipynb_checkpoints/1-checkpoint.png", "p/__MACOSX/._1.png"):
        save_face(name)
    args = ["best", "p", "--group-by", "folder", "--model", model, "--device", "cpu"]
    assert main(args) == 0
    captured = capsys.readouterr()
    assert [line.split("\t")[0] for line in captured.out.splitlines()] == ["Ann", "Bob"]
    assert "2 groups in 4 images, such as Ann (2: " in captured.err
    assert "2 hidden files or folders (such as p/__MACOSX) left out" in captured.err


COMMANDS = pytest.mark.parametrize(
    "command",
    [
        ["score", "p"],
        ["best", "p", "--group-by", "folder"],
        ["explain", "p"],
        ["calibrate", "p", "--output", "c.json"],
    ],
)


@pytest.mark.skipif(".heic" in image_endings(), reason="pillow-heif is here")
@COMMANDS
def test_heic_that_cannot_be_read_is_a_failure(model, tmp_path, monkeypatch, command, capsys):
    monkeypatch.chdir(tmp_path)
    for seed in range(2 if command[0] == "calibrate" else 1):
        save_face(f"p/{seed}.png", seed)
    Path("p/IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    which = ["--method", "diffiqa-r"] if command[0] == "score" else []
    assert main([*command, *which, "--model", model, "--device", "cpu"]) == 1
    assert (
        "1 HEIC or HEIF picture (p/IMG_1.HEIC) left out: `pip install 'diffiqa-hf[heif]'`" in capsys.readouterr().err
    )


@COMMANDS
def test_an_fr_model_that_is_not_taken_is_refused(model, tmp_path, monkeypatch, command, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("1.png", "2.png"):
        save_face(f"p/{name}")
    which = ["--method", "diffiqa-r", "--model", model] if command[0] == "score" else ["--model", model]
    assert main([*command, *which, "--fr-model", "no such model"]) == 2
    err = capsys.readouterr().err
    assert "takes no --fr-model" in err and err.count("diffiqa: ") == 1 + (command[0] == "best")


@pytest.mark.parametrize("name", ["s.csv", "s.jsonl", "s.txt", "s.parquet"])
def test_a_pointer_in_the_place_of_a_table(tmp_path, monkeypatch, name, capsys):
    monkeypatch.chdir(tmp_path)
    save_face("p/1.png")
    Path(name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    for args in (
        ["best", "--scores", name, "--group-by", "folder"],
        ["best", "p", "--group-by", name, "--model", "none"],
        ["calibrate", "p", "--identities", name, "--model", "none", "--output", "c.json"],
        ["evaluate", "--scores", name, "--pairs", "pairs.csv", "--similarities"],
        ["evaluate", "--scores", "ok.csv", "--pairs", name, "--embeddings", "e.npy"],
    ):
        Path("ok.csv").write_text("file,score\na,1\n")
        assert main(args) == 2
        err = capsys.readouterr().err
        assert f"{name}: a Git LFS pointer and not the file itself" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("failed.jsonl", [{"file": "a/1.jpg", "score": 0.5}, {"file": "a/2.jpg", "error": "no face found"}]),
        ("numbers.parquet", [{"file": 1, "score": 0.1, "track": 7}, {"file": 2, "score": 0.2, "track": 7}]),
    ],
)
def test_best_of_tables_of_every_kind(tmp_path, monkeypatch, name, rows, capsys):
    monkeypatch.chdir(tmp_path)
    if name.endswith("jsonl"):
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert main(["best", "--scores", name, "--group-by", "folder"]) == 1
        captured = capsys.readouterr()
        assert captured.out == "a\t1\t0.5000\ta/1.jpg\n" and "diffiqa: a/2.jpg: no face found\n" in captured.err
    else:
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet

        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), name)
        assert main(["best", "--scores", name, "--group-by", "column:track"]) == 0
        assert capsys.readouterr().out == "7\t1\t0.2000\t2\n"


def test_best_from_other_programs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("ofiq.csv").write_text("\ufeffFilename;UnifiedQualityScore;\r\nAnn/1.png;27;\r\nBob/1.png;3;\r\n", "utf-8")
    given = ["best", "--scores", "ofiq.csv", "--name-column", "Filename", "--score-column", "UnifiedQualityScore"]
    assert main([*given, "--group-by", "folder"]) == 0
    assert capsys.readouterr().out == "Ann\t1\t27.0000\tAnn/1.png\nBob\t1\t3.0000\tBob/1.png\n"
    shutil.copy(FACES / "astronaut.jpg", "x.jpg")
    Path("faceqnet.txt").write_text("img;score\nx.jpg;[0.4921]\n")
    assert main(["best", "--scores", "faceqnet.txt", "--group-by", "folder", "--copy-to", "out"]) == 0
    assert [path.name for path in Path("out").rglob("*.jpg")] == ["x.jpg"]
