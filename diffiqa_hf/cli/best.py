# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa best`: the best faces of each person or track."""

import argparse
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from ..image_files import find_images
from .errors import CommandError, printable, reason
from .scoring import (
    add_scoring_arguments,
    check_scoring,
    load_scorer,
    parse_grouping,
    positive,
    read_table,
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
    parser.add_argument("paths", nargs="*", metavar="FOLDER_OR_FILE", help="images, and folders with images")
    parser.add_argument(
        "--group-by",
        required=True,
        metavar="HOW",
        help="folder, regex:PATTERN (its first group, in the path), column:NAME (of the table of --scores), or a "
        "table with the columns file and identity",
    )
    parser.add_argument("--top", type=positive, default=1, metavar="K", help="how many of each group (1)")
    parser.add_argument(
        "--scores", type=Path, metavar="FILE", help="table with the columns file and score; no scoring"
    )
    parser.add_argument("--recursive", action="store_true", help="look into folders in a folder as well")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--list", action="store_true", help="list them (what is done without --copy-to and --link-to)")
    where.add_argument("--copy-to", type=Path, metavar="DIR", help="copy them into DIR/<group>/; DIR is new or empty")
    where.add_argument("--link-to", type=Path, metavar="DIR", help="the same with symbolic links")
    add_scoring_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Runs `diffiqa best`; returns its exit status."""
    check_scoring(args)
    column = args.group_by.removeprefix("column:") if args.group_by.startswith("column:") else None
    if column is not None and args.scores is None:
        raise CommandError("--group-by column:NAME goes with --scores")
    if bool(args.paths) == (args.scores is not None):
        raise CommandError("give images and folders, or --scores, one of the two")
    grouping = parse_grouping(args.group_by, "--group-by") if column is None else None
    folder = args.copy_to or args.link_to
    _check_folder(folder)
    failed = False
    if args.scores is not None:
        rows = _read_scores(args.scores, column)
    else:
        files, problems = find_images(args.paths, args.recursive or args.group_by == "folder")
        failed = bool(problems)
        for problem in problems:
            say(problem)
        if not files:
            return 2
        rows = [
            {"file": files[record.index], "score": record.score, "error": record.error}
            for record in stream_records(load_scorer(args), files, args)
        ]
    files = [row["file"] for row in rows]
    groups = grouping(files) if grouping is not None else [_text(row[column]) for row in rows]
    for row, group in zip(rows, groups, strict=True):
        if row["error"] is not None:
            say(f"{row['file']}: {row['error']}")
        elif group is None:
            say(f"{row['file']}: --group-by {args.group_by} gives it no group")
        failed = failed or row["error"] is not None or group is None

    from ..best_shot import best_of_groups

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


def _read_scores(path: Path, column: str | None) -> list[dict]:
    rows = read_table(path)
    if not rows:
        raise CommandError(f"{path} has no rows")
    for name in ("file", "score", *([] if column is None else [column])):
        if name not in rows[0]:
            raise CommandError(f"{path} has no column {name}; it has {', '.join(map(str, rows[0]))}")
    for row in rows:
        row["error"] = _text(row.get("error"))
        try:
            row["score"] = float(_text(row["score"]) or "nan")
        except ValueError:
            raise CommandError(f"{path}: {row['score']!r} is no score (of {row['file']})") from None
        if row["error"] is None and row["score"] != row["score"]:
            row["error"] = "no score"
    return rows


def _text(value: object) -> str | None:
    return None if value in (None, "") else str(value)


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
                place(file, inside / _free_name(os.path.basename(file), names))
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
