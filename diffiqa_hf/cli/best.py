# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa best`: the best photographs of each person or track, and who must come again."""

import argparse
import math
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from ..file_utils import free_name, write_text
from ..scoring.names import existing_file
from ..scoring.people import HOW, People
from ..scoring.score_rows import ScoreRows, read_score_rows
from ..scoring.tables import TableError
from .decisions import Decision, Threshold, again_csv, chosen_csv, decide, summary
from .errors import CommandError, printable, reason
from .images import add_image_arguments, all_images_of, looks_into_folders, people_rule, several_faces, take_list
from .scoring import (
    add_calibration_argument,
    add_engine_argument,
    add_scoring_arguments,
    check_alignment,
    given_options,
    load_scorer,
    percentiles_of,
    positive,
    say,
    stream_records,
)
from .video import add_frame_arguments, best_of_videos, check_options, videos_of


DESCRIPTION = """\
Picks the best photographs of each group, such as a person or a track, and with --min-percentile or --min-score says
who has none that is good enough and must come again. Scores the images, or takes the scores of a table that `diffiqa
score` wrote. Lists what it picked, a line each: group, rank, score, file, with tabs between them; or copies or links
the files into a folder for each group. --again, --output and --report write the decisions. Of videos it picks the best
faces of each track (see `diffiqa tracks`), with their times and boxes. Exit status: 0 all scored, 1 some failed (the
reasons are on stderr), 2 nothing could be picked, 130 interrupted."""
EXAMPLES = """\
examples:
  diffiqa best people/ --group-by folder --copy-to best/
  diffiqa best people/ --group-by folder --min-percentile 2 --again again.csv --report best.html
  diffiqa best clip.mp4 --every 5 --copy-to best/ --output best.csv"""


def add_parser(commands: "argparse._SubParsersAction") -> None:
    """Adds `best` to the commands of `diffiqa`."""
    parser = commands.add_parser(
        "best",
        help="pick the best photographs of each person, and who must come again",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add_image_arguments(parser)
    parser.add_argument(
        "--group-by",
        metavar="HOW",
        help=f"{HOW}, or column:NAME of the table of --scores; folder: of each group, a line says which; regex: its "
        "first group, in the path; a table: with the columns file and identity; of videos: track, which need not be "
        "said",
    )
    parser.add_argument("--top", type=positive, default=1, metavar="K", help="how many of each group (1)")
    least = parser.add_mutually_exclusive_group()
    least.add_argument(
        "--min-percentile",
        type=float,
        metavar="P",
        help="pick only photographs at or above this percentile, from 0 to 100, of the calibration",
    )
    least.add_argument("--min-score", type=float, metavar="X", help="pick only photographs with this score or more")
    parser.add_argument(
        "--again",
        type=Path,
        metavar="FILE.csv",
        help="table to write of the groups without a photograph that is good enough: who must come again, and why",
    )
    parser.add_argument("--output", type=Path, metavar="FILE.csv", help="table to write of what was picked")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE.html",
        help="page to write, one file that needs nothing else: who must come again first, with the reasons, then the "
        "picked photographs, and what was left out",
    )
    parser.add_argument(
        "--scores",
        type=Path,
        action="append",
        metavar="FILE",
        help="table (.csv, .txt, .jsonl, .parquet) of scores; no scoring; can be repeated, for tables of shards",
    )
    parser.add_argument("--name-column", metavar="COLUMN", help="of --scores: names of the images (file)")
    parser.add_argument("--score-column", metavar="COLUMN", help="of --scores: higher is better (score)")
    parser.add_argument("--recursive", action="store_true", help="look into folders in a folder as well")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--list", action="store_true", help="list them (what is done without --copy-to and --link-to)")
    where.add_argument("--copy-to", type=Path, metavar="DIR", help="copy them into DIR/<group>/; DIR is new or empty")
    where.add_argument("--link-to", type=Path, metavar="DIR", help="the same with symbolic links")
    add_frame_arguments(parser, "of videos: ")
    _add_scoring(parser)


