# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa calibrate`: from a person's own faces, what a score means."""

import argparse
import math
import os
import sys
import warnings
from pathlib import Path

from ..scoring.people import HOW
from .errors import CommandError, printable, reason
from .images import add_image_arguments, images_of, looks_into_folders, people_rule, take_list
from .scoring import (
    add_engine_argument,
    add_scoring_arguments,
    be_quiet,
    check_alignment,
    is_pipeline,
    load_scorer,
    say,
    scorer_settings,
    stream_records,
)


MOST_ALIKE = 5  # pairs of names that have a line of their own
# The rule of 30 (Doddington et al., "The NIST speaker recognition evaluation", 2000): of 30 independent errors or more
# the rate is known to within 30 % with a confidence of 90 %.
ENOUGH_ERRORS = 30
DESCRIPTION = """\
Measures on your faces what a score means: scores alone give percentiles; with --identities the expected FNMR at an
FMR of 1e-3 as well, of pairs whose worse image is at or above a percentile. Prints the table, with the pairs that
each figure rests on, and writes the calibration, which, as calibration.json in the folder of a model, gives each of
its scores a percentile. A threshold does not carry from one camera to another: use faces like those that you will
score. Exit status: 0 all scored, 1 some failed (the reasons are on stderr), 2 no calibration, 130 interrupted."""


