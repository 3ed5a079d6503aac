# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The table of scores on disk: CSV, JSON lines or Parquet, written as rows come, and taken up again after a kill."""

import csv
import importlib.util
import io
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from .errors import CommandError, reason


TERMS = ("noisy", "restored", "flipped", "noisy_flipped", "restored_flipped")  # of DifFIQA


INTEGERS = ("face", "iso")


def table_columns(terms: Iterable[str] = TERMS, measures: Iterable[str] = ()) -> tuple[str, ...]:
    """The columns of a table: those of every method, the measures that are named, one for each of its terms."""
    return ("file", "face", "score", *measures, *terms, "error")


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
        rows (`list[dict]`): Those that were there already. The ones that are appended are not kept in memory.

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
        self._settings_path = _beside(path, ".settings.json")
        self.rows: list[dict] = []
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
                _replace(self._rows_path, lambda p: _write_rows(p, [], self._columns))
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
        self._file.write(_lines(rows, self._rows_path.suffix, self._columns).encode("utf-8"))
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
            rows, _ = _read_rows(self._rows_path, self._columns)
            _replace(self.path, lambda p: _write_parquet(p, rows, self._columns))
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
        try:
            if not self._rows_path.exists():
                self.rows = _read_parquet(self.path, self._columns)
                whole = False
            else:
                self.rows, whole = _read_rows(self._rows_path, self._columns)
        except (ValueError, KeyError, csv.Error) as error:
            raise CommandError(f"cannot go on with {self.path}: not a table of scores ({reason(error)})") from error
        failed = {row["file"] for row in self.rows if row["error"] is not None}
        if failed := {file for file in failed if tried_again(file)}:
            self.rows = [row for row in self.rows if row["file"] not in failed]
        if failed or not whole:
            _replace(self._rows_path, lambda p: _write_rows(p, self.rows, self._columns))


def check_format(path: Path) -> None:
    """Raises [`CommandError`] where a table at `path` could not be written, before anything is computed."""
    if path.suffix not in FORMATS:
        raise CommandError(f"--output {path}: the ending is one of {', '.join(FORMATS)}")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise CommandError(f"--output {path}: Parquet needs pyarrow: pip install 'diffiqa-hf[parquet]'")


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    # Never half a file: what is under `path` is the old one or the whole new one.
    temporary = path.with_name(f".{path.name}.tmp{path.suffix}")
    write(temporary)
    os.replace(temporary, path)


def _lines(rows: list[dict], suffix: str, columns: tuple[str, ...]) -> str:
    if suffix != ".csv":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([row[column] for column in columns] for row in rows)
    return text.getvalue()


def _write_rows(path: Path, rows: list[dict], columns: tuple[str, ...]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            file.write(",".join(columns) + "\n")
        file.write(_lines(rows, path.suffix, columns))


def _read_rows(path: Path, columns: tuple[str, ...]) -> tuple[list[dict], bool]:
    """The rows of a CSV or JSON lines file, and whether it is whole: a kill may have torn the last of them."""
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        text = file.read()
    if path.suffix == ".csv":
        reader = csv.DictReader(io.StringIO(text, newline=""))
        if text and reader.fieldnames is not None and tuple(reader.fieldnames) != columns:
            if text.endswith("\n"):
                raise ValueError("other columns")
            return [], False
        raw = list(reader)
        # An odd number of quotes: the end of the line is inside of a name.
        whole = text.endswith("\n") and text.count('"') % 2 == 0
        rows = [_parse(row, columns) for row in (raw if whole else raw[:-1])]
    else:
        lines = text.split("\n")
        whole = lines.pop() == ""
        rows = [json.loads(line) for line in lines]
        if any(not isinstance(row, dict) or set(row) != set(columns) for row in rows):
            raise ValueError("other columns")
    if not whole and rows:
        # The rows of one image are written together: with one of them torn, the others are done again.
        last = rows[-1]["file"]
        while rows and rows[-1]["file"] == last:
            rows.pop()
    return rows, whole


def _parse(row: dict[str, str], columns: tuple[str, ...]) -> dict:
    kinds = {column: int if column in INTEGERS else float for column in columns[1:-1]}
    numbers = {column: kind(row[column]) if row[column] else None for column, kind in kinds.items()}
    return {**row, **numbers, "error": row["error"] or None}


def _write_parquet(path: Path, rows: list[dict], columns: tuple[str, ...]) -> None:
    import pyarrow
    import pyarrow.parquet

    numbers = [(name, pyarrow.int64() if name in INTEGERS else pyarrow.float64()) for name in columns[1:-1]]
    schema = pyarrow.schema([("file", pyarrow.string()), *numbers, ("error", pyarrow.string())])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), path)


def _read_parquet(path: Path, columns: tuple[str, ...]) -> list[dict]:
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(path).to_pylist()
    if rows and tuple(rows[0]) != columns:
        raise ValueError("other columns")
    return rows
