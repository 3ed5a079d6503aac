# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa data`: which benchmarks there are, what to put where, and whether it is all there."""

import argparse
import shutil
import sys
import textwrap
import warnings
from pathlib import Path

from .errors import CommandError, printable


DESCRIPTION = """\
Lists the benchmarks that can be read; with a NAME says where a person gets it, under which terms, and what to put
where; with a ROOT as well checks what is there: images, people, mated and non-mated pairs against Table 1 of the
paper. Nothing is downloaded, unpacked or written. Exit status: 0 all there, 1 something is missing, broken or counts
otherwise (each is named), 2 there is nothing to check or bad usage, 130 interrupted."""

EPILOG = """\
examples:
  diffiqa data                               the benchmarks
  diffiqa data lfw                           what LFW is, where to get it, the folder that is expected
  diffiqa data lfw ~/lfw                     is View 2 complete?
  diffiqa data lfw ~/lfw --view view1        is the test part of View 1?
  diffiqa data cfp-fp ~/faces_emore          insightface's cfp_fp.bin
  diffiqa data xqlfw xqlfw_aligned_112.zip   an archive; the pairs are looked for beside it"""

SHOWN = 20  # missing files that are named; the rest are counted


def add_parser(commands: "argparse._SubParsersAction") -> None:
    """Adds `data` to the commands of `diffiqa`."""
    parser = commands.add_parser(
        "data",
        help="list the benchmarks, say what to put where, check a folder",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("name", nargs="?", metavar="NAME", help="the benchmark: lfw, xqlfw, cfp-fp, ...")
    parser.add_argument(
        "root", nargs="?", metavar="ROOT", help="the folder, archive, .bin or .parquet that is checked"
    )
    parser.add_argument("--view", help="of LFW: view2 (default), view1 or view1-train")
    parser.add_argument("--pairs-file", metavar="FILE", help="the list of pairs, where it isn't in ROOT")
    parser.add_argument(
        "--images", choices=("original", "aligned"), help="which images, where CALFW, CPLFW or Adience have both"
    )
    parser.add_argument("--seed", type=int, help="of Adience's comparisons, which are drawn (default: 0)")
    parser.add_argument("--decode", action="store_true", help="read every image as well, and name those that fail")


def run(args: argparse.Namespace) -> int:
    """Runs `diffiqa data`; returns its exit status."""
    from ..evaluation.benchmarks import BENCHMARKS, get_benchmark_card

    options = {name: getattr(args, name) for name in ("view", "pairs_file", "images", "seed")}
    options = {name: value for name, value in options.items() if value is not None}
    if args.root is None and (options or args.decode):
        raise CommandError("there is no ROOT to check")
    if args.name is None:
        print(_table(BENCHMARKS))
        return 0
    try:
        card = get_benchmark_card(args.name)
    except ValueError as error:
        raise CommandError(str(error)) from error
    if args.root is None:
        # Wrapped for a person's terminal; where there is none, and the width is a guess, the lines are of 100 columns.
        print(_text(card, shutil.get_terminal_size((100, 24)).columns))
        return 0
    return _check(card, args.root, options, args.decode)


def _table(cards) -> str:
    rows = [("benchmark", "images", "people", "mated", "non-mated", "read from", "what makes it hard")]
    for card in cards:
        counts = card.counts
        images = f"{counts.templates:,} templates" if counts.templates else _number(counts.images)
        files = "files" if len(card.layouts) > 1 or not card.bin_file else None
        kinds = " or ".join(kind for kind in (files, card.bin_file) if kind)
        pairs = (_number(counts.mated), _number(counts.nonmated))
        rows.append((card.name, images, _number(counts.people), *pairs, kinds, card.challenge))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)] + [0]
    right = (1, 2, 3, 4)
    lines = [
        "  ".join(
            f"{cell:>{width}}" if i in right else f"{cell:<{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines += ["", "diffiqa data NAME says where to get one and what to put where; nothing is ever downloaded."]
    return "\n".join(lines)


def _text(card, columns: int = 100) -> str:
    """A card as text of two columns; the trees of files keep their lines."""
    rows = [("name", card.name), ("title", card.title), ("paper", card.paper), ("faces", card.challenge)]
    for view, counts in card.views.items() or [("", card.counts)]:
        known = [f"{value:,} {label}" for label, value in _labelled(counts) if value is not None]
        rows.append((view or "counts", ", ".join(known)))
    rows += [("where", source) for source in card.sources]
    rows += [("terms", card.terms), ("pairs", card.protocol), ("alignment", card.alignment)]
    rows += [("note", note) for note in card.notes]
    if card.options:
        rows.append(("options", ", ".join(card.options)))
    width = max(len(heading) for heading, _ in rows) + 2
    lines, last = [], None
    for heading, value in rows:
        wrapped = textwrap.wrap(value, max(columns - width, 30), break_long_words=False, break_on_hyphens=False)
        label = heading if heading != last else ""
        lines += [f"{label if i == 0 else '':<{width}}{line}" for i, line in enumerate(wrapped)]
        last = heading
    for heading, tree in card.layouts:
        lines += ["", f"{heading}:", *(f"  {line}" for line in tree.splitlines())]
    lines += ["", f"diffiqa data {card.name} ROOT checks it."]
    return "\n".join(lines)


def _check(card, root: str, options: dict, decode: bool) -> int:
    from ..evaluation.benchmarks import BenchmarkError, BenchmarkWarning, load_benchmark

    if not Path(root).exists():
        raise CommandError(f"{root}: no such file or folder")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BenchmarkWarning)  # the counts are compared below
            benchmark = load_benchmark(card.name, root, **options)
    except BenchmarkError as error:
        _say(str(error))
        for name in error.missing[:SHOWN]:
            print(printable(f"missing: {name}"))
        if len(error.missing) > SHOWN:
            print(f"missing: and {len(error.missing) - SHOWN:,} more")
        return 1
    except (TypeError, ValueError, ImportError) as error:
        raise CommandError(str(error)) from error
    print(printable(benchmark.protocol))
    print(printable(f"read from {benchmark.source}"))
    print(f"{'':<16}{'found':>12}{'expected':>12}")
    expected = dict(_labelled(benchmark.expected))
    for label, found in _labelled(benchmark.counts):
        if found is not None or expected[label] is not None:
            print(f"{label:<16}{_number(found):>12}{_number(expected[label]):>12}")
    if benchmark.folds is not None:
        print(f"{'folds':<16}{len(set(benchmark.folds.tolist())):>12}")
    differences = benchmark.counts.differences(benchmark.expected)
    for difference in differences:
        _say(f"{root}: {difference}")
    failed = _unreadable(benchmark) if decode else []
    for name, reason in failed:
        _say(f"{name}: {reason}")
    if differences or failed:
        return 1
    print(f"all there. {card.alignment}")
    return 0


def _unreadable(benchmark) -> list[tuple[str, str]]:
    import datasets
    from tqdm.auto import tqdm

    from ..image_processing_face import FaceImageError, load_image

    images = benchmark.images.cast_column("image", datasets.Image(decode=False))
    failed = []
    for row in tqdm(images, unit="image", disable=None, leave=False):
        try:
            load_image(row["image"])
        except FaceImageError as error:
            failed.append((row["file"], str(error)))
    return failed


def _labelled(counts) -> list[tuple[str, int | None]]:
    from ..evaluation.benchmarks.benchmark import LABELS

    return [(label, getattr(counts, name)) for name, label in LABELS.items()]


def _number(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _say(line: str) -> None:
    print(f"diffiqa: {printable(line)}", file=sys.stderr)
