# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Scores out of a table, one for each face, however often and however spelled its file stands in it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .names import FileKeys
from .tables import TableError, as_number, as_text, column_of, names_of, numbers, read_table


SAME_SCORE = 1e-4  # relative difference up to which two scores of one face are one


@dataclass
class ScoreFile:
    """
    A table of scores, its rows each of a face of its own.

    Args:
        source (`str`): The file.
        names (`list[str]`): Of the images.
        scores (`dict[str, list[float]]`): By the names of their columns; NaN where there is none.
        errors (`list[str | None]`): Why a face has no score, where the table says so.
        columns (`dict[str, list]`): All columns, as they are in the file.
        rows (`list[int]`): Which rows of the file these are, in their order.
        num_rows (`int`): Of the file.
        notes (`list[str]`): What there is to say of rows that were left out.
    """

    source: str
    names: list[str]
    scores: dict[str, list[float]]
    errors: list[str | None]
    columns: dict[str, list]
    rows: list[int]
    num_rows: int
    notes: list[str]


def read_scores(
    path: str | os.PathLike,
    name_column: str = "file",
    score_columns: Sequence[str] = ("score",),
    several_faces: bool = False,
    hints: Sequence[str] = ("", ""),
) -> ScoreFile:
    """
    Reads a table of scores.

    A face that stands in it twice, under one spelling of its file or two, counts once: with its score, where another
    row has none.

    Args:
        path: As [`read_table`] takes it.
        several_faces: Rows of one file may differ in the column `face`; without it, an image has one score.
        hints: What the errors say where the column of names, or one of scores, isn't there.

    Raises:
        TableError: It is no such table, or a face has two scores.
    """
    source = str(path)
    table = read_table(path)
    names = names_of(column_of(table, name_column, source, hints[0]), f"{source}: column {name_column}")
    scores = {
        column: numbers(column_of(table, column, source, hints[1]), f"{source}: column {column}").tolist()
        for column in score_columns
    }
    if not names:
        raise TableError(f"{source}: has no rows")
    errors = [as_text(error) for error in table.get("error", [None] * len(names))]
    face_column = table.get("face", [None] * len(names))
    faces = [_number(face) for face in face_column] if several_faces or len(set(map(str, face_column))) > 1 else None
    one_of: dict[tuple[str, float], int] = {}
    again = []
    key_of = keys_with_tails(names)
    keys = [key_of(row) for row in range(len(names))]
    for row, key in enumerate(keys):
        face = 0.0 if faces is None else faces[row]
        first = one_of.setdefault((key, face), row)
        if first == row:
            continue
        again.append((row, first))
        mine, others = ([column[at] for column in scores.values()] for at in (row, first))
        for other, own in zip(others, mine, strict=True):
            # The last digits depend on the batch in which a face was scored.
            if not math.isnan(other) and not math.isnan(own) and not math.isclose(other, own, rel_tol=SAME_SCORE):
                raise TableError(f"{source}: {names[row]} is there twice, with the scores {other:g} and {own:g}")
        if sum(map(math.isnan, mine)) < sum(map(math.isnan, others)):
            one_of[key, face] = row
    rows = sorted(one_of.values())
    if not several_faces and faces is not None and len({keys[row] for row in rows}) < len(rows):
        several = next(names[row] for row in rows if faces[row])
        raise TableError(f"{source}: {several} has several faces, and there must be one score for each image")
    notes = []
    if again:
        row, first = again[0]
        spelled = f", such as {names[row]}" + (f" ({names[first]})" if names[first] != names[row] else "")
        count = f"{len(again):,} rows are" if len(again) > 1 else "1 row is"
        notes.append(f"{source}: {count} of files that are there already and count once{spelled}")
    return ScoreFile(
        source,
        [names[row] for row in rows],
        {column: [values[row] for row in rows] for column, values in scores.items()},
        [errors[row] for row in rows],
        {name: [values[row] for row in rows] for name, values in table.items()},
        rows,
        len(names),
        notes,
    )


def _number(face: object) -> float:
    try:
        value = as_number(face)
    except ValueError:
        return 0.0
    return 0.0 if math.isnan(value) else value


def keys_with_tails(names: Sequence[str]) -> Callable[[int], str]:
    """
    What the file of each row is called. A relative name in whose place nothing is, as the table was made in another
    folder, is the one absolute name that ends in it.
    """
    one = FileKeys()
    if len({os.path.isabs(name) for name in names}) < 2:
        return lambda row: one(names[row])
    ends: dict[str, set[str]] = {}
    relative = {name for name in names if not os.path.isabs(name) and not os.path.lexists(name)}
    wanted = {os.path.normpath(name): name for name in relative}
    for name in names:
        if os.path.isabs(name):
            parts = os.path.normpath(name).split(os.sep)
            for at in range(1, len(parts)):
                if (tail := os.sep.join(parts[at:])) in wanted:
                    ends.setdefault(wanted[tail], set()).add(one(name))
    meant = {name: next(iter(keys)) for name, keys in ends.items() if len(keys) == 1}
    return lambda row: meant.get(names[row]) or one(names[row])


__all__ = ["SAME_SCORE", "ScoreFile", "keys_with_tails", "read_scores"]
