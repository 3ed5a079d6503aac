# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Rows of scores in little memory: a million of them, which as dictionaries would take a gigabyte."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from ..images.reasons import MEASURES
from .score_files import SAME_SCORE, keys_with_tails
from .table_blocks import table_blocks
from .tables import TableError, as_number, as_text, column_of, names_of, numbers


_NO_MEASURES: Mapping[str, float] = MappingProxyType({})  # one for all rows without any


class PackedNames(Sequence[str]):
    """A list of strings, at the end of which others can be put, in one piece of memory."""

    def __init__(self, names: Iterable[str] = ()):
        self._bytes = bytearray()
        self._ends = array("Q")
        self.extend(names)

    def extend(self, names: Iterable[str]) -> None:
        for name in names:
            self._bytes += name.encode("utf-8", "surrogatepass")
            self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, at):
        if isinstance(at, slice):
            return [self[row] for row in range(*at.indices(len(self)))]
        at = range(len(self._ends))[at]
        start = self._ends[at - 1] if at else 0
        return self._bytes[start : self._ends[at]].decode("utf-8", "surrogatepass")


class _Codes:
    """A column of few different values, as numbers."""

    def __init__(self) -> None:
        self.codes = array("i")
        self._values: dict[Hashable, int] = {}
        self._listed: list[Any] = []

    def append(self, value: Hashable) -> None:
        code = self._values.setdefault(value, len(self._listed))
        if code == len(self._listed):
            self._listed.append(value)
        self.codes.append(code)

    def __getitem__(self, at: int) -> Any:
        return self._listed[self.codes[at]]


