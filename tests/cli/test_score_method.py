# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa score --method` with a tiny network of the real classes for each method of the registry."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from methods.conftest import OPTIONS, make_network
from PIL import Image

from diffiqa_hf.cli import main
from diffiqa_hf.cli.errors import CommandError
from diffiqa_hf.cli.score_table import COLUMNS, ScoreTable
from diffiqa_hf.methods import CARDS, get_card, load_method


NAMES = [card.name for card in CARDS]
every_method = pytest.mark.parametrize("name", NAMES)
ENDINGS = ("csv", "jsonl", "parquet")


def save_face(path: Path, seed: int) -> str:
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    small = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8))
    small.resize((112, 112), Image.Resampling.BICUBIC).save(path)
    return str(path)


def read_rows(path: Path) -> list[dict]:
    if path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        numbers = [column for column in rows[0] if column not in ("file", "face", "error")]
        texts = ("file", "error")
        return [
            {name: row[name] or None for name in texts}
            | {name: float(row[name]) if row[name] else None for name in numbers}
            | {"face": int(row["face"])}
            for row in rows
        ]
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path).to_pylist()


@pytest.fixture(scope="module")
def network_of(tmp_path_factory):
    """Saves a method's tiny network once; its folder."""
    root = tmp_path_factory.mktemp("networks")

    def folder(name: str) -> str:
        if not (root / name).exists():
            make_network(name).save_pretrained(root / name)
        return str(root / name)

    return folder


def arguments(name: str, network: str) -> list[str]:
    """What `--method name` is given for a network, and the quick settings of its tests."""
    flag = "--weights" if "weights" in get_card(name).takes else "--fr-model"
    args = ["--method", name, flag, network, "--device", "cpu"]
    if name == "diffiqa":
        return [*args, "--num-timesteps", "200", "--num-inference-steps", "1", "--num-repeats", "2"]
    for option, value in OPTIONS.get(name, {}).items():
        args += ["--option", f"{option}={json.dumps(value)}"]
    return args


@every_method
def test_the_table_has_the_scores_and_terms_of_the_method(network_of, tmp_path, capsys, name):
    faces = tmp_path / "faces"
    files = [save_face(faces / f"{i}.png", i) for i in range(2)]
    (faces / "9.png").write_text("no image")
    output = tmp_path / f"scores.{ENDINGS[NAMES.index(name) % 3]}"
    args = ["score", str(faces), *arguments(name, network_of(name)), "--seed", "3", "--output", str(output)]
    assert main(args) == 1
    assert f"diffiqa: {faces / '9.png'}: " in capsys.readouterr().err

    argument = "weights" if "weights" in get_card(name).takes else "fr_model"
    method = load_method(name, **{argument: network_of(name)}, **OPTIONS.get(name, {}))
    expected = method(files, seed=3)
    rows = read_rows(output)
    assert [row["file"] for row in rows] == [*files, str(faces / "9.png")]
    terms = [column for column in rows[0] if column not in ("file", "face", "score", "error")]
    assert set(terms) == set(expected.terms)
    assert ("raw" in terms) == get_card(name).lower_is_better
    for i, row in enumerate(rows[:2]):
        assert row["error"] is None and row["face"] == 0
        assert row["score"] == pytest.approx(expected.scores[i].item(), rel=1e-4, abs=1e-6)
        for term in terms:
            assert row[term] == pytest.approx(expected.terms[term][i].item(), rel=1e-4, abs=1e-6)
    assert rows[2]["error"] and all(rows[2][column] is None for column in ("score", *terms))
    record = json.loads((tmp_path / f"{output.name}.settings.json").read_text())
    assert record["method"] == name and record["seed"] == 3

    # A run that goes on: what has a score is not scored again, the new face is, and what failed is tried again.
    before = rows
    save_face(faces / "5.png", 5)
    assert main([*args, "--resume"]) == 1
    rows = read_rows(output)
    assert rows[:2] == before[:2] and list(rows[0]) == list(before[0])
    assert rows[2]["file"] == str(faces / "5.png") and rows[2]["score"] is not None
    assert rows[3:] == before[2:]
    assert main([*args, "--resume", "--seed", "4"]) == 2
    assert "seed was 3, is 4" in capsys.readouterr().err
    assert read_rows(output) == rows


