# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa best`: the best faces of each person or track."""

import argparse
import math
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from ..scoring.names import existing_file
from ..scoring.people import HOW
from ..scoring.score_files import read_scores
from ..scoring.tables import TableError, as_text, column_of
from .errors import CommandError, printable, reason
from .scoring import (
    IMAGES_HELP,
    add_engine_argument,
    add_scoring_arguments,
    check_scoring,
    given_options,
    images_of,
    load_scorer,
    looks_into_folders,
    people_rule,
    positive,
    say,
    stream_records,
)


DESCRIPTION = """\
Picks the best faces of each group, such as a person or a track. Scores the images, or takes the scores of a table
that `diffiqa score` wrote. Lists what it picked, a line each: group, rank, score, file, with tabs between them; or
copies or links the files into a folder for each group. Exit status: 0 all scored, 1 some failed (the reasons are on
stderr), 2 nothing could be picked, 130 interrupted."""


def add_parser(commands: "argparse._SubParsersAction") -> None:
    """Adds `best` to the commands of `diffiqa`."""
    parser = commands.add_parser("best", help="pick the best faces of each person or track", description=DESCRIPTION)
    parser.set_defaults(run=run)
    parser.add_argument("paths", nargs="*", metavar="FOLDER_OR_FILE", help=IMAGES_HELP)
    parser.add_argument(
        "--group-by",
        required=True,
        metavar="HOW",
        help=f"{HOW}, or column:NAME of the table of --scores; folder: of each group, a line says which; regex: its "
        "first group, in the path; a table: with the columns file and identity",
    )
    parser.add_argument("--top", type=positive, default=1, metavar="K", help="how many of each group (1)")
    parser.add_argument(
        "--scores", type=Path, metavar="FILE", help="table (.csv, .txt, .jsonl, .parquet) of scores; no scoring"
    )
    parser.add_argument("--name-column", metavar="COLUMN", help="of --scores: names of the images (file)")
    parser.add_argument("--score-column", metavar="COLUMN", help="of --scores: higher is better (score)")
    parser.add_argument("--recursive", action="store_true", help="look into folders in a folder as well")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--list", action="store_true", help="list them (what is done without --copy-to and --link-to)")
    where.add_argument("--copy-to", type=Path, metavar="DIR", help="copy them into DIR/<group>/; DIR is new or empty")
    where.add_argument("--link-to", type=Path, metavar="DIR", help="the same with symbolic links")
    add_scoring_arguments(parser)
    add_engine_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Runs `diffiqa best`; returns its exit status."""
    check_scoring(args)
    column = args.group_by.removeprefix("column:") if args.group_by.startswith("column:") else None
    if column is not None and args.scores is None:
        raise CommandError("--group-by column:NAME goes with --scores")
    if bool(args.paths) == (args.scores is not None):
        raise CommandError("give images and folders, or --scores, one of the two")
    if args.scores is not None and (given := given_options(args, add_scoring_arguments)):
        raise CommandError(f"{given[0]} is for scoring images; the scores of --scores are there already")
    if args.scores is not None and args.recursive:
        raise CommandError("--recursive is for folders; --scores names its files")
    if args.scores is None and (args.name_column or args.score_column):
        raise CommandError("--name-column and --score-column go with --scores")
    rule = people_rule(args.group_by, "--group-by", args.paths, one_is_enough=True) if column is None else None
    folder = args.copy_to or args.link_to
    _check_folder(folder)
    failed = False
    if args.scores is not None:
        rows = _read_scores(args, column)
    else:
        files, problems = images_of(args.paths, args.recursive or looks_into_folders(args.group_by))
        failed = bool(problems)
        if not files:
            return 2
        # Before anything is computed: the folders may not say what belongs together.
        groups_of = dict(zip(files, rule(files).labels, strict=True))
        rows = [
            {
                "file": files[record.index],
                "score": record.score,
                "error": record.error,
                "group": groups_of[files[record.index]],
            }
            for record in stream_records(load_scorer(args), files, args)
        ]
    files = [row["file"] for row in rows]
    if args.scores is not None and rule is not None:
        for row, label in zip(rows, rule(files).labels, strict=True):
            row["group"] = label
    groups = [row["group"] for row in rows]
    for row, group in zip(rows, groups, strict=True):
        if row["error"] is not None:
            say(f"{row['file']}: {row['error']}")
        elif group is None:
            say(f"{row['file']}: --group-by {args.group_by} gives it no group")
        failed = failed or row["error"] is not None or group is None

    from ..labelling.best_shot import best_of_groups

    best = best_of_groups(groups, [None if row["error"] is not None else row["score"] for row in rows], args.top)
    for group, positions in best.items():
        if not positions:
            say(f"{group}: none of its faces could be scored")
    if not any(best.values()):
        return 2
    if folder is None:
        for group, positions in best.items():
            for rank, at in enumerate(positions, 1):
                print("\t".join((printable(group), str(rank), f"{rows[at]['score']:.4f}", printable(files[at]))))
        return 1 if failed else 0
    done, wanted = _place(folder, best, files, shutil.copy2 if args.copy_to else _link)
    verb = "copied" if args.copy_to else "linked"
    print(f"{done} files of {len(best)} groups {verb} to {printable(str(folder))}", file=sys.stderr)
    return 2 if done == 0 else int(failed or done < wanted)


def _check_folder(folder: Path | None) -> None:
    # Before anything is computed: the best faces of this run and those of another must not mix.
    try:
        if folder is not None and (folder.exists() or folder.is_symlink()) and any(folder.iterdir()):
            raise CommandError(f"{folder} is not empty: remove it first, or name another")
    except OSError as error:
        raise CommandError(f"cannot use the folder {folder}: {reason(error)}") from error


def _read_scores(args: argparse.Namespace, column: str | None) -> list[dict]:
    name, score = args.name_column or "file", args.score_column or "score"
    try:
        hints = (" (--name-column)", " (--score-column)")
        read = read_scores(args.scores, name, (score,), several_faces=True, hints=hints)
        groups = read.names if column is None else column_of(read.columns, column, read.source)
    except TableError as error:
        raise CommandError(str(error)) from error
    for note in read.notes:
        say(note)
    rows = []
    for file, value, error, group in zip(read.names, read.scores[score], read.errors, groups, strict=True):
        error = error or ("no score" if math.isnan(value) else None)
        rows.append({"file": file, "score": value, "error": error, "group": as_text(group)})
    return rows


def _place(
    folder: Path, best: dict[str, list[int]], files: list[str], place: Callable[[str, Path], object]
) -> tuple[int, int]:
    """Copies or links the files; how many that were and should have been."""
    done = wanted = 0
    taken: set[str] = set()
    for group, positions in best.items():
        if not positions:
            continue
        inside = folder / _free_name(_safe_name(group), taken)
        names: set[str] = set()
        # Several faces of one photograph are one file.
        for file in dict.fromkeys(files[at] for at in positions):
            wanted += 1
            try:
                inside.mkdir(parents=True, exist_ok=True)
                place(existing_file(file), inside / _free_name(os.path.basename(file), names))
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


def _free_name(name: str, taken: set[str]) -> str:
    stem, ending = os.path.splitext(name)
    free, count = name, 1
    # Folded: some file systems take A and a for one name.
    while free.casefold() in taken:
        count += 1
        free = f"{stem}_{count}{ending}"
    taken.add(free.casefold())
    return free