class Rows(Protocol):
    """Rows as dictionaries: a list of them, or [`ScoreRows`]."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[dict[str, Any]]: ...

    def __getitem__(self, at: int, /) -> dict[str, Any]: ...


class ScoreRows:
    """
    Rows as dictionaries, made when they are asked for, of

    - `file` and `face`; `score` (NaN where there is none) and `error`, why there is none; `percentile`, or `None`;
    - `group`, once [`group_by`] has said it;
    - `measures`, those of `MEASURES` that are known, in single precision; `num_faces` and `box`, or `None`.
    """

    def __init__(self) -> None:
        self.files = PackedNames()
        self._groups: Sequence[str | None] | None = None
        self._scores, self._percentiles = array("d"), array("d")
        self._faces, self._errors = _Codes(), _Codes()
        self._measures: dict[str, array] = {}
        self._boxes = array("f")
        self._kept: Sequence[int] | None = None

    def append(
        self,
        file: str,
        face: Hashable,
        score: float,
        error: str | None = None,
        percentile: float | None = None,
        measures: Mapping[str, float | None] | None = None,
        num_faces: int | None = None,
        box: Sequence[float] | None = None,
    ) -> None:
        """One row more."""
        self.files.extend((file,))
        self._faces.append(face)
        self._scores.append(score)
        self._errors.append(error)
        self._percentiles.append(math.nan if percentile is None else percentile)
        known = {name: value for name, value in (measures or {}).items() if value is not None}
        if num_faces is not None:
            known["faces"] = num_faces
        for name in known.keys() - self._measures.keys():
            self._measures[name] = array("f", [math.nan] * (len(self.files) - 1))
        for name, values in self._measures.items():
            values.append(known.get(name, math.nan))
        if box is not None:
            self._boxes.extend([math.nan] * (4 * (len(self.files) - 1) - len(self._boxes)))
            self._boxes.extend(map(float, box))

    def keep(self, positions: Sequence[int]) -> None:
        """Leaves out all rows but these."""
        self._kept = positions

    def group_by(self, labels: Sequence[str | None]) -> None:
        """Says the groups of all rows that were appended."""
        self._groups = labels

    def __len__(self) -> int:
        return len(self.files) if self._kept is None else len(self._kept)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[at] for at in range(len(self)))

    def __getitem__(self, at: int) -> dict[str, Any]:
        at = at if self._kept is None else int(self._kept[at])
        measures = {name: values[at] for name, values in self._measures.items() if not math.isnan(values[at])}
        box = self._boxes[4 * at : 4 * at + 4]
        percentile = self._percentiles[at]
        return {
            "file": self.files[at],
            "face": self._faces[at],
            "score": self._scores[at],
            "error": self._errors[at],
            "group": None if self._groups is None else self._groups[at],
            "percentile": None if math.isnan(percentile) else percentile,
            "measures": {name: value for name, value in measures.items() if name in MEASURES} or _NO_MEASURES,
            "num_faces": int(measures["faces"]) if "faces" in measures else None,
            "box": box if len(box) and not math.isnan(box[0]) else None,
        }

    def scores(self) -> Iterator[float | None]:
        """Of each row; `None` where there is an error."""
        kept = range(len(self.files)) if self._kept is None else self._kept
        return (None if self._errors[at] is not None else self._scores[at] for at in kept)

    def groups(self) -> Iterator[str | None]:
        """Of each row."""
        kept = range(len(self.files)) if self._kept is None else self._kept
        return (None if self._groups is None else self._groups[at] for at in kept)


def read_score_rows(
    paths: Sequence[str | os.PathLike],
    name_column: str = "file",
    score_column: str = "score",
    group_column: str | None = None,
    needed: Mapping[str, str] | None = None,
    hints: Sequence[str] = ("", ""),
) -> tuple[ScoreRows, list[str]]:
    """
    The rows of tables of scores. A face that is there twice, under one spelling of its file or two, in one table or
    in several, counts once: with its score, where another row has none.

    Args:
        group_column: Whose values say what belongs together.
        needed: Columns that must be there, with what the error says of it.
        hints: As of [`read_scores`].

    Returns:
        The rows, and what there is to say of those that were left out.

    Raises:
        TableError: One is no such table, or has no rows; a face has two scores.
    """
    rows, groups = ScoreRows(), _Codes()
    table_of, face_numbers = array("i"), array("d")
    for number, path in enumerate(paths):
        before = len(rows.files)
        for block in table_blocks(path):
            _take_block(rows, groups, face_numbers, block, str(path), len(rows.files) - before + 1,
                        name_column, score_column, group_column, needed or {}, hints)  # fmt: skip
        if len(rows.files) == before:
            raise TableError(f"{path}: has no rows")
        table_of.extend([number] * (len(rows.files) - before))
    if group_column is not None:
        rows.group_by(groups)  # type: ignore[arg-type]
    return rows, _leave_out_copies(rows, face_numbers, table_of, [str(path) for path in paths])


def _take_block(
    rows, groups, face_numbers, block, source, first_row, name_column, score_column, group_column, needed, hints
) -> None:
    names = names_of(column_of(block, name_column, source, hints[0]), f"{source}: column {name_column}", first_row)
    column = column_of(block, score_column, source, hints[1])
    scores = numbers(column, f"{source}: column {score_column}", first_row).tolist()
    for other, hint in needed.items():
        column_of(block, other, source, hint)
    labels = None if group_column is None else column_of(block, group_column, source)
    nothing = [None] * len(names)
    measured = {
        name: numbers(block[name], f"{source}: column {name}", first_row).tolist()
        for name in ("percentile", *MEASURES)
        if name in block
    }
    percentiles = measured.pop("percentile", nothing)
    for at, (name, score) in enumerate(zip(names, scores, strict=True)):
        face = as_text(block["face"][at]) if "face" in block else None
        error = as_text(block["error"][at]) if "error" in block else None
        error = error or ("no score" if math.isnan(score) else None)
        measures = {measure: values[at] for measure, values in measured.items()}
        rows.append(name, face, score, error, percentiles[at], measures)
        face_numbers.append(_number(face))
        if labels is not None:
            groups.append(as_text(labels[at]))


def _number(face: str | None) -> float:
    try:
        value = as_number(face)
    except ValueError:
        return 0.0
    return 0.0 if math.isnan(value) else value


def _leave_out_copies(rows: ScoreRows, faces: array, table_of: array, sources: Sequence[str]) -> list[str]:
    import numpy as np

    key_of = keys_with_tails(rows.files)
    hashed = np.fromiter((hash((key_of(at), faces[at])) for at in range(len(rows.files))), np.int64, len(rows.files))
    order = np.argsort(hashed, kind="stable")
    same = hashed[order][1:] == hashed[order][:-1]
    if not same.any():
        return []
    kept = np.ones(len(order), bool)
    first_of: dict[tuple[str, float], int] = {}
    again: dict[int, list[tuple[int, int]]] = {}
    repeated = np.unique(np.concatenate([order[1:][same], order[:-1][same]])).tolist()
    for at in repeated:
        key = key_of(at), faces[at]
        first = first_of.setdefault(key, at)
        if first == at:
            continue
        mine, others = rows[at], rows[first]
        if table_of[at] == table_of[first]:
            again.setdefault(table_of[at], []).append((at, first))
        # The last digits depend on the batch in which a face was scored.
        if mine["error"] is None and others["error"] is None:
            if not math.isclose(mine["score"], others["score"], rel_tol=SAME_SCORE):
                where = "there twice" if table_of[at] == table_of[first] else "in another table too"
                scores = f"{others['score']:g} and {mine['score']:g}"
                raise TableError(f"{sources[table_of[at]]}: {mine['file']} is {where}, with the scores {scores}")
        better = mine["error"] is None and others["error"] is not None
        kept[first if better else at] = False
        if better:
            first_of[key] = at
    notes = []
    for number, found in sorted(again.items()):
        at, first = found[0]
        name, other = rows.files[at], rows.files[first]
        spelled = f", such as {name}" + (f" ({other})" if other != name else "")
        count = f"{len(found):,} rows are" if len(found) > 1 else "1 row is"
        notes.append(f"{sources[number]}: {count} of files that are there already and count once{spelled}")
    rows.keep(np.flatnonzero(kept))
    return notes


__all__ = ["PackedNames", "Rows", "ScoreRows", "read_score_rows"]
