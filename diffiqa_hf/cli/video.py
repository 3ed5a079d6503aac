# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Videos, as `diffiqa score`, `best` and `tracks` take them: the faces of all frames, each followed by its box."""

import argparse
import csv
import io
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..file_utils import free_name, write_text
from ..scoring.image_files import VIDEO_ENDINGS
from .decisions import Decision, Threshold, decide, summary, why_low
from .errors import CommandError, printable, reason
from .scoring import load_scorer, percentiles_of, positive, say, scorer_settings


if TYPE_CHECKING:
    from ..images.extraction import FaceExtractor
    from ..images.video import FaceTracks, SeenFace

PLACE = ("frame", "seconds", "track", "x", "y", "width", "height")  # columns of where a face was seen
BEST_COLUMNS = (
    *("identity", "rank", "file", "video", *PLACE, "face"),
    *("score", "percentile", "seen", "reasons"),
)


def positive_number(text: str) -> float:
    """The type of an option that is a number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def add_frame_arguments(parser: argparse.ArgumentParser, of_videos: str = "") -> None:
    """Which frames of videos are looked at."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--every", type=positive, metavar="N", help=f"{of_videos}look at every n-th frame (1)")
    which.add_argument(
        "--per-second", type=positive_number, metavar="F", help=f"{of_videos}look at so many frames a second"
    )


def videos_of(paths: Sequence[str]) -> list[str]:
    """
    The paths, if they are videos: files with the ending of one, and addresses of streams. Empty where none is one.

    Raises:
        CommandError: Some are, and some are not.
    """
    videos = [path for path in paths if _is_video(path)]
    if videos and len(videos) < len(paths):
        other = next(path for path in paths if not _is_video(path))
        raise CommandError(f"{videos[0]} is a video, and {other} is none: score them apart")
    return videos


def _is_video(path: str) -> bool:
    return "://" in path or (os.path.splitext(path)[1].lower() in VIDEO_ENDINGS and not os.path.isdir(path))


def check_options(args: argparse.Namespace, videos: Sequence[str], unfit: Sequence[str]) -> None:
    """
    Raises [`CommandError`] for options that do not go with what is given.

    Args:
        unfit: Options that are for images alone.
    """
    if not videos:
        given = next((name for name in ("every", "per_second") if getattr(args, name) is not None), None)
        if given is not None:
            raise CommandError(f"--{given.replace('_', '-')} is for videos")
        return
    for name in unfit:
        if getattr(args, name):
            raise CommandError(f"--{name.replace('_', '-')} is for images, and {videos[0]} is a video")
    if args.align is False:
        raise CommandError("--no-align is for crops: in the frames of a video the faces are looked for")


class VideoReader:
    """
    The faces of videos, one video after the other. What can't be read to its end has a line on stderr.

    Args:
        args: With the options of [`add_frame_arguments`].
        extractor: Finds the faces.
        quiet: No progress bar.

    Attributes:
        failed (`bool`): Whether one could not be read to its end.
    """

    def __init__(self, args: argparse.Namespace, extractor: "FaceExtractor", quiet: bool = False):
        self.every, self.per_second = args.every or 1, args.per_second
        self.extractor, self.quiet = extractor, quiet
        self.failed = False

    def faces(self, video: str, tracks: "FaceTracks | None" = None) -> "Iterator[SeenFace]":
        """The faces of one video; `tracks` follows them, where the caller wants to know of it."""
        from tqdm import tqdm

        from ..images.loading import FaceImageError
        from ..images.video import FaceTracks, VideoError, VideoFrames, seen_faces

        try:
            frames = VideoFrames(video, self.every, self.per_second)
            total, hidden = frames.expected_given or None, True if self.quiet else None
            bar = tqdm(frames, total=total, unit="frame", file=sys.stderr, disable=hidden)
            yield from seen_faces(bar, self.extractor, tracks or FaceTracks())
        except (VideoError, FaceImageError) as error:
            say(f"{video}: {error}")
            self.failed = True
            return
        except OSError as error:  # no detector
            raise CommandError(reason(error)) from error
        if frames.ended_early:
            say(f"{video}: it ends at frame {frames.read} of {frames.expected}")
            self.failed = True


def prepare(scorer: Any, faces: str) -> "FaceExtractor":
    """
    What finds the faces of frames for a scorer, which then takes them as they are.

    Raises:
        CommandError: There is no detector.
    """
    processor = scorer.image_processor
    extractor = processor.with_changes(do_align=True, multiple_faces=faces)
    extractor.measuring = True
    try:
        extractor.check_detector()
    except OSError as error:
        what = getattr(error, "what", None) or reason(error)
        raise CommandError(f"the faces of a video are looked for, and {what}: --detector FILE names one") from error
    processor.do_align = False
    return extractor


def scored_faces(
    scorer: Any, videos: Sequence[str], reader: VideoReader, **call: Any
) -> "Iterator[tuple[str, SeenFace, Any]]":
    """For each face of videos the video, the face, and its record. No more faces are in memory than a batch has."""
    from ..images.extraction import face_to_pixels

    seen: deque[tuple[str, SeenFace]] = deque()

    def pixels() -> Iterator[Any]:
        for video in videos:
            for face in reader.faces(video):
                seen.append((video, face))
                yield face_to_pixels(face.crop.pixel_values)

    for record in scorer.stream(pixels(), **call):
        video, face = seen.popleft()
        record.measures, record.box = face.crop.measures, face.crop.box
        yield video, face, record


