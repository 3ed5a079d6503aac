# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa evaluate --groups`: who is in which group, and the figures of the groups as text."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..scoring.names import Names, one_form, row_name
from ..scoring.tables import TableError, as_text, column_of, names_of, read_table
from .errors import CommandError, printable
from .scoring import say


if TYPE_CHECKING:
    from ..evaluation.bootstrap import Interval
    from ..evaluation.groups import GroupComparison


COLUMNS: tuple[str, ...] = ("group", "method", "people", "images", "median", "median_low", "median_high")
COLUMNS += ("below", "below_low", "below_high", "mated", "errors", "failing_people", "fnmr", "fnmr_low", "fnmr_high")
COLUMNS += ("nonmated", "false_matches", "fmr")


def groups_of(
    how: str, names: Sequence[str], columns: dict[str, list], people: Sequence[str | None] | None
) -> list[str | None]:
    """
    The group of each image, `None` where nothing says it.

    Args:
        how: `column:NAME`, or a table with the columns `group` and `file` or `identity`.
        names: Of the images.
        columns: Of the table that they are from.
        people: Whose they are, where that is known by name.

    Raises:
        CommandError, TableError: It can't be known, or two lines contradict each other.
    """
    if how.startswith("column:"):
        name = how.removeprefix("column:")
        labels = [as_text(value) for value in column_of(columns, name, "--scores", " (--groups)")]
    else:
        labels = _by_table(how, names, people)
    known = sum(label is not None for label in labels)
    if not known:
        raise CommandError(f"--groups {how}: none of {len(labels):,} images has a group")
    if known < len(labels):
        first = names[labels.index(None)]
        say(f"--groups {how}: {len(labels) - known:,} of {len(labels):,} images have no group, such as {first}")
    return labels


def _by_table(path: str, names: Sequence[str], people: Sequence[str | None] | None) -> list[str | None]:
    table = read_table(path)
    groups = [as_text(value) for value in column_of(table, "group", path)]
    if "file" in table:
        files = names_of(table["file"], f"{path}: column file")
        keys = Names([], path).keys
        rows = _once([keys(file) for file in files], files, groups, path)
        found = Names([files[row] for row in rows], path).lookup(map(row_name, names), "--groups")
        return [None if at < 0 else groups[rows[at]] for at in found.tolist()]
    if "identity" not in table:
        raise TableError(f"{path}: neither a column 'file' nor 'identity'; it has {', '.join(table)}")
    if people is None:
        raise CommandError(f"--groups {path} is by identity: --identities or --identity-column says whose images are")
    own = [as_text(value) or "" for value in table["identity"]]
    group_of = {one_form(own[row]): groups[row] for row in _once([one_form(name) for name in own], own, groups, path)}
    return [None if person is None else group_of.get(one_form(person)) for person in people]


def _once(keys: Sequence[str], names: Sequence[str], groups: Sequence[str | None], path: str) -> list[int]:
    """The rows that count: the first of each key. Raises [`TableError`] where another one says another group."""
    rows: dict[str, int] = {}
    for row, key in enumerate(keys):
        first = rows.setdefault(key, row)
        if groups[first] != groups[row]:
            raise TableError(f"{path}: {names[row]} is there twice, in {groups[first]} and in {groups[row]}")
    return list(rows.values())


def group_lines(found: GroupComparison, fmr: float) -> list[str]:
    """What is printed."""
    several = len(found.thresholds) > 1
    head = ["group", "people", "images", *(["method"] if several else []), "median", "95% interval", "low", ""]
    rows = [head]
    for entry in found.groups:
        for method, median in entry.medians.items():
            counts = [printable(entry.group), f"{entry.people:,}", f"{entry.images:,}"]
            low = entry.below[method]
            cells = [f"{median.estimate:.4f}", _span(median), f"{low.estimate:.3f}", _span(low, 3)]
            rows.append([*counts, *([printable(method)] if several else []), *cells])
    lines = ["", *_table(rows)]
    limits = ", ".join(f"{printable(name)} {limit:.4f}" for name, limit in found.thresholds.items())
    lines += [f"low: below percentile {found.percentile:g} of all images with a group ({limits})", ""]
    rows = [["group", "mated", "errors", "of people", "FNMR", "95% interval", "non-mated", "false matches", "FMR"]]
    for entry in found.groups:
        counts = [f"{count:,}" for count in (entry.mated, entry.errors, entry.failing)]
        fnmr = [f"{entry.fnmr.estimate:.4f}", _span(entry.fnmr)] if entry.mated else ["-", "-"]
        others = [f"{entry.nonmated:,}", f"{entry.false_matches:,}", f"{entry.fmr:.2g}" if entry.nonmated else "-"]
        rows.append([printable(entry.group), *counts, *fnmr, *others])
    lines += _table(rows)
    lines.append(f"at the similarity {found.similarity:.4f} (FMR {fmr:.3g} of all pairs); pairs within a group")
    if found.between:
        lines.append(f"{found.between:,} mated pairs join two groups, or images without one, and count in none")
    lines += ["", "differences of groups, with 95% intervals that hold for all of scores, and all of errors, at once:"]
    for each in found.differences:
        said = "differ" if each.told_apart else "cannot be told apart" if each.enough else "too few errors"
        figure = {"median": "median", "below": "low scores", "fnmr": "FNMR"}[each.figure]
        whose = f" of {each.method}" if each.method and several else ""
        text = f"{figure}{whose}, {each.first} - {each.second}: {each.interval.estimate:+.4f}"
        lines.append(printable(f"{text} {_span(each.interval, sign='+')}, {said}"))
    return lines


def _span(interval: Interval, digits: int = 4, sign: str = "") -> str:
    if interval.low != interval.low:
        return "-"
    return f"[{interval.low:{sign}.{digits}f}, {interval.high:{sign}.{digits}f}]"


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    aligned = (
        [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        for row in rows
    )
    return ["  ".join(cells).rstrip() for cells in aligned]


def groups_csv(found: GroupComparison) -> str:
    """One line for each group and method."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in found.groups:
        for method in entry.medians:
            row = [entry.group, method, entry.people, entry.images]
            for interval in (entry.medians[method], entry.below[method]):
                row += [interval.estimate, interval.low, interval.high]
            row += [entry.mated, entry.errors, entry.failing, entry.fnmr.estimate, entry.fnmr.low, entry.fnmr.high]
            writer.writerow([*row, entry.nonmated, entry.false_matches, entry.fmr])
    return text.getvalue()


__all__ = ["group_lines", "groups_csv", "groups_of"]
