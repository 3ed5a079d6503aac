# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Frames of videos, and faces that are followed by their boxes."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from diffiqa_hf.images.video import FaceTracks, VideoError, VideoFrames, overlap


HEIGHT, WIDTH, RATE = 64, 96, 10


def write_clip(path: Path, frames: list[np.ndarray], codec: str) -> Path:
    """RGB frames as a video."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), RATE, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    return path


def grey(count: int) -> list[np.ndarray]:
    """Frames that are told from each other by how bright they are."""
    return [np.full((HEIGHT, WIDTH, 3), 10 * number, np.uint8) for number in range(count)]


@pytest.fixture(params=[("clip.mp4", "mp4v"), ("clip.avi", "MJPG")], ids=["mp4", "avi"])
def clip(request, tmp_path):
    name, codec = request.param
    return write_clip(tmp_path / name, grey(20), codec)


@pytest.mark.parametrize("every", [1, 3, 50])
def test_every_nth_frame_is_read_with_its_time(clip, every):
    frames = VideoFrames(clip, every)
    found = list(frames)
    assert [frame.number for frame in found] == list(range(0, 20, every))
    np.testing.assert_allclose([frame.seconds for frame in found], [f.number / RATE for f in found], atol=1e-3)
    # Codecs are off by a few grey levels.
    np.testing.assert_allclose([frame.pixels.mean() for frame in found], [10 * f.number for f in found], atol=5)
    assert found[0].pixels.shape == (HEIGHT, WIDTH, 3) and found[0].pixels.dtype == np.uint8
    assert (frames.read, frames.expected, frames.ended_early) == (20, 20, False)


@pytest.mark.parametrize(
    "per_second, numbers",
    [(1, [0, 10]), (2.5, [0, 4, 8, 12, 16]), (4, [0, 3, 5, 8, 10, 13, 15, 18]), (10, range(20)), (60, range(20))],
)
def test_so_many_frames_a_second_are_read(clip, per_second, numbers):
    frames = VideoFrames(clip, per_second=per_second)
    found = list(frames)
    assert [frame.number for frame in found] == list(numbers)
    assert frames.expected_given == len(found)
    with pytest.raises(ValueError, match="above 0"):
        VideoFrames(clip, per_second=0)


def test_colours_are_rgb(tmp_path):
    red = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    red[:, :, 0] = 200
    (frame,) = VideoFrames(write_clip(tmp_path / "red.avi", [red], "MJPG"))
    means = frame.pixels.reshape(-1, 3).mean(0)
    assert means[0] > 150 and means[1:].max() < 50


def test_a_video_that_ends_early_gives_what_it_had(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (20, HEIGHT, WIDTH, 3), dtype=np.uint8)
    whole = write_clip(tmp_path / "clip.avi", list(noise), "MJPG").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    frames = VideoFrames(tmp_path / "cut.avi")
    found = list(frames)
    assert 0 < len(found) < 20 and frames.ended_early


def test_a_telephone_s_video_is_turned_upright(tmp_path):
    bright_left = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    bright_left[:, : WIDTH // 2] = 200
    path = write_clip(tmp_path / "clip.mp4", [bright_left] * 3, "mp4v")
    content = bytearray(path.read_bytes())
    # The matrix of the track header, 40 bytes behind its name: a quarter turn clockwise, as telephones write it.
    at = content.index(b"tkhd") + 4 + 40
    content[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, HEIGHT << 16, 0, 1 << 30)
    path.write_bytes(content)
    pixels = next(iter(VideoFrames(path))).pixels
    assert pixels.shape[:2] == (WIDTH, HEIGHT)
    assert pixels[: WIDTH // 3].mean() > 150 and pixels[-WIDTH // 3 :].mean() < 50


@pytest.mark.parametrize(
    "content, reason", [(None, "no such file"), (b"", "empty file"), (b"no video at all" * 20, "no video")]
)
def test_what_is_no_video_is_called_so(tmp_path, content, reason):
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoError, match=reason):
        list(VideoFrames(path))
    with pytest.raises(VideoError, match="directory"):
        VideoFrames(tmp_path)


# -- tracks -----------------------------------------------------------------------------------------------------------


def box(x: float, y: float = 0.0, side: float = 10.0) -> np.ndarray:
    return np.array([x, y, side, side])


def test_overlap_is_intersection_over_union():
    assert overlap(box(0), box(0)) == 1.0
    assert overlap(box(0), box(5)) == pytest.approx(50 / 150)
    assert overlap(box(0), box(10)) == overlap(box(0), box(100)) == 0.0
    assert overlap(box(0), box(0, side=20)) == pytest.approx(100 / 400)
    assert overlap(box(0, side=0), box(0, side=0)) == 0.0


def test_a_face_that_moves_keeps_its_track_and_one_that_comes_begins_one():
    tracks = FaceTracks()
    assert tracks.update([box(0), box(100)]) == [0, 1]
    assert tracks.update([box(103), box(3)]) == [1, 0]  # in whatever order they are found
    assert tracks.update([box(6), box(106), box(300)]) == [0, 1, 2]
    assert tracks.count == 3


def test_of_two_faces_the_one_that_overlaps_most_goes_on():
    tracks = FaceTracks()
    tracks.update([box(0)])
    assert tracks.update([box(4), box(1)]) == [1, 0]


def test_a_track_lives_through_its_patience_and_no_longer():
    for gap, track in ((3, 0), (4, 1)):
        tracks = FaceTracks(patience=3)
        tracks.update([box(0)])
        for _ in range(gap):
            assert tracks.update([]) == []
        assert tracks.update([box(1)]) == [track]


def test_a_face_that_jumps_begins_a_new_track():
    tracks = FaceTracks()
    tracks.update([box(0)])
    assert tracks.update([box(9)]) == [1]
