# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa score`: a score for each face in images and folders, by DifFIQA or another method."""

import argparse
import hashlib
import importlib.util
import itertools
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..images.reasons import MEASURES
from ..scoring.names import FileKeys, row_name
from ..scoring.row_formats import score_row
from ..version import __version__
from .devices import placed
from .errors import CommandError, printable, reason
from .images import add_image_arguments, images_of, several_faces, shard, take_list
from .progress import Progress
from .score_lines import print_row, summarise
from .score_ray import add_ray_arguments, check_ray_options, for_actors, score_units, take_tables, units_left
from .score_table import TERMS, ScoreTable, check_format, recorded_settings
from .scoring import (
    PIPELINE_SETTINGS,
    add_calibration_argument,
    add_call_arguments,
    add_engine_argument,
    add_method_arguments,
    check_alignment,
    is_pipeline,
    load_named,
    load_pipeline,
    named_method,
    pipeline_settings,
    say,
    set_alignment,
    take_calibration,
    usable_calibration,
)
from .video import PLACE, VideoReader, add_frame_arguments, check_options, place_of, prepare, scored_faces, videos_of


if TYPE_CHECKING:
    from ..labelling.score_parts import RowScorer
    from ..quality_record import FaceQualityRecord

MAKES_FORM = 1000  # images, from which on the ONNX form of weights is made that have none
TABLE_ROWS = 50  # a run that also writes a file prints its table up to this many images
DESCRIPTION = """\
Scores the faces in images and in the images of folders; a higher score is a better image for face recognition.
The method is DifFIQA(R), the small network of the package, unless --method names another (`diffiqa methods` lists
them), such as diffiqa itself; the terms of a method are columns of the table. With a calibration (beside the model, or
by --calibration) each score has its percentile as well.
In whole photographs the face is found and aligned; aligned crops (112x112 pixels, or larger ones whose face lies where
the ArcFace template has it) stay as they are. Of a video the faces of its frames are scored, each followed by its box:
a row has the frame, its time, the track and the box. Prints a table, or writes one with --output, row by row as faces
are scored. Exit status: 0 all scored, 1 some failed (the reasons are on stderr and in the table),
2 nothing could be scored, 130 interrupted (what was scored is kept)."""


