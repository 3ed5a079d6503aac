# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa score` with a tiny pipeline of the real classes."""

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from fixtures.fill import fill_state_dict
from fixtures.networks import make_scheduler, make_unet
from PIL import Image

from diffiqa_hf.cli import main
from diffiqa_hf.cli.score_table import COLUMNS, ScoreTable
from diffiqa_hf.scoring.contact_sheet import FACE, GAP, MARGIN, MAX_FACES, TITLE, choose, draw
from diffiqa_hf.scoring.image_files import find_images


QUICK = ["--num-timesteps", "2", "--num-repeats", "1", "--device", "cpu"]


def save_tiny_pipeline(folder: Path, seed: int) -> str:
    import torch

    from diffiqa_hf import DifFIQAPipeline, FaceImageProcessor, MobileFaceNetConfig, MobileFaceNetModel

    torch.manual_seed(seed)
    unet = make_unet(add_attention=False)
    scheduler = make_scheduler()
    config = MobileFaceNetConfig(
        embedding_size=16,
        stem_width=8,
        stem_groups=8,
        stages=[[8, 8, 1, 2], [8, 8, 1, 2], [8, 8, 1, 2]],
        feature_width=16,
    )
    fr_model = MobileFaceNetModel(config).eval()
    pipe = DifFIQAPipeline(unet=unet, scheduler=scheduler, fr_model=fr_model, image_processor=FaceImageProcessor())
    pipe.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_pipeline(tmp_path_factory.mktemp("model"), seed=0)


def save_face(path: Path, seed: int = 0) -> Path:
    # Smooth colours: something that a JPEG keeps.
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    small = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8))
    small.resize((112, 112), Image.Resampling.BICUBIC).save(path)
    return path


def read_rows(path: Path) -> list[dict]:
    if path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            assert tuple(row) == COLUMNS
            row.update({k: float(row[k]) if row[k] else None for k in COLUMNS[2:-1]})
            row.update(face=int(row["face"]), error=row["error"] or None)
        return rows
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path).to_pylist()


# --- scores ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_the_table_has_the_scores_of_the_pipeline(model, tmp_path, ending):
    from diffiqa_hf import DifFIQAPipeline

    files = [save_face(tmp_path / "faces" / f"{name}.png", seed) for seed, name in enumerate(["b", "C", "a"])]
    output = tmp_path / "new folder" / f"scores.{ending}"
    assert (
        main(["score", str(tmp_path / "faces"), "--output", str(output), "--model", model, "--seed", "3", *QUICK]) == 0
    )

    rows = read_rows(output)
    assert [row["file"] for row in rows] == [str(tmp_path / "faces" / f"{name}.png") for name in ["C", "a", "b"]]
    out = DifFIQAPipeline.from_pretrained(model)([str(f) for f in files], num_timesteps=2, num_repeats=1, seed=3)
    expected = dict(zip(map(str, files), np.asarray(out.scores, dtype=float), strict=True))
    for row in rows:
        assert row["score"] == pytest.approx(expected[row["file"]], abs=1e-5)
        assert all(-1.0001 <= row[term] <= 1.0001 for term in COLUMNS[3:-1])
        assert row["face"] == 0 and row["error"] is None
    # Nothing but the table and the record of its settings.
    assert sorted(p.name for p in output.parent.iterdir()) == [output.name, f"{output.name}.settings.json"]