def place_of(face: "SeenFace") -> dict[str, float | int]:
    """Where a face was seen, by the names of `PLACE`."""
    box = dict(zip(("x", "y", "width", "height"), face.box, strict=True))
    return {"frame": face.frame, "seconds": round(face.seconds, 3), "track": face.track + 1, **box}


# -- diffiqa best -----------------------------------------------------------------------------------------------------


def best_of_videos(args: argparse.Namespace, videos: Sequence[str], threshold: Threshold, folder: Path | None) -> int:
    """`diffiqa best` of videos: the best faces of each track. Returns the exit status."""
    if args.group_by not in (None, "track"):
        raise CommandError("--group-by: of a video the faces are grouped by their tracks")
    scorer = load_scorer(args)
    percentiles_of(scorer, args, "--min-percentile" if args.min_percentile is not None else None)
    reader = VideoReader(args, prepare(scorer, "all"))
    rows = list(_rows(scorer, videos, reader, args))
    if not rows:
        say("there is no face")
        return 2
    from ..labelling.best_shot import best_of_groups

    scores = [None if row["error"] is not None else row["score"] for row in rows]
    groups = best_of_groups([row["group"] for row in rows], scores, top=len(rows))
    best = {str(group): positions for group, positions in groups.items()}
    decisions = decide(rows, best, args.top, threshold)
    if folder is not None:
        for decision in decisions:
            for row in decision.chosen:
                path = folder / row["file"]
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    row["picture"].save(path)
                except OSError as error:
                    raise CommandError(f"cannot write {path}: {reason(error)}") from error
    _write(args, decisions)
    if threshold.name is not None:
        say(summary(decisions, threshold).replace("people", "tracks").replace("person", "track"))
    if folder is None:
        for decision in decisions:
            for rank, row in enumerate(decision.chosen, 1):
                box = " ".join(f"{row[name]:g}" for name in ("x", "y", "width", "height"))
                time = f"{row['seconds']:.2f} s, frame {row['frame']}, box {box}"
                line = (decision.person, str(rank), f"{row['score']:.4f}", f"{row['video']}, {time}")
                print("\t".join(map(printable, line)))
    else:
        count = sum(len(decision.chosen) for decision in decisions)
        print(f"{count} faces of {len(decisions)} tracks copied to {printable(str(folder))}", file=sys.stderr)
    if not any(best.values()):
        return 2
    return int(reader.failed or any(row["error"] is not None for row in rows))


def _rows(
    scorer: Any, videos: Sequence[str], reader: VideoReader, args: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """A row for each face. The crops of those that can't be chosen any more are dropped."""
    from PIL import Image

    from ..images.extraction import face_to_pixels

    call = {"batch_size": args.batch_size, "seed": args.seed, **scorer_settings(scorer, args)}
    names = crop_names(videos)
    kept: dict[str, list[dict[str, Any]]] = {}
    for video, face, record in scored_faces(scorer, videos, reader, **call):
        group = names[video](face).parent.as_posix()
        row = {"file": names[video](face).as_posix(), "video": video, "group": group, "face": face.face}
        row |= place_of(face) | {"score": record.score, "error": record.error, "percentile": record.percentile}
        row |= {"measures": record.measures, "num_faces": None, "picture": None}
        if record.error is None:
            row["picture"] = Image.fromarray(face_to_pixels(face.crop.pixel_values))
            among = kept.setdefault(group, [])
            among.append(row)
            among.sort(key=lambda row: -row["score"])
            for dropped in among[args.top :]:
                dropped["picture"] = None
            del among[args.top :]
        yield row


def crop_names(videos: Sequence[str]) -> "dict[str, Callable[[SeenFace], Path]]":
    """For each video how the crop of a face of it is called: in a folder of its track, by its frame."""
    stems: set[str] = set()

    def namer(stem: str) -> "Callable[[SeenFace], Path]":
        return lambda face: Path(f"{stem}_track_{face.track + 1:03}") / f"{stem}_{face.frame:06}.png"

    return {video: namer(_free_stem(video, stems)) for video in dict.fromkeys(videos)}


def _write(args: argparse.Namespace, decisions: Sequence[Decision]) -> None:
    if not args.output:
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(BEST_COLUMNS)
    for decision in decisions:
        for rank, row in enumerate(decision.chosen, 1):
            known = {**row, "identity": decision.person, "rank": rank, "seen": decision.scored + decision.failed}
            known |= {"score": f"{row['score']:.7g}", "reasons": why_low(row)}
            known["percentile"] = "" if row["percentile"] is None else f"{row['percentile']:.7g}"
            table.writerow([known[name] for name in BEST_COLUMNS])
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        write_text(args.output, text.getvalue())
    except OSError as error:
        raise CommandError(f"cannot write {args.output}: {reason(error)}") from error


def _free_stem(video: str, taken: set[str]) -> str:
    stem = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in Path(video).stem)[:100]
    stem = stem.strip(".") or "video"
    return free_name(taken, stem)
