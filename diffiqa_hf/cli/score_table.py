# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The table of scores on disk: CSV, JSON lines or Parquet, written as rows come, and taken up again after a kill."""

import csv
import importlib.util
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO

from ..quality_record import TERMS
from ..scoring.row_formats import INTEGERS, PARQUET_ROWS, table_columns, table_lines, write_table
from .errors import CommandError, reason


COLUMNS = table_columns()
FORMATS = (".csv", ".jsonl", ".parquet")
# Rows wait for others at most so long and so many.
FLUSH_SECONDS = 0.5
FLUSH_ROWS = 256


class ScoreTable:
    """Rows on disk, at most half a second after they have been appended and the next ones come, and always whole ones.

    CSV and JSON lines are appended to in place. A Parquet file cannot be: its rows go to `<path>.partial.jsonl`, and
    [`close`] makes the Parquet file out of them. `<path>.settings.json` holds what the scores depend on.

    Args:
        path: The table; its ending is one of `FORMATS`.
        settings: What the scores depend on; JSON. An earlier table is gone on with only where these are the same.
        described: Goes into the record as well, but may differ: what a reader of the record wants to know.
        resume: Go on with the table that is there, if one is. Without it, a table that is there is an error.
        terms: What the method's scores are made of, in columns of these names.
        measures: Those of `percentile`, `iso` and `face_probability` that the table has: what a calibration makes of
            a score, and what a face check says.
        tried_again: Whether a file of this name is scored again if it failed: its rows go.

    Attributes:
        rows (iterable of `dict`, with a length): Those that were there already. They are read from the disk as they
            are gone through.

    Raises:
        CommandError: There is a table and `resume` is not set, or it was made with other settings or is not readable.
    """

    def __init__(
        self,
        path: Path,
        settings: dict,
        described: dict,
        resume: bool,
        terms: Iterable[str] = TERMS,
        measures: Iterable[str] = (),
        tried_again: Callable[[str], bool] = lambda file: False,
    ):
        self.path = path
        self._columns = table_columns(terms, measures)
        self._rows_path = path if path.suffix != ".parquet" else _beside(path, ".partial.jsonl")
        self._settings_path = _settings_path(path)
        self.rows: RowsOnDisk | tuple[()] = ()
        self.added = 0
        self._waiting: list[dict] = []
        self._flushed = time.monotonic()
        try:
            if path.exists() or self._rows_path.exists():
                if not resume:
                    raise CommandError(f"{path} is there already: --resume goes on with it, or remove it first")
                self._check_settings(settings)
                self._take_up(tried_again)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                record = json.dumps({**described, **settings}, indent=2) + "\n"
                _replace(self._settings_path, lambda p: p.write_text(record, encoding="utf-8"))
                _replace(self._rows_path, lambda p: write_table(p, [], self._columns))
            self._file = open(self._rows_path, "ab", buffering=0)
        except OSError as error:
            raise CommandError(f"cannot write {path}: {reason(error)}") from error

    def append(self, rows: Iterable[dict]) -> None:
        """Adds rows (the keys are the columns, `None` for what is missing); all the rows of one image in one call."""
        rows = list(rows)
        self._waiting += rows
        self.added += len(rows)
        if len(self._waiting) >= FLUSH_ROWS or time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes the rows that wait."""
        rows, self._waiting = self._waiting, []
        # Unbuffered and in one piece: a kill comes before all of these rows or after all of them.
        self._file.write(table_lines(rows, self._rows_path.suffix, self._columns).encode("utf-8"))
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Finishes the file; one without rows is removed. Until then a Parquet file's rows are in a file beside it."""
        try:
            self.flush()
        finally:
            self._file.close()
        if not self.rows and not self.added:
            self._rows_path.unlink()
            self._settings_path.unlink()
        elif self.path.suffix == ".parquet":
            rows = _iterate(self._rows_path, self._columns)
            _replace(self.path, lambda p: write_table(p, rows, self._columns))
            self._rows_path.unlink()

    def _check_settings(self, settings: dict) -> None:
        try:
            recorded = json.loads(self._settings_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CommandError(
                f"cannot go on with {self.path}: no record of its settings in {self._settings_path} ({reason(error)})"
            ) from error
        recorded = {"method": "diffiqa", **recorded}  # which was the only one when a record did not name it
        # Through JSON, because the record has been there as well.
        now = json.loads(json.dumps(settings))
        other = [f"{k} was {recorded.get(k)}, is {v}" for k, v in now.items() if recorded.get(k) != v]
        if other:
            raise CommandError(f"cannot go on with {self.path}, it was made with other settings: {'; '.join(other)}")

    def _take_up(self, tried_again: Callable[[str], bool]) -> None:
        source = self._rows_path if self._rows_path.exists() else self.path
        try:
            count, failed, whole = _look_through(source, self._columns, tried_again)
            if failed or not whole or source != self._rows_path:
                all_rows = itertools.islice(_iterate(source, self._columns), count)
                rows = (row for row in all_rows if row["error"] is None or row["file"] not in failed)
                _replace(self._rows_path, lambda p: write_table(p, rows, self._columns))
                count, _, _ = _look_through(self._rows_path, self._columns, lambda file: False)
        except (ValueError, KeyError, csv.Error) as error:
            raise CommandError(f"cannot go on with {self.path}: not a table of scores ({reason(error)})") from error
        self.rows = RowsOnDisk(self._rows_path, self._columns, count)


class RowsOnDisk:
    """The first rows of a table, read anew each time that they are gone through, and never all in memory."""

    def __init__(self, path: Path, columns: tuple[str, ...], count: int):
        self._path, self._columns, self._count = path, columns, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[dict]:
        return itertools.islice(_iterate(self._path, self._columns), self._count) if self._count else iter(())


def check_format(path: Path) -> None:
    """Raises [`CommandError`] where a table at `path` could not be written, before anything is computed."""
    if path.suffix not in FORMATS:
        raise CommandError(f"--output {path}: the ending is one of {', '.join(FORMATS)}")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise CommandError(f"--output {path}: Parquet needs pyarrow: pip install 'diffiqa-hf[parquet]'")


def recorded_settings(path: Path) -> dict:
    """What the record beside a table says; nothing where there is none that can be read."""
    try:
        found = json.loads(_settings_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _settings_path(path: Path) -> Path:
    return _beside(path, ".settings.json")


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    # Never half a file: what is under `path` is the old one or the whole new one.
    temporary = path.with_name(f".{path.name}.tmp{path.suffix}")
    write(temporary)
    os.replace(temporary, path)


def _look_through(
    path: Path, columns: tuple[str, ...], tried_again: Callable[[str], bool]
) -> tuple[int, set[str], bool]:
    """
    How many rows count, which files of them failed and are tried again, and whether the file is whole. A kill may have
    torn its last row; since the rows of one image are written together, none of that image's count then.
    """
    whole = path.suffix == ".parquet" or _is_whole(path)
    count = begun = 0
    last = None
    failed = set()
    for row in _iterate(path, columns, whole):
        if row["file"] != last:
            last, begun = row["file"], count
        if row["error"] is not None and row["file"] not in failed and tried_again(row["file"]):
            failed.add(row["file"])
        count += 1
    return (count if whole else begun), failed, whole


def _is_whole(path: Path) -> bool:
    """Whether the last line has its end; of CSV it may be inside of a name, where the number of quotes is odd."""
    quotes, end = 0, b""
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            quotes += part.count(b'"')
            end = part[-1:]
    return end == b"\n" and (path.suffix != ".csv" or quotes % 2 == 0)


def _iterate(path: Path, columns: tuple[str, ...], whole: bool = True) -> Iterator[dict]:
    """
    The rows of a table one by one; of one that is not whole all but the last.

    Raises:
        ValueError, KeyError, csv.Error: It is none, or has other columns.
    """
    if path.suffix == ".parquet":
        yield from _iterate_parquet(path, columns)
        return
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        yield from _csv_rows(file, columns, whole) if path.suffix == ".csv" else _json_rows(file, columns)


def _csv_rows(file: TextIO, columns: tuple[str, ...], whole: bool) -> Iterator[dict]:
    reader = csv.DictReader(file)
    names = reader.fieldnames
    if names is not None and tuple(names) != columns:
        if not whole and ",".join(columns).startswith(",".join(names)):
            return  # torn before the first row
        raise ValueError("other columns")
    before = None
    for row in reader:
        if before is not None:
            yield _parse(before, columns)
        before = row
    if before is not None and whole:
        yield _parse(before, columns)


def _json_rows(file: TextIO, columns: tuple[str, ...]) -> Iterator[dict]:
    for line in file:
        if not line.endswith("\n"):
            return  # torn
        row = json.loads(line)
        if not isinstance(row, dict) or set(row) != set(columns):
            raise ValueError("other columns")
        yield row


def _parse(row: dict[str, str], columns: tuple[str, ...]) -> dict:
    kinds = {column: int if column in INTEGERS else float for column in columns[1:-1]}
    numbers = {column: kind(row[column]) if row[column] else None for column, kind in kinds.items()}
    return {**row, **numbers, "error": row["error"] or None}


def _iterate_parquet(path: Path, columns: tuple[str, ...]) -> Iterator[dict]:
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(path)
    if tuple(file.schema_arrow.names) != columns:
        raise ValueError("other columns")
    for batch in file.iter_batches(batch_size=PARQUET_ROWS):
        yield from batch.to_pylist()