def test_without_output_a_table_on_stdout_and_a_summary_on_stderr(model, tmp_path, capsys):
    save_face(tmp_path / "Jürgen Groß 1.png")
    save_face(tmp_path / "x.PNG", seed=1)
    assert main(["score", str(tmp_path), "--model", model, *QUICK]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert [line.rsplit(maxsplit=1)[0].strip() for line in lines] == [
        str(tmp_path / "Jürgen Groß 1.png"),
        str(tmp_path / "x.PNG"),
    ]
    scores = [float(line.split()[-1]) for line in lines]
    assert f"2 faces scored, 0 failed; min {min(scores):.4f}" in captured.err


def test_quiet_says_nothing(model, tmp_path, capsys):
    save_face(tmp_path / "a.png")
    assert (
        main(["score", str(tmp_path), "--model", model, "--output", str(tmp_path / "s.csv"), "--quiet", *QUICK]) == 0
    )
    assert capsys.readouterr() == ("", "")


# --- bad input ------------------------------------------------------------------------------------------------------


def test_bad_input_has_a_line_each_and_the_rest_is_scored(model, tmp_path, capsys):
    faces = tmp_path / "faces"
    save_face(faces / "good.jpg")
    save_face(faces / "two words, ümlaut.jpeg", seed=1)
    (faces / "text.jpg").write_text("this is no image")
    whole = save_face(faces / "cut.jpg", seed=2).read_bytes()
    (faces / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (faces / "empty.png").touch()
    Image.new("RGB", (1, 1)).save(faces / "1x1.png")
    Image.new("L", (10_000, 10_000), 90).save(faces / "100MP.jpg", quality=1)
    (faces / "loop.jpg").symlink_to("loop.jpg")
    (faces / "nowhere.jpg").symlink_to("not there")
    (faces / "up").symlink_to("..")
    undecodable = os.fsdecode(b"b\xfcse.png")
    save_face(faces / "x.png").rename(faces / undecodable)
    output = tmp_path / "scores.csv"

    args = ["--recursive", "--no-align", "--model", model, "--output", str(output), *QUICK]
    status = main(["score", str(faces), *args])

    captured = capsys.readouterr()
    assert status == 1
    assert "Traceback" not in captured.err and "Warning" not in captured.err
    rows = {Path(row["file"]).name: row for row in read_rows(output)}
    assert len(rows) == 10
    scored = {name for name, row in rows.items() if row["error"] is None}
    assert scored >= {"good.jpg", "two words, ümlaut.jpeg", "b\\udcfcse.png"}
    failed = set(rows) - scored
    assert failed >= {"text.jpg", "cut.jpg", "empty.png", "loop.jpg", "nowhere.jpg"}
    for name in failed:
        row = rows[name]
        assert row["score"] is None and row["noisy"] is None
        assert captured.err.count(f"diffiqa: {faces / name}: {row['error']}\n") == 1
    assert "loop" in rows["loop.jpg"]["error"]


def test_a_folder_without_permission_is_reported_and_the_rest_is_found():
    as_root = os.geteuid() == 0
    # Not tmp_path: as nobody we could not get there.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        save_face(Path(folder, "a.png"))
        save_face(Path(folder, "shut", "b.png"))
        save_face(Path(folder, "z.png"))
        os.chmod(f"{folder}/shut", 0)
        try:
            if as_root:
                os.seteuid(65534)  # root may read anything, nobody may not
            files, problems = find_images([folder], recursive=True)
        finally:
            if as_root:
                os.seteuid(0)
            os.chmod(f"{folder}/shut", 0o755)
        assert files == [f"{folder}/a.png", f"{folder}/z.png"]
        assert problems == [f"cannot read the folder {folder}/shut: Permission denied"]


def test_nothing_to_score_is_status_2(model, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["score", str(tmp_path / "empty"), "--model", model]) == 2
    assert capsys.readouterr().err == f"diffiqa: no images in the folder {tmp_path / 'empty'}\n"
    assert main(["score", str(tmp_path), "--model", model]) == 2
    assert "--recursive looks into them" in capsys.readouterr().err
    (tmp_path / "notes.txt").write_text("no image")
    assert main(["score", str(tmp_path / "notes.txt"), str(tmp_path / "gone"), "--model", model, *QUICK]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"diffiqa: {tmp_path / 'notes.txt'}: ") and lines[1].startswith(
        f"diffiqa: {tmp_path / 'gone'}: "
    )


def test_an_empty_folder_beside_a_good_one_is_status_1(model, tmp_path, capsys):
    save_face(tmp_path / "a" / "a.png")
    (tmp_path / "b").mkdir()
    assert main(["score", str(tmp_path / "a"), str(tmp_path / "b"), "--model", model, *QUICK]) == 1
    assert f"no images in the folder {tmp_path / 'b'}" in capsys.readouterr().err


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path, capsys):
    save_face(tmp_path / "a.png")
    (tmp_path / "no pipeline").mkdir()
    assert main(["score", str(tmp_path), "--model", str(tmp_path / "no pipeline")]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"diffiqa: cannot load the model {tmp_path / 'no pipeline'}: ") and err.count("\n") == 1


def test_a_device_that_is_not_there_is_one_line(model, tmp_path, capsys):
    save_face(tmp_path / "a.png")
    assert main(["score", str(tmp_path), "--model", model, "--device", "toaster"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("diffiqa: cannot use the device toaster: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--resume"],
        ["--faces", "all", "--no-align"],
        ["--detector", "x.onnx", "--no-align"],
        ["--output", "scores.xlsx"],
        ["--plot", "faces.txt"],
    ],
)
def test_bad_usage_is_status_2_before_anything_is_loaded(tmp_path, arguments, capsys):
    save_face(tmp_path / "a.png")
    assert main(["score", str(tmp_path), "--model", "no such model", *arguments]) == 2
    err = capsys.readouterr().err
    assert arguments[0] in err and "no such model" not in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [[], ["score"], ["score", "x", "--num-repeats", "0"], ["score", "x", "--seed", "a"]]
)
def test_arguments_that_argparse_refuses(arguments):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2


