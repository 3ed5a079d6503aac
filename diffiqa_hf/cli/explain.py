# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa explain`: one picture an image of why it has its score."""

import argparse
import os
import unicodedata
from pathlib import Path

from ..default_weights import DEFAULT_METHOD
from ..file_utils import free_name
from .errors import CommandError, printable, reason
from .images import IMAGES_HELP, images_of
from .scoring import (
    add_scoring_arguments,
    check_alignment,
    chosen_method,
    is_pipeline,
    load_scorer,
    say,
    scorer_settings,
    usable_calibration,
)


DESCRIPTION = """\
Draws one picture for each image: the face, its mirror image, both made noisy and restored by DifFIQA, with the five
similarities that its score is the mean of, and a map of where in the face the restoration moved the embedding. Beside
them stand the score and percentile that `diffiqa score` gives, DifFIQA(R)'s, which restores nothing. With a quality
network, --method diffiqa-r or another's: the face, the blurred face, their scores, and a map of where detail raised or
lowered the score. Exit status: 0 all drawn, 1 some failed (the reasons are on stderr),
2 nothing could be drawn, 130 interrupted."""


def add_parser(commands: "argparse._SubParsersAction") -> None:
    """Adds `explain` to the commands of `diffiqa`."""
    parser = commands.add_parser("explain", help="draw why an image has its score", description=DESCRIPTION)
    parser.set_defaults(run=run)
    parser.add_argument("paths", nargs="+", metavar="IMAGE", help=IMAGES_HELP)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("explanations"),
        metavar="DIR",
        help="folder of the pictures, <name>_explained.png each (explanations)",
    )
    parser.add_argument("--recursive", action="store_true", help="look into folders in a folder as well")
    add_scoring_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Runs `diffiqa explain`; returns its exit status."""
    check_alignment(args)
    files, problems = images_of(args.paths, args.recursive)
    if not files:
        return 2
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"cannot write {args.output}: {reason(error)}") from error
    beside = None
    if args.model is None and chosen_method(args) == DEFAULT_METHOD and args.method is None:
        beside = load_scorer(args, files)
        usable_calibration(beside)
        args.method = "diffiqa"
    _check_method(chosen_method(args))
    scorer = load_scorer(args, files)

    settings = scorer_settings(scorer, args)
    calibration = usable_calibration(scorer, **settings)

    from ..explanation import draw_explanation, explain

    if is_pipeline(scorer):
        model, known = scorer, settings | {"seed": args.seed}
    else:
        model, known = scorer.model, {"image_processor": scorer.image_processor, "calibration": calibration}
    names: set[str] = set()
    done = 0
    for file in files:
        path = args.output / free_name(names, f"{Path(file).stem}_explained", ".png")
        try:
            explanation = explain(model, file, **known)
            score, note = explanation.score, ""
            if beside is not None:
                record = next(beside.stream([file], on_error="raise"))
                score, note = record.score, _note(record)
            draw_explanation(explanation, _ascii(os.path.basename(file)), note).save(path)
        except (OSError, ValueError, RuntimeError) as error:
            say(f"{file}: {reason(error)}")
            continue
        done += 1
        print(printable(f"{path}  {score:.4f}{f'  DifFIQA {explanation.score:.4f}' if note else ''}"))
    if done == 0:
        return 2
    return 1 if problems or done < len(files) else 0


def _check_method(name: str | None) -> None:
    if name in (None, "diffiqa"):
        return
    from ..methods import get_card
    from ..methods.regression import QualityModelMethod

    try:
        drawn = issubclass(get_card(name).load_class(), QualityModelMethod)
    except ValueError as error:
        raise CommandError(f"--method {name}: {error}") from error
    if not drawn:
        raise CommandError(f"--method {name}: there are pictures of diffiqa, and of networks that give a score alone")


def _note(record) -> str:
    if record.error is not None:
        return ""
    percentile = "" if record.percentile is None else f", percentile {record.percentile:.0f}"
    return f"DifFIQA(R) {record.score:.4f}{percentile}"


def _ascii(name: str) -> str:
    # Pillow's own font has no other letters: accents go, what is left becomes a question mark.
    name = unicodedata.normalize("NFKD", printable(name))
    return "".join(c for c in name if not unicodedata.combining(c)).encode("ascii", "replace").decode()