@every_method
def test_half_precision(network_of, tmp_path, capsys, name):
    save_face(tmp_path / "a.png", 0)
    args = ["score", str(tmp_path), *arguments(name, network_of(name)), "--output", str(tmp_path / "s.jsonl")]
    status = main([*args, "--dtype", "bfloat16"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    (row,) = read_rows(tmp_path / "s.jsonl")
    assert row["error"] is None and np.isfinite(row["score"])
    assert main([*args, "--resume"]) == 2
    assert "dtype was bfloat16, is float32" in capsys.readouterr().err


def test_resume_refuses_another_method_and_other_options(network_of, tmp_path, capsys):
    save_face(tmp_path / "a.png", 0)
    output, fr_model = str(tmp_path / "s.csv"), network_of("faceqan")
    args = ["score", str(tmp_path), "--fr-model", fr_model, "--device", "cpu", "--output", output]
    assert main([*args, "--method", "embedding-norm"]) == 0
    before = Path(output).read_bytes()
    assert main([*args, "--method", "grafiqs", "--resume"]) == 2
    assert "method was embedding-norm, is grafiqs" in capsys.readouterr().err
    assert main([*args, "--resume"]) == 2
    assert "method was embedding-norm, is diffiqa" in capsys.readouterr().err
    assert Path(output).read_bytes() == before

    args = [*args[:-1], str(tmp_path / "t.csv"), "--method", "ser-fiq"]
    assert main([*args, "--option", "num_passes=4"]) == 0
    capsys.readouterr()
    assert main([*args, "--option", "num_passes=5", "--resume"]) == 2
    assert "'num_passes': 4" in capsys.readouterr().err
    # A default that is spelled out is the default.
    assert main([*args, "--option", "num_passes=4", "--option", "dropout=0.5", "--resume"]) == 0


def test_a_record_without_a_method_is_of_diffiqa(tmp_path):
    path = tmp_path / "s.csv"
    table = ScoreTable(path, {"seed": 0}, {}, resume=False)
    table.append([dict.fromkeys(COLUMNS) | {"file": "a", "face": 0}])
    table.close()
    assert len(ScoreTable(path, {"seed": 0, "method": "diffiqa"}, {}, resume=True).rows) == 1
    with pytest.raises(CommandError, match="method was diffiqa, is cr-fiqa"):
        ScoreTable(path, {"seed": 0, "method": "cr-fiqa"}, {}, resume=True, terms=())


def test_options_of_diffiqa(network_of, tmp_path, capsys):
    save_face(tmp_path / "a.png", 0)
    args = ["score", str(tmp_path), *arguments("diffiqa", network_of("diffiqa"))]
    output = tmp_path / "s.jsonl"
    more = ["--option", "preset=official", "--option", "use_flip=false", "--output", str(output)]
    assert main([*args, *more]) == 0
    (row,) = read_rows(output)
    assert list(row) == list(COLUMNS) and row["flipped"] is None and row["noisy"] is not None
    record = json.loads((tmp_path / "s.jsonl.settings.json").read_text())
    assert record["options"] == {"preset": "official", "use_flip": False} and record["pipeline"]["off_by_one"]
    capsys.readouterr()
    assert main([*args, "--option", "preset=mine"]) == 2
    assert "--option preset: unknown preset 'mine'" in capsys.readouterr().err


def test_froq_chooses_its_layers_by_a_folder(network_of, tmp_path):
    for i in range(4):
        save_face(tmp_path / "calibration" / f"{i}.png", i)
    face, output = save_face(tmp_path / "a.png", 9), tmp_path / "s.jsonl"
    args = ["score", face, "--method", "froq", "--fr-model", network_of("froq"), "--device", "cpu"]
    assert main([*args, "--option", f"calibration={tmp_path / 'calibration'}", "--output", str(output)]) == 0
    layers = json.loads((tmp_path / "s.jsonl.settings.json").read_text())["options"]["layers"]
    # Named, these layers are the same method: the run goes on, and another file has the same score.
    assert main([*args, "--option", f"layers={json.dumps(layers)}", "--output", str(output), "--resume"]) == 0
    assert main([*args, "--option", f"layers={json.dumps(layers)}", "--output", str(tmp_path / "t.jsonl")]) == 0
    assert read_rows(output) == read_rows(tmp_path / "t.jsonl")


def test_small_scores_are_shown_with_digits(network_of, tmp_path, capsys):
    face = save_face(tmp_path / "a.png", 0)
    assert main(["score", face, *arguments("pfe", network_of("pfe"))]) == 0
    shown = float(capsys.readouterr().out.split()[-1])
    score = load_method("pfe", weights=network_of("pfe"))(face).scores.item()
    assert shown == pytest.approx(score, rel=5e-4)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--method", "unknown"], "--method unknown: unknown method 'unknown'; there are diffiqa, "),
        (["--method", "cr-fiqa"], "--method cr-fiqa needs --weights: 181952backbone.pth"),
        (["--method", "cr-fiqa", "--weights", "x", "--fr-model", "y"], "--method cr-fiqa takes no --fr-model"),
        (["--method", "faceqan", "--weights", "x"], "--method faceqan takes no --weights"),
        (["--method", "faceqan", "--num-repeats", "3"], "--num-repeats goes with --method diffiqa, not faceqan"),
        (
            ["--method", "faceqan", "--option", "epsilon=1"],
            "--option epsilon=1: NAME=VALUE, with one of these",
        ),
        (["--method", "faceqan", "--option", "eps"], "--option eps: NAME=VALUE"),
        (["--option", "num_repeats=3"], "--option num_repeats=3: there is --num-repeats"),
        (["--option", "use_flip=no"], "--option use_flip=no: true or false"),
    ],
)
def test_bad_usage_is_status_2_before_anything_is_loaded(tmp_path, capsys, args, message):
    assert main(["score", save_face(tmp_path / "a.png", 0), *args]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"diffiqa: {message}") and err.count("\n") == 1


