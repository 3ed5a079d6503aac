# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa tracks`."""

import csv
from pathlib import Path

import pytest
from fixtures.clips import moving_clip, write_clip
from PIL import Image

from diffiqa_hf.cli import main
from diffiqa_hf.images.extraction import FaceExtractor


PHOTOS = Path(__file__).parents[2] / "examples" / "photos"


def read_table(folder: Path) -> list[dict]:
    with open(folder / "tracks.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def detector(shared_dir) -> str:
    return str(shared_dir / "weights" / "yunet" / "yunet_n_dynamic.onnx")


@pytest.mark.shared
def test_a_face_that_moves_turns_and_leaves_is_followed(detector, tmp_path, capsys):
    clip = moving_clip(tmp_path / "clip.avi", Image.open(PHOTOS / "astronaut.jpg"))
    assert main(["tracks", clip, "--detector", detector, "--output", str(tmp_path / "out")]) == 0
    rows = read_table(tmp_path / "out")
    # The face comes back after more than five frames: the rule can't know that it is the same.
    assert [int(row["frame"]) for row in rows if row["track"] == "1"] == list(range(8))
    assert [int(row["frame"]) for row in rows if row["track"] == "2"] == list(range(16, 20))
    assert [float(row["seconds"]) for row in rows] == pytest.approx([int(row["frame"]) / 10 for row in rows])
    begin, end = ([float(rows[at][name]) for name in ("x", "y", "width", "height")] for at in (0, 7))
    assert end[0] - begin[0] > 60 and min(begin[2:] + end[2:]) > 40
    for row in rows:
        with Image.open(tmp_path / "out" / row["file"]) as crop:
            assert (crop.size, crop.mode) == ((112, 112), "RGB")
    assert "12 faces in 2 tracks" in capsys.readouterr().err

    assert main(["best", str(tmp_path / "out"), "--group-by", "folder", "--fast"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.shared
def test_faces_in_one_picture_have_a_track_each_and_every_nth_frame_is_looked_at(detector, tmp_path):
    photo = Image.open(PHOTOS / "sample6.jpg")
    clip = write_clip(tmp_path / "two.avi", [photo] * 7)
    assert main(["tracks", clip, "--every", "3", "--detector", detector, "--output", str(tmp_path / "out")]) == 0
    rows = read_table(tmp_path / "out")
    count = len(FaceExtractor(do_align=True, multiple_faces="all", detector=detector).extract_faces(photo))
    assert count > 1
    expected = [(str(track), frame) for track in range(1, count + 1) for frame in "036"]
    assert sorted((row["track"], row["frame"]) for row in rows) == expected


@pytest.mark.shared
def test_a_damaged_video_gives_what_it_had_and_the_others_go_on(detector, tmp_path, capsys):
    photo = Image.open(PHOTOS / "astronaut.jpg")
    whole = Path(write_clip(tmp_path / "clip.avi", [photo] * 8)).read_bytes()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "clip.avi").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.mp4").write_text("no video")
    videos = [str(tmp_path / name) for name in ("text.mp4", "cut/clip.avi", "clip.avi")]
    assert main(["tracks", *videos, "--detector", detector, "--output", str(tmp_path / "out")]) == 1
    rows = read_table(tmp_path / "out")
    assert sum(row["video"] == videos[2] for row in rows) == 8
    assert 0 < sum(row["video"] == videos[1] for row in rows) < 8
    assert len({row["file"] for row in rows}) == len(rows)
    lines = capsys.readouterr().err
    assert "text.mp4: no video" in lines and "cut/clip.avi: it ends at frame" in lines


@pytest.mark.shared
def test_a_video_without_a_face_ends_with_2(detector, tmp_path):
    clip = write_clip(tmp_path / "wall.avi", [Image.new("RGB", (320, 240), (90, 120, 90))] * 3)
    assert main(["tracks", clip, "--detector", detector, "--output", str(tmp_path / "out")]) == 2
    assert read_table(tmp_path / "out") == []


def test_what_can_not_be_done_has_one_line(tmp_path, capsys):
    clip = write_clip(tmp_path / "wall.avi", [Image.new("RGB", (320, 240))] * 3)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    for args, reason in (
        ([str(tmp_path / "no.mp4"), "--output", str(tmp_path / "a")], "no.mp4: no such file"),
        ([clip, "--output", str(tmp_path / "full")], "the folder is not empty"),
        ([clip, "--output", str(tmp_path / "b"), "--detector", str(tmp_path / "no.onnx")], "face detector not found"),
    ):
        assert main(["tracks", *args]) == 2
        assert reason in capsys.readouterr().err
