# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa tracks`: the faces of videos as aligned crops, in a folder for each face that is followed."""

import argparse
import csv
import sys
from pathlib import Path

from .errors import CommandError, reason
from .scoring import positive, say


COLUMNS = ("file", "video", "track", "frame", "seconds", "x", "y", "width", "height")
DESCRIPTION = """\
Finds the faces in videos, follows each, and writes them as aligned crops: a folder for each track, and tracks.csv with
the time and the box of each. `diffiqa best DIR --group-by folder` then picks the best face of each track, `diffiqa
score DIR --recursive` scores all. A face goes on with the track whose last box it overlaps most (intersection over
union of .3 at least), which knows nothing of who it is. Frames are turned upright. A video that ends early gives the
faces that it had. Exit status: 0 all read, 1 some could not be read to its end (the reasons are on stderr), 2 there is
no face, 130 interrupted (what was found is kept)."""


def add_parser(commands: "argparse._SubParsersAction") -> None:
    """Adds `tracks` to the commands of `diffiqa`."""
    parser = commands.add_parser("tracks", help="cut the faces out of videos, by tracks", description=DESCRIPTION)
    parser.set_defaults(run=run)
    parser.add_argument(
        "videos", nargs="+", metavar="VIDEO", help="files; or a stream's address, or the number of a camera"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the crops; new or empty")
    parser.add_argument("--every", type=positive, default=1, metavar="N", help="look at every n-th frame (1)")
    parser.add_argument("--detector", metavar="PATH_OR_REPO", help="YuNet's ONNX file or Hub repository")


def run(args: argparse.Namespace) -> int:
    """Runs `diffiqa tracks`; returns its exit status."""
    try:
        args.output.mkdir(parents=True, exist_ok=True)
        if any(args.output.iterdir()):
            raise CommandError(f"--output {args.output}: the folder is not empty")
    except OSError as error:
        raise CommandError(f"cannot write {args.output}: {reason(error)}") from error
    from ..images.extraction import FaceExtractor

    detector = {} if args.detector is None else {"detector": args.detector}
    extractor = FaceExtractor(do_align=True, multiple_faces="all", **detector)
    faces, tracks, failed = 0, 0, False
    stems: set[str] = set()
    with open(args.output / "tracks.csv", "w", newline="", encoding="utf-8", buffering=1) as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for video in args.videos:
            found = _Found(args.output, _free_stem(video, stems), video, table)
            try:
                failed = _cut(video, args.every, extractor, found) or failed
            finally:
                faces, tracks = faces + found.faces, tracks + found.tracks.count
    print(f"{faces} faces in {tracks} tracks", file=sys.stderr)
    if faces == 0:
        return 2
    return 1 if failed else 0


class _Found:
    """Where the faces of one video go."""

    def __init__(self, folder: Path, stem: str, video: str, table):
        from ..images.video import FaceTracks

        self.folder, self.stem, self.video, self.table = folder, stem, video, table
        self.tracks = FaceTracks()
        self.faces = 0

    def add(self, frame, crops: list) -> None:
        from PIL import Image

        from ..images.extraction import face_to_pixels

        for crop, track in zip(crops, self.tracks.update([crop.box for crop in crops]), strict=True):
            name = Path(f"{self.stem}_track_{track + 1:03}") / f"{self.stem}_{frame.number:06}.png"
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(face_to_pixels(crop.pixel_values)).save(path)
            box = [round(float(value), 1) for value in crop.box]
            row = (name.as_posix(), self.video, track + 1, frame.number, round(frame.seconds, 3), *box)
            self.table.writerow(row)
            self.faces += 1


def _cut(video: str, every: int, extractor, found: _Found) -> bool:
    """Whether a video could not be read to its end."""
    from tqdm import tqdm

    from ..images.loading import FaceImageError, NoFaceError
    from ..images.video import VideoError, VideoFrames

    try:
        frames = VideoFrames(video, every)
        total = -(-frames.expected // every) or None
        for frame in tqdm(frames, total=total, unit="frame", file=sys.stderr, disable=None):
            try:
                crops = extractor.extract_faces(frame.pixels)
            except NoFaceError:
                crops = []
            found.add(frame, crops)
    except (VideoError, FaceImageError) as error:
        say(f"{video}: {error}")
        return True
    except OSError as error:  # no detector, a full disk
        raise CommandError(reason(error)) from error
    if frames.ended_early:
        say(f"{video}: it ends at frame {frames.read} of {frames.expected}")
    return frames.ended_early


def _free_stem(video: str, taken: set[str]) -> str:
    stem = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in Path(video).stem)[:100]
    stem = stem.strip(".") or "video"
    free, count = stem, 1
    while free.casefold() in taken:
        count += 1
        free = f"{stem}_{count}"
    taken.add(free.casefold())
    return free