def _add_scoring(parser: argparse.ArgumentParser) -> None:
    add_scoring_arguments(parser)
    add_calibration_argument(parser)
    add_engine_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Runs `diffiqa best`; returns its exit status."""
    column, videos = _check_usage(args)
    if videos:
        _check_folder(args.copy_to)
        return best_of_videos(args, videos, _threshold(args), args.copy_to)
    rule = people_rule(args.group_by, "--group-by", args.paths, one_is_enough=True) if column is None else None
    folder = args.copy_to or args.link_to
    _check_folder(folder)
    threshold = _threshold(args)
    if args.scores is not None:
        rows, facts = _read_scores(args, column)
        if rule is not None:
            rows.group_by(rule(rows.files).labels)
        left_out, empty, failed = [], [], False
    else:
        assert rule is not None  # a column goes with --scores
        found = all_images_of(args.paths, args.recursive or looks_into_folders(args.group_by))
        if not found.files:
            return 2
        # Before anything is computed: the folders may not say what belongs together.
        groups = rule(found.files).labels
        empty = _people_without(found.empty, found.files, groups, rule)
        left_out, failed = [*found.problems, *found.notes], bool(found.problems)
        rows, facts = _score(args, found.files, groups)
    failed = _say_what_is_wrong(rows, args) or failed

    from ..labelling.best_shot import best_of_groups

    best = best_of_groups(rows.groups(), rows.scores(), args.top)
    best |= {person: [] for person in empty}
    decisions = decide(rows, best, args.top, threshold)
    for decision in decisions:
        if not decision.usable:
            say(f"{decision.person}: {'none of its faces could be scored' if decision.failed else 'no images'}")
    _write(args, decisions, rows, threshold, facts, left_out)
    if threshold.name is not None:
        say(summary(decisions, threshold))
    if not any(best.values()):
        return 2
    if folder is None:
        for decision in decisions:
            for rank, row in enumerate(decision.chosen, 1):
                line = (printable(decision.person), str(rank), f"{row['score']:.4f}", printable(row["file"]))
                print("\t".join(line))
        return int(failed)
    chosen = {decision.person: [row["file"] for row in decision.chosen] for decision in decisions}
    done, wanted = _place(folder, chosen, shutil.copy2 if args.copy_to else _link)
    verb = "copied" if args.copy_to else "linked"
    print(f"{done} files of {len(best)} groups {verb} to {printable(str(folder))}", file=sys.stderr)
    return 2 if done == 0 < wanted else int(failed or done < wanted)


def _check_usage(args: argparse.Namespace) -> tuple[str | None, list[str]]:
    """All that can be known before anything is loaded; the column of `--group-by column:NAME`, and the videos."""
    check_alignment(args)
    take_list(args, others=True)
    videos = videos_of(args.paths)
    check_options(args, videos, ("again", "report", "link_to", "recursive", "scores"))
    if args.group_by is None and not videos:
        args.usage_error("the following arguments are required: --group-by")
    args.group_by = args.group_by or "track"
    column = args.group_by.removeprefix("column:") if args.group_by.startswith("column:") else None
    if column is not None and args.scores is None:
        raise CommandError("--group-by column:NAME goes with --scores")
    if bool(args.paths) == (args.scores is not None):
        raise CommandError("give images and folders, or --scores, one of the two")
    if args.scores is not None and (given := given_options(args, _add_scoring)):
        raise CommandError(f"{given[0]} is for scoring images; the scores of --scores are there already")
    if args.scores is not None and args.recursive:
        raise CommandError("--recursive is for folders; --scores names its files")
    if args.scores is None and (args.name_column or args.score_column):
        raise CommandError("--name-column and --score-column go with --scores")
    for option, path, endings in (
        ("--again", args.again, (".csv",)),
        ("--output", args.output, (".csv",)),
        ("--report", args.report, (".html", ".htm")),
    ):
        if path is not None and path.suffix.lower() not in endings:
            raise CommandError(f"{option} {path}: the ending is {endings[0]}")
    return column, videos


def _threshold(args: argparse.Namespace) -> Threshold:
    if args.min_percentile is not None:
        if not 0 <= args.min_percentile <= 100:
            raise CommandError(f"--min-percentile {args.min_percentile:g}: a percentile lies between 0 and 100")
        return Threshold("percentile", args.min_percentile)
    if args.min_score is not None:
        if math.isnan(args.min_score):
            raise CommandError("--min-score is not a number")
        return Threshold("score", args.min_score)
    return Threshold()


def _people_without(
    folders: list[str], files: list[str], groups: list[str | None], rule: Callable[..., People]
) -> list[str]:
    """The people of folders without images, where they change nothing about whose the images are."""
    if not folders:
        return []
    try:
        labels = rule([*files, *(os.path.join(folder, "none.jpg") for folder in folders)], said=False).labels
    except CommandError:
        return []
    if labels[: len(files)] != groups:
        return []
    return [name for name in dict.fromkeys(labels[len(files) :]) if name is not None and name not in set(groups)]


def _score(args: argparse.Namespace, files: list[str], groups: list[str | None]) -> tuple[ScoreRows, dict[str, str]]:
    """The rows of the files, and what scored them."""
    scorer = load_scorer(args, files)
    calibration = percentiles_of(scorer, args, "--min-percentile" if args.min_percentile is not None else None)
    scorer.image_processor.measuring = bool(args.again or args.output or args.report)
    rows = ScoreRows()
    labels = []
    for record in stream_records(scorer, files, args):
        percentile = None
        if calibration is not None and record.error is None:
            percentile = float(calibration.percentiles(record.score))
        number = record.index
        rows.append(files[number], record.face, record.score, record.error, percentile, record.measures,
                    record.num_faces, record.box)  # fmt: skip
        labels.append(groups[number])
    rows.group_by(labels)
    facts = {
        "method": getattr(getattr(scorer, "card", None), "title", "DifFIQA"),
        "model": args.model or "of the package",
        "percentiles": "" if calibration is None else f"of {calibration.num_faces:,} faces: {calibration.data}",
    }
    return rows, facts


def _say_what_is_wrong(rows: ScoreRows, args: argparse.Namespace) -> bool:
    failed, several, first = False, 0, None
    for row in rows:
        if row["error"] is not None:
            say(f"{row['file']}: {row['error']}")
        elif row["group"] is None:
            say(f"{row['file']}: --group-by {args.group_by} gives it no group")
        failed = failed or row["error"] is not None or row["group"] is None
        if (row["num_faces"] or 0) > 1:
            several, first = several + 1, first or row
    if first is not None:
        say(several_faces(several, first["file"], first["num_faces"]))
    return failed


def _write(
    args: argparse.Namespace,
    decisions: list[Decision],
    rows: ScoreRows,
    threshold: Threshold,
    facts: dict[str, str],
    left_out: list[str],
) -> None:
    pages = []
    if args.again:
        pages.append((args.again, again_csv(decisions, threshold)))
    if args.output:
        pages.append((args.output, chosen_csv(decisions)))
    if args.report:
        from .best_report import report_page

        facts = {"threshold": "" if threshold.name is None else str(threshold), **facts, "groups": args.group_by}
        pages.append((args.report, report_page(decisions, rows, threshold, facts, left_out)))
    for path, text in pages:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        except OSError as error:
            raise CommandError(f"cannot write {path}: {reason(error)}") from error


def _check_folder(folder: Path | None) -> None:
    # Before anything is computed: the best faces of this run and those of another must not mix.
    try:
        if folder is not None and (folder.exists() or folder.is_symlink()) and any(folder.iterdir()):
            raise CommandError(f"{folder} is not empty: remove it first, or name another")
    except OSError as error:
        raise CommandError(f"cannot use the folder {folder}: {reason(error)}") from error


def _read_scores(args: argparse.Namespace, column: str | None) -> tuple[ScoreRows, dict[str, str]]:
    """The rows of all tables; one of a face that is there already counts once."""
    needed = {} if args.min_percentile is None else {"percentile": " (--min-percentile)"}
    try:
        rows, notes = read_score_rows(
            args.scores,
            args.name_column or "file",
            args.score_column or "score",
            column,
            needed,
            (" (--name-column)", " (--score-column)"),
        )
    except TableError as error:
        raise CommandError(str(error)) from error
    for note in notes:
        say(note)
    return rows, {"scores": ", ".join(map(str, args.scores))}


def _place(folder: Path, chosen: dict[str, list[str]], place: Callable[[str, Path], object]) -> tuple[int, int]:
    """Copies or links the files of each group; how many that were and should have been."""
    done = wanted = 0
    taken: set[str] = set()
    for group, files in chosen.items():
        if not files:
            continue
        inside = folder / free_name(taken, *os.path.splitext(_safe_name(group)))
        names: set[str] = set()
        # Several faces of one photograph are one file.
        for file in dict.fromkeys(files):
            wanted += 1
            try:
                inside.mkdir(parents=True, exist_ok=True)
                place(existing_file(file), inside / free_name(names, *os.path.splitext(os.path.basename(file))))
                done += 1
            except OSError as error:
                say(f"{file}: {reason(error)}")
    return done, wanted


def _link(file: str, link: Path) -> None:
    os.stat(file)  # a link to what is not there is no best face
    os.symlink(os.path.abspath(file), link)


def _safe_name(group: str) -> str:
    # Whatever a column or a pattern gives, the folder lies in the one that was named.
    name = re.sub(r"[/\\\0]", "_", group)[:200]
    return "_" if name.strip(". ") == "" else name
