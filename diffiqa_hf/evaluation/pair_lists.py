# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Lists of comparisons as people have them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..scoring.tables import TableError, column_of, names_of, numbers, read_table, read_text
from .benchmarks.benchmark import BenchmarkError
from .benchmarks.pair_files import read_flat_pairs, read_lfw_pairs


@dataclass(frozen=True)
class NamedPairs:
    """
    Comparisons by the names of their images.

    Args:
        source (`str`): The file.
        first, second (`list[str]`): P names each.
        mated (`np.ndarray` of shape `(P,)`): bool.
        identities (`dict[str, str]`, *optional*): The person of each name, where names are a person and a number, as
            LFW's are.
        similarities (`np.ndarray` of shape `(P,)`, *optional*): float64, where the file has them.
    """

    source: str
    first: list[str]
    second: list[str]
    mated: np.ndarray
    identities: dict[str, str] | None = None
    similarities: np.ndarray | None = None


def read_pairs(
    path: str | os.PathLike,
    columns: Sequence[str] = ("file_a", "file_b", "mated"),
    similarity_column: str | None = None,
) -> NamedPairs:
    """
    A list of comparisons.

    Args:
        path: A table with `columns` (the last 1 or 0, true or false); or a text as LFW has it (`name i j` and
            `name i other j` below the number of pairs), as CALFW has it (two lines `file label` a pair), or with a
            line `file file 1` (mated) or `file file 0` (or -1) for each pair, with tabs, commas or spaces.
        columns: The names of the two images and whether both show one person.
        similarity_column: Of a table, the one with the similarities.

    Raises:
        TableError: It isn't there, or is none of these, or lacks a column.
    """
    path = Path(path)
    if path.suffix.lower() not in (".csv", ".tsv", ".jsonl", ".json", ".parquet"):
        if similarity_column is not None:
            raise TableError(f"{path}: has no columns, and so no similarities")
        return _read_text(path)
    table = read_table(path)
    source = str(path)
    first, second, flags = (column_of(table, name, source) for name in columns)
    if not first:
        raise TableError(f"{path}: has no pairs")
    first, second = (
        names_of(names, f"{path}: column {column}") for names, column in zip((first, second), columns, strict=False)
    )
    mated = np.array([_flag(value, f"{path}: pair {row}") for row, value in enumerate(flags, 1)], bool)
    similarities = None
    if similarity_column is not None:
        similarities = numbers(column_of(table, similarity_column, source), f"{path}: column {similarity_column}")
        if not np.isfinite(similarities).all():
            row = int(np.flatnonzero(~np.isfinite(similarities))[0]) + 1
            raise TableError(f"{path}: column {similarity_column}: pair {row} has no similarity, or an infinite one")
    return NamedPairs(source, first, second, mated, None, similarities)


def _read_text(path: Path) -> NamedPairs:
    lines = read_text(path).splitlines()
    if not any(line.strip() for line in lines):
        raise TableError(f"{path}: has no pairs")
    fields = _fields(next(line for line in lines if line.strip()))
    # `Bo 1 2` is of LFW's kind, below a line that this list has lost.
    if len(fields) == 3 and (not fields[1].isdecimal() or fields[0].isdecimal()):
        return _read_labelled(path, lines)
    head = lines[0].rsplit(maxsplit=1)
    flat = len(head) == 2 and head[1].isdecimal() and not head[0].isdecimal()
    try:
        pairs = (read_flat_pairs if flat else read_lfw_pairs)(lines, str(path))
    except BenchmarkError as error:
        raise TableError(str(error)) from error
    if not pairs.names:
        raise TableError(f"{path}: has no pairs")
    first, second = map(list, zip(*pairs.names, strict=True))
    people = None if flat else {name: name.rsplit("_", 1)[0] for name in (*first, *second)}
    return NamedPairs(str(path), first, second, pairs.mated, people)


def _read_labelled(path: Path, lines: Sequence[str]) -> NamedPairs:
    first, second, mated = [], [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        fields = _fields(line)
        if len(fields) != 3 or not fields[0] or not fields[1]:
            raise TableError(f"{path}: line {number}: not 'file file 1' or 'file file 0': {line.strip()[:80]!r}")
        first.append(fields[0])
        second.append(fields[1])
        mated.append(_flag("0" if fields[2] == "-1" else fields[2], f"{path}: line {number}"))
    return NamedPairs(str(path), first, second, np.array(mated, bool))


def _fields(line: str) -> list[str]:
    delimiter = next((d for d in "\t;," if line.count(d) == 2), None)
    return [field.strip() for field in (line.split() if delimiter is None else line.split(delimiter))]


def _flag(value: Any, source: str) -> bool:
    text = str(value).strip().lower()
    text = text.removesuffix(".0")
    if text in ("1", "true"):
        return True
    if text in ("0", "false"):
        return False
    raise TableError(f"{source}: mated is 1 or 0, true or false, not {value!r}")


__all__ = ["NamedPairs", "read_pairs"]