def test_a_network_that_is_another_methods_is_one_line(network_of, tmp_path, capsys):
    face = save_face(tmp_path / "a.png", 0)
    for args, message in (
        (["--method", "sdd-fiqa", "--weights", network_of("cr-fiqa")], "method sdd-fiqa: sdd-fiqa is a SDDFIQA"),
        (["--method", "cr-fiqa", "--weights", str(tmp_path)], "cannot load the method cr-fiqa: "),
        (["--method", "faceqan", "--fr-model", str(tmp_path)], "cannot load the method faceqan: "),
        (["--method", "ser-fiq", "--option", "num_passes=1"], "method ser-fiq: num_passes has to be"),
    ):
        assert main(["score", face, *args]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1


@pytest.mark.shared
@pytest.mark.parametrize("name", ["lightqnet", "embedding-norm"])
def test_align_scores_each_face_of_a_photograph(network_of, shared_dir, tmp_path, name):
    photo = next((Path(__file__).parents[2] / "examples" / "photos").glob("*.jpg"))
    output, detector = tmp_path / "s.jsonl", shared_dir / "weights" / "yunet" / "yunet_n_dynamic.onnx"
    args = ["score", str(photo), *arguments(name, network_of(name)), "--align", "--detector", str(detector)]
    assert main([*args, "--faces", "all", "--output", str(output), "--plot", str(tmp_path / "p.png")]) == 0
    rows = read_rows(output)
    assert [row["face"] for row in rows] == list(range(len(rows))) and all(row["error"] is None for row in rows)
    assert Image.open(tmp_path / "p.png").size[0] > 0