# --- finding images -------------------------------------------------------------------------------------------------


def test_find_images(tmp_path):
    for name in ["b.JPG", "a.jpeg", "sub/d.webp", "sub/deep/e.TIFF", "z.txt", "faces.jpg/f.bmp"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "again").symlink_to("sub")
    (tmp_path / "sub" / "up").symlink_to("..")

    def names(files):
        return [os.path.relpath(file, tmp_path) for file in files]

    assert names(find_images([str(tmp_path)]).files) == ["a.jpeg", "b.JPG"]
    files, problems = find_images([str(tmp_path)], recursive=True)
    assert not problems
    # `again` and `sub` are one folder: it is looked into once, through the first of its names.
    assert names(files) == ["a.jpeg", "b.JPG", "again/d.webp", "again/deep/e.TIFF", "faces.jpg/f.bmp"]
    # A named file is taken whatever its ending, and each file once.
    text = str(tmp_path / "z.txt")
    found = find_images([text, text, str(tmp_path / "b.JPG"), str(tmp_path)])
    assert found.files[:2] == [text, str(tmp_path / "b.JPG")]


def test_the_columns_are_the_terms_of_the_pipeline():
    from diffiqa_hf.pipeline_output import TERMS

    assert COLUMNS == ("file", "face", "score", *TERMS, "error")


# --- the table and --resume -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_resume_scores_what_is_missing_and_what_failed(model, tmp_path, ending, monkeypatch, capsys):
    output = tmp_path / f"scores.{ending}"
    faces = tmp_path / "faces"
    save_face(faces / "b.png")
    (faces / "c.png").write_text("no image")
    args = ["score", str(faces), "--output", str(output), "--model", model, *QUICK]
    assert main(args) == 1
    first = read_rows(output)
    before = output.read_bytes()

    assert main(args) == 2
    assert "--resume" in capsys.readouterr().err
    assert output.read_bytes() == before

    save_face(faces / "a.png", seed=1)
    assert main([*args, "--resume"]) == 1
    rows = read_rows(output)
    assert rows[0] == first[0]
    assert [Path(row["file"]).name for row in rows] == ["b.png", "a.png", "c.png"]
    assert rows[1]["score"] is not None and rows[2] == first[1]
    # What failed is tried again, and the exit status is that of all rows: also with the one file that is left.
    assert main([*args[:1], str(faces / "a.png"), *args[2:], "--resume"]) == 1
    assert read_rows(output) == rows
    save_face(faces / "c.png", seed=2)
    assert main([*args, "--resume"]) == 0
    assert read_rows(output)[:2] == rows[:2] and read_rows(output)[2]["score"] is not None
    # Nothing is left to do: nothing changes, however the files are spelled.
    before = output.read_bytes() if ending != "parquet" else read_rows(output)
    monkeypatch.chdir(tmp_path)
    for folder in ("faces", "./faces/../faces/", str(faces)):
        assert main([*args[:1], folder, *args[2:], "--resume"]) == 0
        assert before == (output.read_bytes() if ending != "parquet" else read_rows(output))


