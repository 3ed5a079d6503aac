# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The rows of a table of scores, whoever writes it: `diffiqa score`, or the actors of a cluster."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..images.reasons import MEASURES
from ..quality_record import TERMS, FaceQualityRecord


if TYPE_CHECKING:
    import pyarrow

    from ..calibration import Calibration

INTEGERS = ("face", "iso", "faces", "frame", "track")
PARQUET_ROWS = 65_536  # of a group
LINES_AT_A_TIME = 256


def table_columns(terms: Iterable[str] = TERMS, measures: Iterable[str] = ()) -> tuple[str, ...]:
    """The columns of a table: those of every method, the measures that are named, one for each of its terms."""
    return ("file", "face", "score", *measures, *terms, "error")


def score_row(
    name: str,
    record: FaceQualityRecord,
    terms: Iterable[str],
    calibration: Calibration | None = None,
    iso: bool = False,
    checked: bool = False,
    measured: bool = False,
) -> dict:
    """
    The row of one face: numbers have the seven digits of float32, and `None` is what is missing.

    Args:
        name: Of the image, in the column `file`.
        record: What was found of it.
        terms: The columns of the method's terms.
        calibration: There is a column of percentiles.
        iso: There is one of them as integers.
        checked: There is one of the face check.
        measured: There are those of `MEASURES`.
    """
    row = {"file": name, "face": record.face, "score": _number(record.score)}
    if calibration is not None:
        row["percentile"] = _number(record.percentile)
        if iso:
            row["iso"] = int(calibration.to_iso(record.score))
    if checked:
        row["face_probability"] = _number(record.face_probability)
    if measured:
        row |= record.measures or dict.fromkeys(MEASURES)
    row |= {term: _number(record.terms.get(term)) if record.terms else None for term in terms}
    error = record.error
    if error is None and row["score"] is None:
        error = "the score is not a number"
    return row | {"error": error}


def _number(value: float | None) -> float | None:
    return None if value is None or value != value else float(f"{value:.7g}")


def table_schema(columns: Iterable[str]) -> pyarrow.Schema:
    """The types of these columns in Arrow and Parquet."""
    import pyarrow

    kinds = {"file": pyarrow.string(), "error": pyarrow.string()} | dict.fromkeys(INTEGERS, pyarrow.int64())
    return pyarrow.schema([(name, kinds.get(name, pyarrow.float64())) for name in columns])


def table_lines(rows: Iterable[dict], ending: str, columns: Iterable[str]) -> str:
    """Rows as lines of CSV, or of JSON for any other ending."""
    if ending != ".csv":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([row[column] for column in columns] for row in rows)
    return text.getvalue()


def write_table(path: Path, rows: Iterable[dict], columns: Sequence[str], ending: str | None = None) -> None:
    """
    Writes a table: CSV, Parquet, or lines of JSON. It is never all in memory.

    Args:
        ending: Which of them, in place of the ending of the path.
    """
    ending, rows = ending or path.suffix, iter(rows)
    if ending == ".parquet":
        _write_parquet(path, rows, columns)
        return
    with open(path, "w", encoding="utf-8", newline="") as file:
        if ending == ".csv":
            file.write(",".join(columns) + "\n")
        while some := list(itertools.islice(rows, LINES_AT_A_TIME)):
            file.write(table_lines(some, ending, columns))


def _write_parquet(path: Path, rows: Iterator[dict], columns: Sequence[str]) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = table_schema(columns)
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        while some := list(itertools.islice(rows, PARQUET_ROWS)):
            writer.write_table(pyarrow.Table.from_pylist(some, schema=schema))


__all__ = ["INTEGERS", "PARQUET_ROWS", "score_row", "table_columns", "table_lines", "table_schema", "write_table"]
