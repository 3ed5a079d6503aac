# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa tracks`: the faces of videos as aligned crops, in a folder for each face that is followed."""

import argparse
import csv
import sys
from pathlib import Path

from .errors import CommandError, reason
from .video import VideoReader, add_frame_arguments, crop_names, place_of


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
    add_frame_arguments(parser)
    parser.add_argument("--detector", metavar="PATH_OR_REPO", help="YuNet's ONNX file or Hub repository")


def run(args: argparse.Namespace) -> int:
    """Runs `diffiqa tracks`; returns its exit status."""
    try:
        args.output.mkdir(parents=True, exist_ok=True)
        if any(args.output.iterdir()):
            raise CommandError(f"--output {args.output}: the folder is not empty")
    except OSError as error:
        raise CommandError(f"cannot write {args.output}: {reason(error)}") from error
    from PIL import Image

    from ..images.extraction import FaceExtractor, face_to_pixels
    from ..images.video import FaceTracks

    detector = {} if args.detector is None else {"detector": args.detector}
    reader = VideoReader(args, FaceExtractor(do_align=True, multiple_faces="all", **detector))
    names = crop_names(args.videos)
    faces, followed = 0, []
    with open(args.output / "tracks.csv", "w", newline="", encoding="utf-8", buffering=1) as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for video in names:  # each once
            followed.append(FaceTracks())
            for face in reader.faces(video, followed[-1]):
                name = names[video](face)
                try:
                    (args.output / name).parent.mkdir(exist_ok=True)
                    Image.fromarray(face_to_pixels(face.crop.pixel_values)).save(args.output / name)
                except OSError as error:
                    raise CommandError(f"cannot write {args.output / name}: {reason(error)}") from error
                place = place_of(face)
                table.writerow([name.as_posix(), video, *(place[column] for column in COLUMNS[2:])])
                faces += 1
    print(f"{faces} faces in {sum(tracks.count for tracks in followed)} tracks", file=sys.stderr)
    if faces == 0:
        return 2
    return 1 if reader.failed else 0