def test_a_table_of_before_is_gone_on_with(tmp_path, capsys):
    """Its record of 30 November 2026 knew neither schedulers nor whether a network tells faces from other pictures."""
    from diffiqa_hf import DifFIQAPipeline

    folder = tmp_path / "filled"
    save_tiny_pipeline(folder, seed=0)
    pipe = DifFIQAPipeline.from_pretrained(folder)
    for network in (pipe.unet, pipe.fr_model):
        shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
        network.load_state_dict(fill_state_dict(shapes))
    pipe.save_pretrained(folder)
    parts = {
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", "DDPMScheduler"],
        "fr_model": ["diffiqa_hf.models.mobilefacenet.modeling_mobilefacenet", "MobileFaceNetModel"],
        "image_processor": ["diffiqa_hf.image_processing_face", "FaceImageProcessor"],
    }
    steps = {"num_timesteps": None, "num_inference_steps": None, "num_repeats": None}
    settings = {"off_by_one": False, "duplicate_last_step": False}
    record = {
        **{"diffiqa_hf": "0.1.0", "model": "old", "fr_model": None, "method": "diffiqa"},
        "weights": "cc3575b65107d303",
        "pipeline": {**parts, **steps, "num_timesteps": 5, "num_repeats": 10, **settings},
        **steps,
        **{"num_timesteps": 2, "num_repeats": 1, "options": {}, "dtype": "float32", "seed": 0, "align": False},
        **{"faces": "largest", "detector": None, "calibration": None, "iso": None},
    }
    known, output = save_face(tmp_path / "faces" / "a.png"), tmp_path / "scores.csv"
    save_face(tmp_path / "faces" / "b.png", 1)
    output.write_text(f"{','.join(COLUMNS)}\n{known},0,0.5{',0.5' * 5},\n")
    (tmp_path / "scores.csv.settings.json").write_text(json.dumps(record))
    args = ["score", str(known.parent), "--output", str(output), "--model", str(folder), "--no-align", *QUICK]
    assert main([*args, "--resume"]) == 0, capsys.readouterr().err
    assert [row["score"] == 0.5 for row in read_rows(output)] == [True, False]
    # The setting counts where it says something else.
    config = json.loads((folder / "fr_model" / "config.json").read_text())
    (folder / "fr_model" / "config.json").write_text(json.dumps({**config, "face_check": True}))
    assert main([*args, "--resume"]) == 2
    assert "weights was cc3575b65107d303" in capsys.readouterr().err


def test_resume_refuses_another_model_and_other_settings(model, tmp_path, capsys):
    output = tmp_path / "scores.csv"
    save_face(tmp_path / "a.png")
    args = ["score", str(tmp_path), "--output", str(output), *QUICK]
    assert main([*args, "--model", model]) == 0
    before = output.read_bytes()
    capsys.readouterr()

    assert main([*args, "--model", model, "--resume", "--seed", "1"]) == 2
    assert "seed was 0, is 1" in capsys.readouterr().err
    other = save_tiny_pipeline(tmp_path / "other model", seed=1)
    assert main([*args, "--model", other, "--resume"]) == 2
    assert "weights" in capsys.readouterr().err
    # The same weights under another name are the same model.
    moved = tmp_path / "moved model"
    save_tiny_pipeline(moved, seed=0)
    assert main([*args, "--model", str(moved), "--resume"]) == 0
    capsys.readouterr()
    (tmp_path / "scores.csv.settings.json").unlink()
    assert main([*args, "--model", model, "--resume"]) == 2
    assert "no record of its settings" in capsys.readouterr().err
    assert output.read_bytes() == before


