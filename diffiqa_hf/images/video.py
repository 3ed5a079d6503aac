# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Frames of a video, and which faces of one frame are those of the next."""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .extraction import FaceCrop, FaceExtractor
from .loading import NoFaceError


class VideoError(ValueError):
    """A video can't be read; the message is the reason in one line, without the name of the file."""


@dataclass
class Frame:
    """
    One picture of a video.

    Args:
        number (`int`): Its place in the video, from 0.
        seconds (`float`): Its time from the beginning.
        pixels (`np.ndarray` of shape (H, W, 3)): RGB, uint8, upright.
    """

    number: int
    seconds: float
    pixels: np.ndarray


class VideoFrames:
    """
    The frames of a video, one after the other, by OpenCV, which turns them upright by what the file says.

    Args:
        source (`str`): A file; or what else OpenCV opens: a stream's address, or the number of a camera.
        every (`int`, *optional*, defaults to 1): Gives every n-th frame; the others are not made into pictures.
        per_second (`float`, *optional*): Gives that many frames a second instead, by their times; all where the video
            has fewer.

    Attributes:
        read (`int`): Frames that have been read so far, those left out among them.
        expected (`int`): Frames that the file says it has; 0 where it does not say.

    Raises:
        VideoError: It is not there, or no video that can be read; when its frames are asked for: there are none.
    """

    def __init__(self, source: str | os.PathLike, every: int = 1, per_second: float | None = None):
        # A damaged file makes FFmpeg write lines of its own, unless this stands when it is first asked.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        import cv2

        source = os.fspath(source)
        is_camera = source.isdigit() and not os.path.exists(source)
        if not is_camera and "://" not in source:
            if not os.path.exists(source):
                raise VideoError("no such file")
            if not os.path.isfile(source):
                raise VideoError("is a directory, not a video" if os.path.isdir(source) else "not a regular file")
            if os.path.getsize(source) == 0:
                raise VideoError("empty file")
        if every < 1 or (per_second is not None and not per_second > 0):
            raise ValueError(f"every {every}th frame and {per_second} frames a second: both have to be above 0")
        self.every, self.per_second = every, per_second
        self.read = 0
        self._capture = cv2.VideoCapture(int(source) if is_camera else source)
        if not self._capture.isOpened():
            raise VideoError("no video that OpenCV can read, or damaged where it begins")
        self.expected = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self._rate = self._capture.get(cv2.CAP_PROP_FPS)

    @property
    def expected_given(self) -> int:
        """How many of them are given, by what the file says; 0 where it does not say."""
        if self.per_second is None or not self._rate > self.per_second:
            return -(-self.expected // self.every)
        return round(self.expected / self._rate * self.per_second)

    def __iter__(self) -> Iterator[Frame]:
        import cv2

        rate, begun, slot = self._rate, time.monotonic(), -1
        try:
            while self._capture.grab():
                number = self.read
                self.read += 1
                if number % self.every:
                    continue
                seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if seconds <= 0:  # some formats have no times, and some cameras no rate
                    seconds = number / rate if rate > 0 else time.monotonic() - begun
                if self.per_second is not None:
                    # The first frame of each part of a second; times are in whole milliseconds or thereabouts.
                    before, slot = slot, int((seconds + 1e-3) * self.per_second)
                    if slot == before:
                        continue
                found, pixels = self._capture.retrieve()
                if found:
                    yield Frame(number, seconds, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
        finally:
            self._capture.release()
        if self.read == 0:
            raise VideoError("no frame of it can be read")

    @property
    def ended_early(self) -> bool:
        """After the last frame: whether the file said that it has more."""
        # The count is an estimate in some formats, off by a frame or two.
        return self.read < self.expected - 2


class FaceTracks:
    """
    Follows faces by a plain rule: a face goes on with the track whose last box it overlaps most.

    It knows nothing of who a face is. Two people who cross may change places, and who leaves and comes back begins a
    new track.

    Args:
        least_overlap (`float`, *optional*, defaults to 0.3): Intersection over union of the two boxes, at least.
        patience (`int`, *optional*, defaults to 5): Pictures in a row without the face, after which its track ends.
    """

    def __init__(self, least_overlap: float = 0.3, patience: int = 5):
        self.least_overlap = least_overlap
        self.patience = patience
        self.count = 0
        self._last: dict[int, tuple[int, np.ndarray]] = {}
        self._now = 0

    def update(self, boxes: Sequence[np.ndarray]) -> list[int]:
        """
        The tracks of the faces of the next picture, numbered from 0.

        Args:
            boxes: For each face x, y, width, height, in pixels.
        """
        self._now += 1
        self._last = {track: seen for track, seen in self._last.items() if self._now - seen[0] <= self.patience + 1}
        pairs = [
            (overlap(box, last), face, track)
            for face, box in enumerate(boxes)
            for track, (_, last) in self._last.items()
        ]
        found: dict[int, int] = {}
        for value, face, track in sorted(pairs, key=lambda pair: -pair[0]):
            if value >= self.least_overlap and face not in found and track not in found.values():
                found[face] = track
        for face, box in enumerate(boxes):
            if face not in found:
                found[face] = self.count
                self.count += 1
            self._last[found[face]] = (self._now, np.asarray(box, dtype=float))
        return [found[face] for face in range(len(boxes))]


@dataclass
class SeenFace:
    """
    One face in one frame.

    Args:
        frame (`int`), seconds (`float`): As of [`Frame`].
        track (`int`): Which of the faces that are followed it is, from 0.
        face (`int`): Its place in the frame, largest first.
        crop ([`FaceCrop`]): The face, with its box.
    """

    frame: int
    seconds: float
    track: int
    face: int
    crop: FaceCrop

    @property
    def box(self) -> list[float]:
        """x, y, width, height in pixels of the frame, to a tenth."""
        return [] if self.crop.box is None else [round(float(value), 1) for value in self.crop.box]


def seen_faces(frames: Iterable[Frame], extractor: FaceExtractor, tracks: FaceTracks) -> Iterator[SeenFace]:
    """
    The faces of frames, one after the other, followed from frame to frame.

    Args:
        extractor: That finds faces, so that they have boxes.
        tracks: Goes on with those that it has.

    Raises:
        FaceImageError, OSError: As of [`~diffiqa_hf.images.extraction.FaceExtractor.extract_faces`].
    """
    for frame in frames:
        try:
            crops = extractor.extract_faces(frame.pixels)
        except NoFaceError:
            crops = []
        numbers = tracks.update([crop.box for crop in crops if crop.box is not None])
        for face, (crop, track) in enumerate(zip(crops, numbers, strict=True)):
            yield SeenFace(frame.number, frame.seconds, track, face, crop)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boxes x, y, width, height, in [0, 1]."""
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    begin = np.maximum(first[:2], second[:2])
    end = np.minimum(first[:2] + first[2:], second[:2] + second[2:])
    common = np.prod(np.maximum(end - begin, 0))
    union = np.prod(first[2:]) + np.prod(second[2:]) - common
    return float(common / union) if union > 0 else 0.0


__all__ = ["FaceTracks", "Frame", "SeenFace", "VideoError", "VideoFrames", "overlap", "seen_faces"]
