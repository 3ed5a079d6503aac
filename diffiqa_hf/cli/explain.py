# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa explain`: one picture an image of why it has its score."""

import argparse
import os
import unicodedata
from pathlib import Path

from .best import _free_name
from .errors import CommandError, printable, reason
from .scoring import (
    IMAGES_HELP,
    add_scoring_arguments,
    check_scoring,
    images_of,
    load_scorer,
    say,
    scorer_settings,
    usable_calibration,
)


DESCRIPTION = """\
Draws one picture for each image: the face, its mirror image, both made noisy and restored, with the five similarities
that the score is the mean of, the percentile where the model has a calibration, and a map of where in the face the
restoration moved the embedding. With a quality model such as DifFIQA(R): the face, the blurred face, their scores, and
a map of where detail raised or lowered the score. Exit status: 0 all drawn, 1 some failed (the reasons are on stderr),
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
    check_scoring(args)
    files, problems = images_of(args.paths, args.recursive)
    if not files:
        return 2
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"cannot write {args.output}: {reason(error)}") from error
    scorer = load_scorer(args)

    settings = scorer_settings(scorer, args)
    calibration = usable_calibration(scorer, **settings)

    from ..explanation import draw_explanation, explain

    if hasattr(scorer, "unet"):
        model, known = scorer, settings | {"seed": args.seed}
    else:
        model, known = scorer.model, {"image_processor": scorer.image_processor, "calibration": calibration}
    names: set[str] = set()
    done = 0
    for file in files:
        path = args.output / _free_name(f"{Path(file).stem}_explained.png", names)
        try:
            explanation = explain(model, file, **known)
            draw_explanation(explanation, _ascii(os.path.basename(file))).save(path)
        except (OSError, ValueError, RuntimeError) as error:
            say(f"{file}: {reason(error)}")
            continue
        done += 1
        print(printable(f"{path}  {explanation.score:.4f}"))
    if done == 0:
        return 2
    return 1 if problems or done < len(files) else 0


def _ascii(name: str) -> str:
    # Pillow's own font has no other letters: accents go, what is left becomes a question mark.
    name = unicodedata.normalize("NFKD", printable(name))
    return "".join(c for c in name if not unicodedata.combining(c)).encode("ascii", "replace").decode()
