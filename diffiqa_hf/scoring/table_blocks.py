# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""A table in parts, for those that are too large to be all in memory."""

from __future__ import annotations

import csv
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from .tables import TableError, delimiters_of, encoding_of, head_fault, is_nested, read_table


BLOCK_ROWS = 10_000
_HEAD = 1 << 16  # characters that the names of the columns have at most


def table_blocks(path: str | os.PathLike, rows: int = BLOCK_ROWS) -> Iterator[dict[str, list]]:
    """
    What [`read_table`] reads, in parts of some rows: the same columns, values and errors. An empty table is one part.

    Files that end in `.csv`, `.tsv`, `.jsonl` and `.parquet` are gone through twice, first to see that they are in
    order, and never are in memory as a whole. What is not in order, and every other file, is left to [`read_table`].
    """
    path = Path(path)
    reader = {".csv": _delimited, ".tsv": _delimited, ".jsonl": _objects, ".parquet": _parquet}.get(
        path.suffix.lower()
    )
    blocks = None
    if reader is not None and head_fault(path) is None:
        try:
            blocks = reader(path, rows)
        except (OSError, ValueError, RecursionError, csv.Error):
            pass  # read_table says what is wrong
    if blocks is None:
        yield read_table(path)
        return
    empty = True
    for block in blocks:
        empty = False
        yield block
    if empty:
        yield read_table(path)


def _open(path: Path, newline: str = "") -> TextIO:
    with open(path, "rb") as file:
        encoding = encoding_of(file.read(4))
    return open(path, encoding=encoding, newline=newline)


def _delimited(path: Path, rows: int) -> Iterator[dict[str, list]] | None:
    with _open(path) as file:
        head = file.read(_HEAD)
    if head[:4].lower() == "sep=" or "\0" in head:
        return None
    for delimiter in delimiters_of(head):
        if (names := _names_of_whole(path, delimiter)) is not None:
            return _delimited_blocks(path, delimiter, names, rows)
    return None


def _names_of_whole(path: Path, delimiter: str) -> list[str] | None:
    """The names of the columns, if all rows have as many values and nothing else is wrong."""
    with _open(path) as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            names = [name.strip() for name in next(reader, [])]
            named = [name for name in names if name]
            if len(set(named)) < len(named) or "\0" in "".join(names):
                return None
            for row in reader:
                if len(row) != len(names) and any(row) or any("\0" in value for value in row):
                    return None
        except csv.Error:
            return None
    return names


def _delimited_blocks(path: Path, delimiter: str, names: list[str], rows: int) -> Iterator[dict[str, list]]:
    with _open(path) as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        next(reader, None)
        filled = (row for row in reader if any(row))
        while block := list(itertools.islice(filled, rows)):
            columns = zip(*block, strict=True)
            yield {name: list(column) for name, column in zip(names, columns, strict=True) if name}


def _objects(path: Path, rows: int) -> Iterator[dict[str, list]] | None:
    names: dict[str, None] = {}
    for row in _parsed(path):
        names |= dict.fromkeys(row)
    return _object_blocks(path, list(names), rows)


def _parsed(path: Path) -> Iterator[dict]:
    with _open(path, newline="\n") as file:
        for line in file:
            if "\0" in line:
                raise ValueError("no text")
            if line.strip():
                row = json.loads(line, object_pairs_hook=_no_name_twice)
                if not isinstance(row, dict):
                    raise ValueError("no object")
                yield row


def _no_name_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("two values have one name")
    return row


def _object_blocks(path: Path, names: list[str], rows: int) -> Iterator[dict[str, list]]:
    parsed = _parsed(path)
    while block := list(itertools.islice(parsed, rows)):
        yield {name: [row.get(name) for row in block] for name in names}


def _parquet(path: Path, rows: int) -> Iterator[dict[str, list]] | None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return None
    file = pq.ParquetFile(path)
    schema = file.schema_arrow
    if len(set(schema.names)) < len(schema.names):
        return None
    return _parquet_blocks(path, file, [field.name for field in schema if not is_nested(pa, field.type)], rows)


def _parquet_blocks(path: Path, file, names: list[str], rows: int) -> Iterator[dict[str, list]]:
    try:
        for batch in file.iter_batches(batch_size=rows, columns=names):
            yield {name: batch.column(name).to_pylist() for name in names}
    except (OSError, ValueError) as error:  # pages that are damaged, which its end does not tell
        raise TableError(f"{path}: {str(error).splitlines()[0]}") from error


__all__ = ["BLOCK_ROWS", "table_blocks"]
