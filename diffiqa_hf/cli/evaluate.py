# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa evaluate`: how well scores tell which faces recognition fails on, for people who have their own scores."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .devices import placed
from .errors import CommandError, printable, reason
from .evaluate_options import add_arguments, check_usage, protocol_of
from .images import people_rule
from .scoring import be_quiet, say, set_alignment


if TYPE_CHECKING:
    import numpy as np


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
    add_arguments(parser)


@dataclass
class _Scores:
    names: list[str]
    source: str
    methods: "dict[str, np.ndarray]"  # (I,)
    errors: dict[str, list]  # why an image has no score, where the table says so
    first: dict[str, list]  # the columns of the first table
    rows: list[int]  # of the first table, of num_rows: what is there twice counts once
    num_rows: int


def run(args: argparse.Namespace) -> int:
    """Runs `diffiqa evaluate`; returns its exit status."""
    from ..scoring.tables import TableError

    check_usage(args)
    try:
        return _evaluate(args)
    except (TableError, ImportError) as error:
        raise CommandError(reason(error)) from error


def _evaluate(args: argparse.Namespace) -> int:
    import numpy as np

    from ..evaluation.comparison import evaluate_methods
    from ..evaluation.verification import repeated_pairs

    protocol = protocol_of(args)
    scores = _read_scores(args)
    labels = _identities(args, scores)
    pairs, mated, similarities, identities = _comparisons(args, scores, labels)
    groups = None
    if args.groups:
        from .evaluate_groups import groups_of

        named = labels if labels is not None else _names_in(identities)
        groups = groups_of(args.groups, scores.names, scores.first, named)
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
    compared = (
        None if groups is None else _compare_groups(args, scores, groups, identities, similarities, mated, pairs)
    )
    if args.output:
        _write(args, evaluation, compared)
    print(_summary(evaluation, len(used)))
    if compared is not None:
        from .evaluate_groups import group_lines

        print("\n".join(group_lines(compared, next(iter(evaluation.results.values())).fmr)))
    return 0


def _names_in(identities) -> list[str | None] | None:
    """People by name, where the list of pairs has names; people that it only lets be seen have numbers."""
    return [name or None for name in identities.tolist()] if identities.dtype.kind in "US" else None


def _compare_groups(args: argparse.Namespace, scores: _Scores, groups, identities, similarities, mated, pairs):
    from ..evaluation.groups import compare_groups

    try:
        return compare_groups(
            scores.methods,
            groups,
            identities,
            similarities,
            mated,
            pairs,
            protocol_of(args),
            percentile=args.low_percentile or 10,
            replicates=args.replicates or 1,
            seed=args.seed,
        )
    except ValueError as error:
        raise CommandError(f"--groups: {reason(error)}") from error


def _read_scores(args: argparse.Namespace) -> _Scores:
    import numpy as np

    from ..scoring.names import Names
    from ..scoring.score_files import read_scores

    several = len(args.score_columns) > 1
    scores: _Scores | None = None
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
    assert scores is not None  # --scores is required
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


def _comparisons(args: argparse.Namespace, scores: _Scores, labels: list[str | None] | None):
    """Pairs as rows of the scores, whether they are mated, similarities where the list has them, and people."""
    import numpy as np

    from ..evaluation.pair_lists import read_pairs
    from ..evaluation.pair_sampling import sample_pairs
    from ..scoring.names import Names

    if not args.pairs:
        assert labels is not None  # else check_usage has asked for pairs or people
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
    if args.distances and listed.similarities is not None:
        listed = replace(listed, similarities=-listed.similarities)
    # Names out of a person and a number are LFW's.
    numbered = listed.identities is not None
    both = Names(scores.names, scores.source).find([*listed.first, *listed.second], listed.source, numbered)
    pairs = both.reshape(2, -1).T.astype(np.int32)
    if len(same := np.flatnonzero(pairs[:, 0] == pairs[:, 1])):
        raise CommandError(f"{listed.source}: pair {same[0] + 1} compares {listed.first[same[0]]} with itself")
    _say_what_is_odd(pairs, listed, labels)
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


def _say_what_is_odd(pairs, listed, labels: list[str | None] | None) -> None:
    """Pairs that are listed twice, and those of which the people, where they are known, say the contrary."""
    import numpy as np

    _, first, count = np.unique(np.sort(pairs, axis=1), axis=0, return_index=True, return_counts=True)
    if (count > 1).any():
        row = first[count > 1][0]
        names = f"{listed.first[row]} and {listed.second[row]}"
        say(f"{listed.source}: {int((count - 1).sum()):,} pairs are there before and count again, such as {names}")
    if labels is None:
        return
    people = [(labels[a], labels[b]) for a, b in pairs.tolist()]
    wrong = [row for row, (a, b) in enumerate(people) if None not in (a, b) and (a == b) != bool(listed.mated[row])]
    if wrong:
        row, called = wrong[0], "mated" if listed.mated[wrong[0]] else "non-mated"
        own, other = people[row]
        are = f"both of {own}" if own == other else f"of {own} and {other}"
        say(
            f"{listed.source}: {len(wrong):,} of {len(pairs):,} pairs are not what their people say: "
            f"{listed.first[row]} and {listed.second[row]} are called {called}, and are {are}"
        )


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

    from ..evaluation.comparison import noted
    from ..evaluation.protocol import EDCWarning
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
    from ..evaluation.study.embedding import embed_images
    from ..image_processing_face import FaceImageProcessor
    from ..scoring.names import existing_file

    be_quiet()
    try:
        model = load_fr_model(args.fr_model).eval()
    except Exception as error:  # whatever the libraries raise for what is no FR model
        raise CommandError(f"cannot load the FR model {args.fr_model}: {reason(error)}") from error
    placed(model, args.device)
    paths = [existing_file(name if args.image_root is None else str(args.image_root / name)) for name in names]
    processor = FaceImageProcessor()
    set_alignment(processor, args, paths)
    embeddings, errors = embed_images(
        model,
        paths,
        image_processor=processor,
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
    from ..evaluation.comparison import TOO_FEW
    from ..evaluation.study.result_tables import references_in_words

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


def _write(args: argparse.Namespace, evaluation, compared) -> None:
    import json

    from ..evaluation.study.report import curves_csv, results_csv
    from ..file_utils import write_text
    from ..version import __version__

    settings = {
        "diffiqa_hf": __version__,
        "scores": args.scores,
        "pairs": args.pairs,
        "drawn": None if args.pairs else {"mated_per_person": args.mated_per_person, "nonmated": args.nonmated},
        "similarities": args.embeddings or args.fr_model or args.similarities or f"-{args.distances}",
        "seed": args.seed,
    }
    results = {**settings, **evaluation.to_dict()}
    if compared is not None:
        results["groups"] = {"how": args.groups, **compared.to_dict()}
    try:
        args.output.mkdir(parents=True, exist_ok=True)
        write_text(args.output / "results.json", json.dumps(results, indent=2, ensure_ascii=False) + "\n")
        write_text(args.output / "results.csv", results_csv([evaluation]))
        write_text(args.output / "edc.csv", curves_csv([evaluation]))
        if compared is not None:
            from .evaluate_groups import groups_csv

            write_text(args.output / "groups.csv", groups_csv(compared))
        if not args.no_plot:
            from ..evaluation.figures import save_figure
            from ..evaluation.plots import plot_edc

            save_figure(plot_edc([replace(evaluation, fr_model="")]), args.output / "edc")
    except OSError as error:
        raise CommandError(f"cannot write to {args.output}: {reason(error)}") from error