def make_row(file: str, face: int = 0, error: str | None = None) -> dict:
    score = None if error else 0.5 + face / 7
    terms = dict.fromkeys(COLUMNS[3:-1], score)
    return {"file": file, "face": face, "score": score, **terms, "error": error}


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_table_cut_anywhere_is_taken_up(tmp_path, ending):
    """Whatever byte a kill cuts the file at, what is read back are whole images, and the rest can be added."""
    images = [
        [make_row("plain.png")],
        [make_row('comma, "quote".png', 0), make_row('comma, "quote".png', 1)],
        [make_row("new\nline ü.png", error='two\nlines, "quoted"')],
        [make_row("last.png")],
    ]
    path = tmp_path / f"scores.{ending}"
    table = ScoreTable(path, {"seed": 0}, {}, resume=False)
    for rows in images:
        table.append(rows)
    table.close()
    data = path.read_bytes()
    everything = [row for rows in images for row in rows]
    assert read_rows(path) == everything

    # Between two rows of one image there is no cut: they are written at once.
    second_of_two = data.index(b"\n", data.index(b"quote")) + 1
    counts = set()
    for cut in set(range(len(data))) - {second_of_two}:
        path.write_bytes(data[:cut])
        table = ScoreTable(path, {"seed": 0}, {}, resume=True)
        kept = list(table.rows)
        counts.add(len(kept))
        names = {row["file"] for row in kept}
        for rows in images:
            if rows[0]["file"] not in names:
                table.append(rows)
        table.close()
        assert kept == everything[: len(kept)]
        assert path.read_bytes() == data
    assert counts >= {0, 1, 3, 4}


def test_a_table_that_is_none_is_left_alone(tmp_path):
    path = tmp_path / "scores.csv"
    (tmp_path / "scores.csv.settings.json").write_text('{"seed": 0}')
    path.write_text("my,own,table\n1,2,3\n")
    from diffiqa_hf.cli.errors import CommandError

    with pytest.raises(CommandError, match="not a table of scores"):
        ScoreTable(path, {"seed": 0}, {}, resume=True)
    assert path.read_text() == "my,own,table\n1,2,3\n"


@pytest.mark.parametrize(
    "ending,number", [pytest.param("parquet", signal.SIGKILL, marks=pytest.mark.slow), ("csv", signal.SIGINT)]
)
def test_a_killed_run_goes_on(model, tmp_path, ending, number, capsys):
    faces = tmp_path / "faces"
    save_face(tmp_path / "face.png")
    faces.mkdir()
    # So many that the run is met in the middle of it, however slow the machine is that meets it.
    links = [faces / f"{i:04}.png" for i in range(3000)]
    for link in links:
        link.hardlink_to(tmp_path / "face.png")  # a symbolic one is the file itself, which counts once
    output = tmp_path / f"scores.{ending}"
    args = ["score", str(faces), "--output", str(output), "--model", model, "--batch-size", "1", *QUICK]
    # Whoever runs the tests in the background of a shell script has Ctrl-C ignored, and so have their children.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from diffiqa_hf.cli import main; sys.exit(main())"
    streamed = output if ending == "csv" else tmp_path / "scores.parquet.partial.jsonl"
    process = subprocess.Popen([sys.executable, "-c", code, *args], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and (not streamed.exists() or streamed.read_bytes().count(b"\n") < 4):
            time.sleep(0.02)
        process.send_signal(number)
        err = process.communicate(timeout=60)[1].decode()
    finally:
        process.kill()
    assert "Traceback" not in err
    if number == signal.SIGINT:
        assert process.returncode == 130
        kept = len(read_rows(output))
        assert f"interrupted; {kept} rows are in {output}, --resume goes on" in err
    else:
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "scores.parquet").exists()
        kept = streamed.read_bytes().count(b"\n") - (ending == "csv")
    assert 3 <= kept < 3000
    # What is left to do is made short.
    for link in links[kept + 2 :]:
        link.unlink()
    capsys.readouterr()

    assert main([*args, "--resume", "--quiet"]) == 0
    rows = read_rows(output)
    assert [row["file"] for row in rows] == [str(link) for link in links[: kept + 2]]
    scores = [row["score"] for row in rows]
    assert scores == pytest.approx([scores[0]] * len(scores), abs=1e-5)  # it is one face
    assert not (tmp_path / "scores.parquet.partial.jsonl").exists()


