# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Tables of scores and lists of pairs as people have them, and whole files or none."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from .benchmarks.benchmark import BenchmarkError
from .benchmarks.pair_files import read_flat_pairs, read_lfw_pairs


class TableError(ValueError):
    """A file is not what it should be; the message is the reason in one line, with the file."""


def read_table(path: str | os.PathLike) -> dict[str, list]:
    """
    The columns of a table by their names.

    Args:
        path: `.csv` (with a line of names; values are strings), `.jsonl` (an object a line), `.parquet`, or `.txt` as
            many quality methods write it: lines of a file and its score, the columns `file` and `score`.

    Raises:
        TableError: It isn't there, or not such a table.
        ImportError: A `.parquet` without pyarrow.
    """
    path = Path(path)
    try:
        if path.suffix == ".parquet":
            return _read_parquet(path)
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".jsonl":
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
            if not all(isinstance(row, dict) for row in rows):
                raise TableError(f"{path}: not one JSON object a line")
            names = dict.fromkeys(name for row in rows for name in row)
            return {name: [row.get(name) for row in rows] for name in names}
        if path.suffix == ".txt":
            return _read_lines(path, text)
        if path.suffix != ".csv":
            raise TableError(f"{path}: a table ends in .csv, .jsonl, .parquet or .txt")
        reader = csv.reader(io.StringIO(text, newline=""))
        names = next(reader, [])
        rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise TableError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if len(set(names)) < len(names):
        raise TableError(f"{path}: two columns have one name")
    for line, row in rows:
        if len(row) != len(names):
            raise TableError(f"{path}: line {line}: {len(row)} values for {len(names)} columns")
    return {name: [row[at] for _, row in rows] for at, name in enumerate(names)}


def _read_lines(path: Path, text: str) -> dict[str, list]:
    table: dict[str, list] = {"file": [], "score": []}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        # The score is last, for a path may have spaces.
        file, *score = line.strip().rsplit(maxsplit=1)
        if not score:
            raise TableError(f"{path}: line {number}: a file and its score are needed, not {line.strip()!r}")
        table["file"].append(file)
        table["score"].append(score[0])
    return table


def _read_parquet(path: Path) -> dict[str, list]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("Parquet is read with pyarrow: pip install 'diffiqa-hf[parquet]'") from error
    try:
        return pyarrow.parquet.read_table(path).to_pydict()
    except pyarrow.ArrowInvalid as error:
        raise TableError(f"{path}: {str(error).splitlines()[0]}") from error


def as_number(value: Any) -> float:
    """A number out of a table; NaN for one that is missing (`None`, an empty string).

    Raises:
        ValueError: It is none.
    """
    return math.nan if value is None or value == "" else float(value)


class Names:
    """
    Finds rows by the names of their images, however much of the path and whichever ending both sides write.

    `Bo/Bo_0001.jpg` is found as such, and, where nothing else is called so, by what it ends in (`Bo_0001.jpg`,
    `Bo/Bo_0001`, `Bo_0001`) and by what ends in it (`faces/Bo/Bo_0001.png`).

    Args:
        names: Of the rows.
        source: Where they are from, for the errors.

    Raises:
        TableError: A name occurs twice.
    """

    def __init__(self, names: Sequence[str], source: str):
        self.names, self.source = names, source
        self._rows: dict[str, int] = {}
        for row, name in enumerate(names):
            if name in self._rows:
                raise TableError(f"{source}: {name} occurs twice; there must be one score for each image")
            self._rows[name] = row
        self._whole: dict[str, list[int]] = {}
        self._endings: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            for spelling in _whole(name):
                self._whole.setdefault(spelling, []).append(row)
            for ending in _endings(name):
                self._endings.setdefault(ending, []).append(row)

    def find(self, wanted: Iterable[str], source: str) -> np.ndarray:
        """
        The row of each name, (N,) int64.

        Raises:
            TableError: Names are missing, or fit several rows.
        """
        rows, missing = [], {}
        for name in wanted:
            row = self._rows.get(name)
            if row is None:
                # Not any common ending: A/1.jpg must not be taken for B/1.jpg.
                found = next((self._endings[e] for e in _whole(name) if e in self._endings), [])
                found = found or next((self._whole[e] for e in _endings(name) if e in self._whole), [])
                if len(found) > 1:
                    fits = ", ".join(self.names[row] for row in found[:2])
                    raise TableError(f"{source}: {name} fits {len(found)} images of {self.source}: {fits}, ...")
                row = found[0] if found else -1
            if row < 0:
                missing[name] = None
            rows.append(row)
        if missing:
            count = f"{len(missing):,} images are not in {self.source}, the first is" if len(missing) > 1 else ""
            name = next(iter(missing))
            raise TableError(
                f"{source}: {count} {name}" if count else f"{source}: the image {name} is not in {self.source}"
            )
        return np.array(rows, np.int64)