def add_parser(commands: "argparse._SubParsersAction") -> None:
    """Adds `score` to the commands of `diffiqa`."""
    parser = commands.add_parser("score", help="score the faces in images and folders", description=DESCRIPTION)
    parser.set_defaults(run=run)
    add_image_arguments(parser)
    parser.add_argument("--recursive", action="store_true", help="look into the folders in a folder as well")
    add_method_arguments(parser)
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the method, as `diffiqa methods NAME` names them; the value in JSON, or text; can be repeated",
    )
    add_call_arguments(parser)
    add_engine_argument(parser)
    parser.add_argument(
        "--faces", choices=("largest", "all"), help="of a photograph that shows several (largest), of a frame (all)"
    )
    add_frame_arguments(parser, "of videos: ")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument("--output", type=Path, metavar="FILE", help="table to write: .csv, .jsonl or .parquet")
    add_calibration_argument(parser)
    parser.add_argument(
        "--iso", action="store_true", help="also the percentile as an integer from 0 to 100; -1 is a face that failed"
    )
    parser.add_argument(
        "--face-check",
        choices=("mark", "lower", "refuse", "off"),
        help="ask a small network whether each picture is one of a face: mark has a column face_probability, refuse "
        "gives what is no face no score, lower (DifFIQA) puts it below all faces; default: lower with the pipeline of "
        "the package, off otherwise",
    )
    parser.add_argument(
        "--reasons",
        action="store_true",
        help="also measure each face, in columns: brightness, contrast, sharpness, over- and underexposed part, and "
        "in a photograph the distance of the eyes, yaw, pitch, roll, number of faces, part cut off by the border",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the table: files that failed, and new ones")
    parser.add_argument(
        "--shard",
        type=shard,
        metavar="I/N",
        help="only every N-th image, from the I-th on: N runs with one table each share the work, and `diffiqa best` "
        "takes all their tables",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="picture to write: the faces by their scores")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary")
    add_ray_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Runs `diffiqa score`; returns its exit status."""
    take_list(args)
    _check_usage(args)
    args.method = named_method(args)
    _check_method(args)
    args.videos = videos_of(args.paths)
    check_options(args, args.videos, ("resume", "plot", "recursive", "ray"))
    tables = take_tables(args) if args.ray else []
    none = args.videos or (tables and not args.paths)  # images by themselves
    files, problems = images_of([] if none else args.paths, args.recursive)
    files = args.videos or files
    if args.shard:
        number, count = args.shard
        files = files[number - 1 :: count]
        if not files and not problems:
            say(f"--shard {number}/{count}: there are fewer images than shards")
    if not files and not tables:
        # Each problem has had its line.
        return 2
    pipe, calibration, terms = _prepare(args, files)
    names = [*files, *(name for unit in tables for name in unit.names)]
    table = _open_table(args, pipe, terms, calibration, names) if args.output else None
    if not args.ray:
        _fold(pipe, args)
    kept = () if table is None else table.rows
    reader = VideoReader(args, prepare(pipe, args.faces or "all"), args.quiet) if args.videos else None
    done, scores, shown = _take_stock(kept, bool(args.plot))
    key = FileKeys()
    todo = [name for name in names if _digest_of(key(name)) not in done] if done else names
    print_rows = table is None or (len(todo) <= TABLE_ROWS and not args.quiet and not args.videos)
    width = max([len(printable(row_name(name))) for name in todo], default=0) if print_rows else 0
    count = len(kept)

    stopped, several = None, _Several()
    if args.ray:
        units = units_left(files, tables, set(todo), args.shard_size)
        scored = score_units(units, partial(load_row_scorer, for_actors(args)), args)
    else:
        scored = _score(pipe, todo, args, terms, calibration, several, reader)
    try:
        for file_rows in scored:
            if table is not None:
                table.append(file_rows)
            count += len(file_rows)
            for row in file_rows:
                if row["error"] is None:
                    scores.append(row["score"])
                    shown += [row] if args.plot else []
                else:
                    say(f"{row['file']}: {row['error']}")
                if print_rows:
                    print_row(row, width)
    except KeyboardInterrupt:
        stopped = "interrupted"
    except BrokenPipeError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        stopped = reason(error)
    finally:
        # Whatever ends the run, a Parquet file is made of the rows that there are.
        if table is not None:
            table.close()

    if stopped is not None:
        kept_in = f"; {count} rows are in {args.output}" if table is not None and count else ""
        say(f"{stopped}{kept_in}{', --resume goes on' if kept_in and not args.videos else ''}")
        return 130 if stopped == "interrupted" else (1 if count > len(kept) else 2)
    if args.plot and scores:
        _plot(args.plot, pipe, files, shown)
    if several.count and not args.quiet:
        say(f"{several_faces(several.count, several.file, several.faces)}; --faces all scores each")
    if not args.quiet:
        summarise(count, scores)
    if not scores:
        return 2
    return 1 if problems or len(scores) < count or (reader is not None and reader.failed) else 0


def _prepare(args: argparse.Namespace, files: list[str]) -> tuple[Any, Any, tuple[str, ...]]:
    """What scores, the calibration that holds, and the names of the terms."""
    pipe = _load(args, files)
    calibration = _calibration(args, pipe)
    return pipe, calibration, TERMS if args.method == "diffiqa" else _terms(pipe)


def _fold(pipe, args: argparse.Namespace) -> None:
    # After the fingerprint of the weights has been taken.
    if args.dtype == "float32" and pipe.engine == "torch":
        pipe.enable_folding(winograd=pipe.device.type == "cpu")


def load_row_scorer(args: argparse.Namespace) -> "RowScorer":
    """What an actor of a cluster scores with: that which the command has here."""
    from ..labelling.score_parts import RowScorer

    pipe, calibration, terms = _prepare(args, [])
    _fold(pipe, args)
    measures = _measures(args, calibration)
    return RowScorer(lambda images, _: _stream(pipe, images, args), terms, {}, calibration, measures, **_further(args))


def _take_stock(rows: Iterable[dict], plot: bool) -> tuple[set[bytes], array, list[dict]]:
    """
    Of the rows that a table has no more is kept than a run needs: which files are done, the scores for the summary,
    and for the picture the rows themselves.
    """
    key = FileKeys()
    done: set[bytes] = set()
    scores = array("d")
    shown = []
    for row in rows:
        done.add(_digest_of(key(row["file"])))
        if row["error"] is None:
            scores.append(row["score"])
            shown += [row] if plot else []
    return done, scores, shown


def _digest_of(key: str) -> bytes:
    # Of a million names two have one digest of 64 bits in one of 37 million cases.
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _check_usage(args: argparse.Namespace) -> None:
    # All that can be known before anything is computed.
    check_alignment(args)
    check_ray_options(args)
    if args.faces and args.align is False:
        raise CommandError("--faces is for whole photographs, and --no-align says that there are none")
    if args.resume and not args.output:
        raise CommandError("--resume goes with --output")
    if args.calibration and not os.path.isfile(args.calibration):
        raise CommandError(f"--calibration {args.calibration}: no such file")
    if args.output:
        check_format(args.output)
    if args.plot:
        from PIL import Image

        if args.plot.suffix.lower() not in Image.registered_extensions():
            raise CommandError(f"--plot {args.plot}: the ending is not one of a picture, such as .png")


def _check_method(args: argparse.Namespace) -> None:
    from ..methods.cards import get_card

    # Of what is known of the method.
    try:
        card = get_card(args.method)
    except ValueError as error:
        raise CommandError(f"--method {args.method}: {error}") from error
    for argument, flag, value in (("weights", "--weights", args.model), ("fr_model", "--fr-model", args.fr_model)):
        if value is None and argument in card.needs:
            raise CommandError(f"--method {args.method} needs {flag}: {card.weights_source}")
        if value == "default" and argument in card.needs:
            what = f"{args.method} has no default {argument}, it needs its own"
            raise CommandError(f"{flag} default: {what}: {card.weights_source}")
        if value is not None and argument not in card.takes:
            raise CommandError(f"--method {args.method} takes no {flag}")
    for name in PIPELINE_SETTINGS:
        if getattr(args, name) is not None and args.method != "diffiqa":
            raise CommandError(f"--{name.replace('_', '-')} goes with --method diffiqa, not {args.method}")
    args.options = _parse_options(args.option, card.options)
    if args.face_check == "lower" and args.method != "diffiqa":
        raise CommandError(f"--face-check lower goes with --method diffiqa, not {args.method}: mark or refuse")


def _parse_options(given: list[str], known: tuple[str, ...]) -> dict[str, Any]:
    options = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or name not in known:
            raise CommandError(f"--option {text}: NAME=VALUE, with one of these names: {', '.join(known) or 'none'}")
        if name in PIPELINE_SETTINGS:
            raise CommandError(f"--option {text}: there is --{name.replace('_', '-')}")
        try:
            options[name] = json.loads({"True": "true", "False": "false", "None": "null"}.get(value, value))
        except ValueError:
            options[name] = value
        if name.startswith("use_") and not isinstance(options[name], bool):
            raise CommandError(f"--option {text}: true or false")
    return options


def _load(args: argparse.Namespace, files: list[str]):
    pipe = load_pipeline(args) if args.method == "diffiqa" else _load_method(args, len(files))
    set_alignment(pipe.image_processor, args, files)
    pipe.image_processor.multiple_faces = args.faces or "largest"
    if args.method == "diffiqa" and "preset" in args.options:
        try:
            pipe.set_preset(args.options["preset"])
        except ValueError as error:
            raise CommandError(f"--option preset: {error}") from error
    take_calibration(pipe, args)  # before a change to half precision, in which weights can't be compared
    if args.face_check is not None:
        from ..face_check import FaceCheck

        pipe.face_check = None
        if args.face_check != "off":
            engine = "torch" if args.engine == "torch" else "auto"
            pipe.face_check = FaceCheck.load(action=args.face_check, engine=engine)
    return placed(pipe, args.device, args.dtype)


def _load_method(args: argparse.Namespace, count: int):
    # The form is worth its making where many images are scored, and where what makes it is installed.
    make = count >= MAKES_FORM and all(map(importlib.util.find_spec, ("onnx", "onnxscript")))
    given = (args.method, args.model, args.fr_model, args.device, args.engine)
    return load_named(*given, args.dtype, make, **args.options)


def _calibration(args: argparse.Namespace, pipe):
    """The calibration that holds for this run, if there is one."""
    settings = {}
    if args.method == "diffiqa":
        from ..quality_record import used_terms

        used = {name: value for name, value in args.options.items() if name.startswith("use_")}
        settings = pipeline_settings(args) | {"terms": used_terms(**used)}
    calibration = usable_calibration(pipe, **settings)
    if calibration is None and (args.iso or args.calibration):
        option = "--iso" if args.iso else "--calibration"
        raise CommandError(
            f"{option} needs a calibration of this model with these settings: `diffiqa calibrate` makes one, "
            "--calibration FILE.json takes it"
        )
    return calibration


def _terms(method) -> tuple[str, ...]:
    try:
        return method.term_names()
    except Exception as error:  # a network of other sizes, a floating point type that it has not: anything may come
        raise CommandError(f"cannot score with the method {method.card.name}: {reason(error)}") from error


def _fingerprint(pipe, recorded: str | None) -> str:
    """Of the networks and what makes faces for them; how images are aligned has entries of its own in the record."""
    from ..alignment import DEFAULT_DETECTOR
    from ..fingerprints import recorded_fingerprint

    processor = pipe.image_processor
    usual = {"do_align": False, "multiple_faces": "largest", "detector": DEFAULT_DETECTOR}
    own = {name: getattr(processor, name) for name in usual}
    try:
        for name, value in usual.items():
            setattr(processor, name, value)
        return recorded_fingerprint(pipe, [recorded])
    finally:
        for name, value in own.items():
            setattr(processor, name, value)


def _open_table(args: argparse.Namespace, pipe, terms: tuple[str, ...], calibration, files: list[str]) -> ScoreTable:
    key = FileKeys()
    given = {key(file) for file in files} if args.resume else ()
    recorded = recorded_settings(args.output).get("weights") if args.resume else None
    settings = {"method": args.method, "weights": _fingerprint(pipe, recorded)}
    if args.method == "diffiqa":
        settings["pipeline"] = {name: value for name, value in pipe.config.items() if not name.startswith("_")}
        settings |= pipeline_settings(args)
    settings |= {
        "options": _resolved_options(pipe, args.options),
        "dtype": args.dtype,
        "seed": args.seed,
        "align": pipe.image_processor.do_align,
        "faces": args.faces or ("all" if args.videos else "largest"),
        "detector": args.detector,
        # None, and not false: a record of an earlier version has neither.
        "calibration": None if calibration is None else _digest(calibration),
        "iso": args.iso or None,
        "face_check": None if pipe.face_check is None else pipe.face_check.action,
    }
    described = {"diffiqa_hf": __version__, "model": args.model, "fr_model": args.fr_model, "engine": pipe.engine}
    if calibration is not None:
        described["calibration_data"] = calibration.data
    measures = _measures(args, calibration)
    return ScoreTable(args.output, settings, described, args.resume, terms, measures, lambda file: key(file) in given)


def _further(args: argparse.Namespace) -> dict[str, bool]:
    """Which columns a row has besides."""
    return {"iso": args.iso, "checked": args.face_check not in (None, "off"), "measured": args.reasons}


def _measures(args: argparse.Namespace, calibration) -> list[str]:
    further = _further(args)
    measures = [*(PLACE if args.videos else ()), *(["percentile"] if calibration is not None else [])]
    measures += ["iso"] if further["iso"] else []
    return [
        *measures,
        *(["face_probability"] if further["checked"] else []),
        *(MEASURES if further["measured"] else []),
    ]


def _digest(calibration) -> str:
    # Of all that percentiles depend on.
    return hashlib.sha256(json.dumps(calibration.quantiles).encode()).hexdigest()[:16]


def _resolved_options(scorer, given: dict[str, Any]) -> dict[str, Any]:
    """The options as the method has them, with its defaults, and the layers in place of what they were chosen by."""
    resolved = {}
    # Of DifFIQA the record has the settings of its pipeline as well.
    for name in given if is_pipeline(scorer) else scorer.card.options:
        value = getattr(scorer, name, None)
        if name != "calibration":
            resolved[name] = value if isinstance(value, (bool, int, float, str, list, tuple)) else given.get(name)
    return resolved


@dataclass
class _Several:
    """Photographs that show several faces: how many, and the first."""

    count: int = 0
    file: str = ""
    faces: int = 0

    def notice(self, file: str, faces: int | None) -> None:
        if faces is not None and faces > 1:
            self.count += 1
            self.file, self.faces = self.file or file, self.faces or faces


def _score(
    pipe,
    files: list[str],
    args: argparse.Namespace,
    terms: tuple[str, ...],
    calibration,
    several: _Several,
    reader: VideoReader | None,
) -> Iterator[list[dict]]:
    """The rows of one file after the other; of videos, of one face after the other."""

    def row(record) -> dict:
        return score_row(row_name(files[record.index]), record, terms, calibration, **_further(args))

    if reader is not None:
        place, before = -1, None
        for video, face, record in scored_faces(pipe, files, reader, **_call(pipe, args)):
            # Of a video the faces are numbered through, so that each row has a name of its own.
            place, before = (place + 1 if video == before else 0), video
            record.index = files.index(video)
            yield [row(record) | place_of(face) | {"face": place}]
        return
    records = _stream(pipe, files, args)
    with Progress(len(files), args.quiet) as bar:
        if args.faces != "all":
            for record in records:
                several.notice(files[record.index], record.num_faces)
                yield [row(record)]
                bar.update()
            return
        # The rows of one image are written together, so that a resumed run need not ask which faces it has.
        for _, faces in itertools.groupby(records, key=lambda record: record.index):
            yield [row(record) for record in faces]
            bar.update()


def _call(pipe, args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of a call, behind the images."""
    settings = {}
    if args.method == "diffiqa":
        settings = pipeline_settings(args)
        settings |= {name: value for name, value in args.options.items() if name != "preset"}
    pipe.reading_threads = args.threads
    return {"batch_size": args.batch_size, "seed": args.seed, **settings}


def _stream(pipe, images: Sequence[Any], args: argparse.Namespace) -> Iterator["FaceQualityRecord"]:
    pipe.image_processor.measuring = args.reasons
    return pipe.stream(images, **_call(pipe, args))


def _plot(path: Path, pipe, files: list[str], scored: list[dict]) -> None:
    from ..scoring.contact_sheet import contact_sheet

    file_of = {row_name(file): file for file in files}
    title = pipe.card.title if hasattr(pipe, "card") else "DifFIQA"
    picture = contact_sheet(pipe.image_processor, scored, lambda row: file_of.get(row["file"], row["file"]), title)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {reason(error)}") from error