# --- the picture ----------------------------------------------------------------------------------------------------


def test_plot_is_written_also_for_a_resumed_run(model, tmp_path):
    for seed in range(3):
        save_face(tmp_path / "faces" / f"{seed}.png", seed)
    args = ["score", str(tmp_path / "faces"), "--model", model, "--output", str(tmp_path / "s.csv"), *QUICK]
    args += ["--plot", str(tmp_path / "faces.png")]
    assert main(args) == 0
    first = Image.open(tmp_path / "faces.png").copy()
    (tmp_path / "faces.png").unlink()
    assert main([*args, "--resume"]) == 0
    assert np.array_equal(first, Image.open(tmp_path / "faces.png"))


def test_plot_shows_the_faces_in_order():
    colours = [(20 * i, 255 - 20 * i, 90) for i in range(12)]
    faces = [Image.new("RGB", (112, 112), colour) for colour in colours]
    rows = [make_row(f"folder/a very long name that does not fit below its face {i}.png") for i in range(12)]
    for i, row in enumerate(rows):
        row["score"] = 1 - i / 20
    picture = draw(faces, rows, total=12)
    columns = (picture.width - 2 * MARGIN + GAP) // (FACE + GAP)
    found = []
    for y in range(TITLE + FACE // 2, picture.height, 1):
        for column in range(columns):
            colour = picture.getpixel((MARGIN + column * (FACE + GAP) + FACE // 2, y))
            if colour in colours and colour not in found:
                found.append(colour)
    assert found == colours


@pytest.mark.parametrize("n", [1, MAX_FACES - 1, MAX_FACES, MAX_FACES + 1, 1000])
def test_choose_keeps_the_ends_and_the_order(n):
    rows = [{"rank": i} for i in range(n)]
    chosen = [row["rank"] for row in choose(rows)]
    assert len(chosen) == len(set(chosen)) == min(n, MAX_FACES)
    assert chosen == sorted(chosen) and chosen[0] == 0 and chosen[-1] == n - 1


# --- alignment ------------------------------------------------------------------------------------------------------


@pytest.mark.shared
def test_align_scores_each_face_of_a_photograph(model, shared_dir, tmp_path, capsys):
    photos = Path(__file__).parents[2] / "examples" / "photos"
    Image.new("RGB", (300, 300), (90, 120, 60)).save(tmp_path / "no face.png")
    output = tmp_path / "scores.jsonl"
    args = ["score", str(photos), str(tmp_path / "no face.png"), "--model", model, *QUICK, "--align"]
    args += ["--detector", str(shared_dir / "weights" / "yunet" / "yunet_n_dynamic.onnx"), "--output", str(output)]
    assert main([*args, "--faces", "all", "--plot", str(tmp_path / "faces.png")]) == 1
    rows = read_rows(output)
    assert "no face" in rows[-1]["error"]
    faces = [(Path(row["file"]).name, row["face"]) for row in rows[:-1]]
    assert len(faces) == len(set(faces)) > len({name for name, _ in faces}) == len(list(photos.glob("*.jpg")))
    assert all(row["error"] is None for row in rows[:-1])