def _whole(name: str) -> list[str]:
    """A path without what does not matter, with the file's ending and without."""
    path = PurePath(name.replace("\\", "/")).as_posix().removeprefix("/")
    return list(dict.fromkeys((path, re.sub(r"\.[A-Za-z]\w{1,4}$", "", path))))


def _endings(name: str) -> list[str]:
    """The ways to write a path by its last parts, the longest first."""
    found = {}
    for path in _whole(name):
        parts = path.split("/")
        found |= dict.fromkeys("/".join(parts[at:]) for at in range(len(parts)))
    return sorted(found, key=len, reverse=True)


@dataclass(frozen=True)
class NamedPairs:
    """
    Comparisons by the names of their images.

    Args:
        source (`str`): The file.
        first, second (`list[str]`): P names each.
        mated (`np.ndarray` of shape `(P,)`): bool.
        identities (`dict[str, str]`, *optional*): The person of each name, where names say so, as LFW's do.
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
            `name i other j` below the number of pairs), or as CALFW has it (two lines `file label` a pair).
        columns: The names of the two images and whether both show one person.
        similarity_column: Of a table, the one with the similarities.

    Raises:
        TableError: It isn't there, or is none of these, or lacks a column.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".jsonl", ".parquet"):
        if similarity_column is not None:
            raise TableError(f"{path}: has no columns, and so no similarities")
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            fields = lines[0].rsplit(maxsplit=1) if lines else []
            flat = len(fields) == 2 and fields[1].isdecimal() and not fields[0].isdecimal()
            pairs = (read_flat_pairs if flat else read_lfw_pairs)(lines, str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise TableError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
        except BenchmarkError as error:
            raise TableError(str(error)) from error
        first, second = map(list, zip(*pairs.names, strict=True))
        people = None if flat else {name: name.rsplit("_", 1)[0] for name in (*first, *second)}
        return NamedPairs(str(path), first, second, pairs.mated, people)
    table = read_table(path)
    wanted = [*columns, *([] if similarity_column is None else [similarity_column])]
    if lacking := [name for name in wanted if name not in table]:
        raise TableError(f"{path}: has no column {lacking[0]!r}; it has {', '.join(table) or 'none'}")
    first, second, flags = (table[name] for name in columns)
    if not first:
        raise TableError(f"{path}: has no pairs")
    mated = np.array([_flag(value, f"{path}: pair {row}") for row, value in enumerate(flags, 1)], bool)
    similarities = None
    if similarity_column is not None:
        similarities = numbers(table[similarity_column], f"{path}: column {similarity_column}")
        if not np.isfinite(similarities).all():
            row = int(np.flatnonzero(~np.isfinite(similarities))[0]) + 1
            raise TableError(f"{path}: column {similarity_column}: pair {row} has no similarity, or an infinite one")
    return NamedPairs(str(path), list(map(str, first)), list(map(str, second)), mated, None, similarities)


def numbers(values: Sequence[Any], source: str) -> np.ndarray:
    """A column of numbers, float64; NaN where one is missing.

    Raises:
        TableError: A value is no number.
    """
    found = np.empty(len(values))
    for row, value in enumerate(values):
        try:
            found[row] = as_number(value)
        except (TypeError, ValueError) as error:
            raise TableError(f"{source}: row {row + 1} is no number: {value!r}") from error
    return found


def _flag(value: Any, source: str) -> bool:
    text = str(value).strip().lower()
    if text in ("1", "true", "1.0"):
        return True
    if text in ("0", "false", "0.0"):
        return False
    raise TableError(f"{source}: mated is 1 or 0, true or false, not {value!r}")


__all__ = ["NamedPairs", "Names", "TableError", "as_number", "numbers", "read_pairs", "read_table"]