def add_parser(commands: "argparse._SubParsersAction") -> None:
    """Adds `calibrate` to the commands of `diffiqa`."""
    parser = commands.add_parser(
        "calibrate", help="measure on your own faces what a score means", description=DESCRIPTION
    )
    parser.set_defaults(run=run)
    add_image_arguments(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.json", help="the calibration to write")
    parser.add_argument(
        "--identities",
        metavar="HOW",
        help=f"who is who: {HOW}; folder: of each person, a line says which; regex: its first group, in the path; "
        "a table: with the columns file and identity",
    )
    parser.add_argument("--recursive", action="store_true", help="look into folders in a folder as well")
    parser.add_argument("--data", metavar="TEXT", help="what these faces are, kept in the file (the folders' names)")
    add_scoring_arguments(parser)
    add_engine_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Runs `diffiqa calibrate`; returns its exit status."""
    check_alignment(args)
    take_list(args)
    if args.output.exists():
        raise CommandError(f"{args.output} is there already: remove it first")
    if args.output.suffix != ".json":
        raise CommandError(f"--output {args.output}: the ending is .json")
    rule = people_rule(args.identities, "--identities", args.paths) if args.identities else None
    files, problems = images_of(args.paths, args.recursive or looks_into_folders(args.identities))
    if not files:
        return 2
    identities = None
    if rule is not None:
        identities = rule(files).labels
        for file, identity in zip(files, identities, strict=True):
            if identity is None:
                problems.append(f"{file}: --identities {args.identities} does not say who it is")
                say(f"{problems[-1]}; it counts for the percentiles alone")
    scorer = load_scorer(args, files)
    scores, failed = _score(scorer, files, args)
    if len(scores) < 2:
        raise CommandError(f"a calibration needs two faces or more, and {len(scores)} could be scored")
    calibration = _fit(scorer, files, scores, identities, args)
    try:
        calibration.save(args.output)
    except OSError as error:
        raise CommandError(f"cannot write {args.output}: {reason(error)}") from error
    print(table(calibration))
    if identities is not None:
        print(_whose(scorer, args))
        if calibration.levels:
            print(enough(calibration))
    print(f"{args.output}: percentiles of {calibration.num_faces:,} faces", file=sys.stderr)
    return 1 if problems or failed else 0


def table(calibration) -> str:
    """The calibration as text: every fifth percentile, its score and, where it was measured, the FNMR above it."""
    if not calibration.levels:
        rows: list[tuple[str, ...]] = [("percentile", "score")]
        rows += [(str(p), f"{score:.4f}") for p, score in enumerate(calibration.quantiles) if p % 5 == 0]
    else:
        rows = [("percentile", "score", "FNMR above", "mated pairs", "errors", "people")]
        for level in calibration.levels:
            fnmr = f"{level.fnmr:.4f}" if level.fnmr == level.fnmr else "too few"
            counts = (f"{level.pairs:,}", f"{level.errors:,}", f"{level.identities:,}")
            rows.append((f"{level.percentile:g}", f"{level.score:.4f}", fnmr, *counts))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    if calibration.levels:
        from ..calibration import MIN_IDENTITIES, MIN_PAIRS

        lines.append(
            f"FNMR at an FMR of {calibration.fmr:g} (similarity {calibration.threshold:.4f}, of "
            f"{calibration.num_nonmated:,} non-mated pairs); too few: under {MIN_PAIRS} mated pairs or "
            f"{MIN_IDENTITIES} people"
        )
    return "\n".join(lines)


def enough(calibration) -> str:
    """Whether threshold and FNMR rest on people enough, or about how many more it would take."""
    of_all = calibration.levels[0]
    people, errors = of_all.identities, of_all.errors
    accepted = math.floor(calibration.fmr * calibration.num_nonmated + 1e-9)
    rests = f"the threshold rests on {accepted:,} false matches and the FNMR of all pairs on {errors:,} errors"
    rule = f"{ENOUGH_ERRORS} of each tell a rate to within 30 %"
    if min(accepted, errors) >= ENOUGH_ERRORS:
        return f"{people:,} people with two photographs or more are enough: {rests}; {rule}"
    # Errors go with the number of people, non-mated pairs with its square.
    times = [math.sqrt(ENOUGH_ERRORS / max(accepted, 1))]
    if not errors:
        bound = f"without an error in {of_all.pairs:,} pairs it is below about {min(1.0, 3 / of_all.pairs):.2g}"
        if times[0] <= 1:
            return f"{rests}: {bound}"
        rests += f" ({bound})"
    else:
        times.append(ENOUGH_ERRORS / errors)
    more = math.ceil(people * (max(times) - 1))
    return f"take about {more:,} people more, with as many photographs each: {rests}, of {people:,} people; {rule}"


def _score(scorer, files: list[str], args: argparse.Namespace) -> tuple[dict[int, float], int]:
    """The scores by the position of the file, and how many files failed."""
    scores, failed = {}, 0
    for record in stream_records(scorer, files, args):
        if record.error is None:
            scores[record.index] = record.score
        else:
            failed += 1
            say(f"{files[record.index]}: {record.error}")
    return scores, failed


def _fit(scorer, files: list[str], scores: dict[int, float], identities: list[str | None] | None, args):
    from ..calibration import fit_calibration

    names = [os.path.basename(os.path.abspath(path)) for path in args.paths]
    data = args.data or ", ".join(printable(name) for name in names)
    settings = scorer.calibration_settings(**scorer_settings(scorer, args))
    if identities is not None and not is_pipeline(scorer):
        data += f"; FNMR of the FR model {args.fr_model or 'default'}"
    embeddings, people = None, None
    if identities is not None:
        embeddings = _embed(scorer, [files[index] for index in scores], args)
        people = [identities[index] for index in scores]
        _say_who_is_alike(embeddings, people, [files[index] for index in scores])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        calibration = fit_calibration(list(scores.values()), embeddings, people, settings=settings, data=data)
    for warning in caught:
        say(str(warning.message))
    if people is not None and not calibration.levels:
        needed = math.ceil((1 + math.sqrt(1 + 8 / calibration.fmr)) / 2)
        say(f"for an FNMR {needed:,} people or more with two photographs each do; there are {len(set(people)):,}")
    return calibration


def _whose(scorer, args: argparse.Namespace) -> str:
    """Whose scores and whose FNMR they are."""
    title = getattr(getattr(scorer, "card", None), "title", "DifFIQA")
    own = "the one in the pipeline" if is_pipeline(scorer) else "the small one of this package"
    fr_model = args.fr_model or own
    hint = (
        ""
        if args.fr_model
        else "; yours has another FNMR: --fr-model"
        + ("" if is_pipeline(scorer) else f" with --method {scorer.card.name}")
    )
    return f"scores of {title}; FNMR of the FR model {printable(fr_model)}{hint}"


def _say_who_is_alike(embeddings, people: list[str | None], files: list[str]) -> None:
    from ..evaluation.alike import alike_people

    alike = alike_people(embeddings, people)
    for pair in alike[:MOST_ALIKE]:
        first, second = pair.names
        where = " and ".join(files[at] for at in pair.images)
        say(f"{first} and {second} look like one person (similarity {pair.similarity:.3f}), such as in {where}")
    if alike:
        more = f"{len(alike):,} pairs of names look" if len(alike) > 1 else "1 pair of names looks"
        say(
            f"{more} like one person: if it is one, all comparisons between them count as false matches, and the "
            "threshold and the FNMR are too high; give a person one name"
        )


def _embed(scorer, files: list[str], args: argparse.Namespace):
    """Embeddings (N, D), float32; a row of zeros where there is none (the file has gone, or the embedding is NaN)."""
    import numpy as np
    import torch

    from ..conversion.networks import load_fr_model
    from ..image_processing_face import FaceImageProcessor
    from ..scoring.image_stream import stream_faces

    processor, fr_model = scorer.image_processor, None
    if not is_pipeline(scorer):
        # A quality model's own embedding is not for comparing faces.
        its = scorer.image_processor
        processor = FaceImageProcessor(do_align=its.do_align, detector=its.detector)
        be_quiet()
        try:
            fr_model = load_fr_model(args.fr_model or "default").eval().to(scorer.device)
        except Exception as error:  # whatever the libraries raise for what is none
            raise CommandError(f"cannot load the FR model {args.fr_model}: {reason(error)}") from error

    def embed(faces):
        return scorer.embed(faces) if fr_model is None else fr_model(faces).embeddings.float()

    rows: dict[int, np.ndarray] = {}
    for batch in stream_faces(files, None, processor, 32):
        batch = [(record, face) for record, face in batch if face is not None]
        if batch:
            with torch.no_grad():
                embeddings = embed(torch.from_numpy(np.stack([face for _, face in batch])).to(scorer.device)).cpu()
            rows |= {record.index: row for (record, _), row in zip(batch, embeddings.numpy(), strict=True)}
    size = len(next(iter(rows.values()))) if rows else 1
    empty = np.zeros(size, np.float32)
    return np.stack([np.nan_to_num(rows.get(i, empty), posinf=0, neginf=0) for i in range(len(files))])
