# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa score` and `diffiqa best` of videos."""

import csv
from pathlib import Path

import numpy as np
import pytest
from fixtures.clips import moving_clip, on_a_wall, write_clip
from PIL import Image

from diffiqa_hf import load_method
from diffiqa_hf.cli import main
from diffiqa_hf.images.extraction import FaceExtractor
from diffiqa_hf.images.video import VideoFrames


PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
PLACE = ["frame", "seconds", "track", "x", "y", "width", "height"]


def read_csv(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def detector(shared_dir) -> str:
    return str(shared_dir / "weights" / "yunet" / "yunet_n_dynamic.onnx")


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    """A face that moves and turns for eight frames, leaves for eight, and comes back for four."""
    return moving_clip(tmp_path_factory.mktemp("clip") / "clip.avi", Image.open(PHOTOS / "astronaut.jpg"))


@pytest.mark.shared
def test_score_gives_a_row_a_face_and_frame_with_time_and_box(clip, detector, tmp_path, capsys):
    assert main(["score", clip, "--detector", detector, "--output", str(tmp_path / "scores.csv"), "--quiet"]) == 0
    rows = read_csv(tmp_path / "scores.csv")
    assert list(rows[0]) == ["file", "face", "score", *PLACE, "percentile", "error"]
    assert [(int(row["frame"]), int(row["track"])) for row in rows] == [
        *((frame, 1) for frame in range(8)),
        *((frame, 2) for frame in range(16, 20)),
    ]
    assert [int(row["face"]) for row in rows] == list(range(12))
    assert [float(row["seconds"]) for row in rows] == pytest.approx([int(row["frame"]) / 10 for row in rows])
    # The scores are those of the frames by themselves.
    method = load_method(detector=detector, align=True)
    pictures = {frame.number: frame.pixels for frame in VideoFrames(clip)}
    for row in (rows[0], rows[5], rows[-1]):
        expected = method(pictures[int(row["frame"])])
        assert float(row["score"]) == pytest.approx(expected.scores.item(), abs=1e-5)
    # `best` takes the table.
    assert main(["best", "--scores", str(tmp_path / "scores.csv"), "--group-by", "column:track"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.shared
@pytest.mark.parametrize(
    "args, frames", [(["--every", "3"], [0, 3, 6, 18]), (["--per-second", "5"], [0, 2, 4, 6, 16, 18])]
)
def test_some_of_the_frames_are_looked_at(clip, detector, args, frames, capsys):
    assert main(["score", clip, "--detector", detector, "--quiet", *args]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split("frame ")[1].split(",")[0]) for line in lines] == frames
    assert all("percentile" in line and " s, frame " in line and "track" in line for line in lines)


@pytest.mark.shared
def test_best_writes_the_best_face_of_each_track(clip, detector, tmp_path, capsys):
    scores = tmp_path / "scores.jsonl"
    assert main(["score", clip, "--detector", detector, "--output", str(scores), "--quiet"]) == 0
    args = ["best", clip, "--detector", detector, "--copy-to", str(tmp_path / "best")]
    assert main([*args, "--output", str(tmp_path / "best.csv")]) == 0
    assert "2 faces of 2 tracks copied" in capsys.readouterr().err
    rows = read_csv(tmp_path / "best.csv")
    written = sorted(path.relative_to(tmp_path / "best").as_posix() for path in (tmp_path / "best").rglob("*.png"))
    assert [row["file"] for row in rows] == written
    pictures = {frame.number: frame.pixels for frame in VideoFrames(clip)}
    extractor = FaceExtractor(do_align=True, detector=detector)
    for row, track in zip(rows, ("1", "2"), strict=True):
        assert (row["track"], row["video"], row["rank"]) == (track, clip, "1")
        (crop,) = extractor.extract_faces(pictures[int(row["frame"])])
        np.testing.assert_allclose([float(row[name]) for name in PLACE[3:]], crop.box, atol=0.06)
        with Image.open(tmp_path / "best" / row["file"]) as picture:
            expected = np.round((crop.pixel_values.transpose(1, 2, 0) + 1) * 127.5)
            np.testing.assert_array_equal(np.asarray(picture), expected)
    # It is the best one: the table of `score` has none that is better.
    assert main(["best", "--scores", str(scores), "--group-by", "column:track"]) == 0
    best = [float(line.split("\t")[2]) for line in capsys.readouterr().out.splitlines()]
    assert [float(row["score"]) for row in rows] == pytest.approx(best, abs=1e-4)

    assert main(["best", clip, "--detector", detector, "--top", "2", "--min-score", "-1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[:2] for line in lines] == [
        [f"clip_track_00{track}", rank] for track in "12" for rank in "12"
    ]
    assert all("frame" in line and "box" in line for line in lines)
    assert main(["best", clip, "--detector", detector, "--min-score", "99"]) == 0
    assert "2 tracks: 0 with a photograph at score 99 or above, 2 must come again" in capsys.readouterr().err


@pytest.mark.shared
def test_a_video_that_ends_early_gives_what_it_had(clip, detector, tmp_path, capsys):
    whole = Path(clip).read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole[: len(whole) // 4])
    for command in ("score", "best"):
        assert main([command, str(cut), clip, "--detector", detector]) == 1
        captured = capsys.readouterr()
        assert "cut.avi: it ends at frame" in captured.err
        assert {"cut", "clip"} <= {word for word in ("cut", "clip") if word in captured.out}


@pytest.mark.shared
def test_a_video_without_a_face_ends_with_2(detector, tmp_path):
    wall = write_clip(tmp_path / "wall.avi", [on_a_wall(None, 0)] * 3)
    for command in ("score", "best"):
        assert main([command, wall, "--detector", detector]) == 2


@pytest.mark.parametrize(
    "args, reason",
    [
        (["score", "{clip}", "{photo}"], "score them apart"),
        (["score", "{photo}", "--every", "2"], "--every is for videos"),
        (["score", "{clip}", "--resume", "--output", "x.csv"], "--resume is for images"),
        (["score", "{clip}", "--plot", "x.png"], "--plot is for images"),
        (["score", "{clip}", "--no-align"], "--no-align is for crops"),
        (["score", "{clip}", "--detector", "no.onnx"], "face detector not found"),
        (["best", "{clip}", "--group-by", "folder"], "by their tracks"),
        (["best", "{clip}", "--report", "x.html"], "--report is for images"),
        (["best", "{clip}", "--detector", "no.onnx"], "face detector not found"),
    ],
)
def test_what_does_not_go_together_is_one_line(args, reason, tmp_path, capsys):
    clip = write_clip(tmp_path / "clip.avi", [on_a_wall(None, 0)] * 2)
    photo = str(PHOTOS / "astronaut.jpg")
    assert main([arg.format(clip=clip, photo=photo) for arg in args]) == 2
    err = capsys.readouterr().err
    assert reason in err and err.count("\n") == 1


def test_best_of_photographs_asks_for_the_groups(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["best", str(PHOTOS)])
    assert ended.value.code == 2 and "--group-by" in capsys.readouterr().err
