# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Tables as people have them: one reader for all commands and scripts."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..file_utils import file_fault, stand_in
from .errors import LineError


if TYPE_CHECKING:
    import numpy as np


TABLE_ENDINGS = (".csv", ".tsv", ".txt", ".jsonl", ".json", ".parquet")
DELIMITERS = (",", ";", "\t", "|")

# A file with its ending, and what stands behind it.
_FILE_AND_NUMBER = re.compile(r"(.*\.[A-Za-z]\w{1,4})\s*[\s,;]\s*(\S+)")

# What programs write for a text that is missing: pandas, databases, spreadsheets. ("NA" may be somebody's initials.)
MISSING_TEXTS = frozenset(("", "nan", "NaN", "None", "null", "NULL", "<NA>", "N/A", "#N/A"))


_NO_TEXTS = ((b"PK\3\4", "a workbook or another archive"), (b"PAR1", "Parquet"), (b"\x89PNG", "a picture"))


class TableError(LineError):
    """A file is not what it should be; the message is the reason in one line, with the file."""


def read_table(path: str | os.PathLike) -> dict[str, list]:
    """
    The columns of a table by their names, which are all of one length.

    Args:
        path: By its ending
            - `.csv`, `.tsv`: a line of names, and lines of values, which are strings; with commas, semicolons, tabs or
              bars between them, in UTF-8 or, as Excel saves it, with a byte order mark or in UTF-16.
            - `.txt`: the same, or lines of a file and its score, as many quality methods write them: of two columns,
              with names or without, they are `file` and `score`.
            - `.jsonl` (an object a line), `.json` (a list of objects).
            - `.parquet`: its columns of plain values; bytes and nested ones (images, boxes) are left out.

    Raises:
        TableError: It isn't there, or not such a table.
    """
    path = Path(path)
    ending = path.suffix.lower()
    try:
        if ending not in TABLE_ENDINGS:
            hint = "; of a workbook save it as CSV UTF-8" if ending in (".xlsx", ".xls", ".ods") else ""
            raise TableError(f"a table ends in {', '.join(TABLE_ENDINGS[:-1])} or {TABLE_ENDINGS[-1]}{hint}")
        if ending == ".parquet":
            return _read_parquet(path)
        text = read_text(path)
        if ending in (".json", ".jsonl"):
            return _read_objects(text, ending)
        return _read_lines(text) if ending == ".txt" else _read_delimited(text)
    except OSError as error:
        raise TableError(f"{path}: {error.strerror or first_line(error)}") from error
    except TableError as error:
        message = str(error)
        raise TableError(message if message.startswith(f"{path}: ") else f"{path}: {message}") from error


def encoding_of(content: bytes) -> str:
    """Of a text that begins so."""
    return "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"


def head_fault(path: str | os.PathLike) -> str | None:
    """Why a file is no table, as its first bytes tell; `None` where they do not."""
    if reason := file_fault(path):
        return reason
    with open(path, "rb") as file:
        content = file.read(8)
    parquet = Path(path).suffix.lower() == ".parquet"
    return next((kind for head, kind in _NO_TEXTS if content.startswith(head) and not parquet), None)


def read_text(path: str | os.PathLike) -> str:
    """
    A text file in UTF-8, or in UTF-16 with its mark.

    Raises:
        TableError: It isn't there, is none, or is not the file itself but what lies in its place.
    """
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise TableError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if reason := stand_in(content[:200]):
        raise TableError(f"{path}: {reason}")
    for head, kind in _NO_TEXTS:
        if content.startswith(head):
            raise TableError(f"{path}: no text but {kind}")
    encoding = encoding_of(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        hint = "" if encoding == "utf-16" else "; Excel calls it CSV UTF-8"
        raise TableError(f"{path}: line {line}: not a text in {encoding.upper()[:6].strip('-')}{hint}") from error
    if "\0" in text:
        raise TableError(f"{path}: no text (it has bytes of zero)")
    return text


def _read_objects(text: str, ending: str) -> dict[str, list]:
    if ending == ".jsonl":
        # Not splitlines(): a text may hold a separator of lines that is none in a file.
        rows = [_parse(line, f"line {number}: ") for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        what = "one JSON object a line"
    else:
        rows, what = _parse(text, ""), "a list of JSON objects"
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TableError(f"not {what}")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except TableError as error:
        raise TableError(f"{where}{error}") from error
    except (ValueError, RecursionError) as error:
        raise TableError(f"{where}no JSON: {first_line(error)}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise TableError("two values have one name")
    return values


def _read_delimited(text: str) -> dict[str, list]:
    if text[:4].lower() == "sep=" and text[4:5] and text[5:6] in ("\r", "\n"):  # which Excel writes and reads
        candidates, text = [text[4]], text[5:].lstrip("\r\n")
    else:
        candidates = delimiters_of(text)
    failed: list[TableError] = []
    for delimiter in candidates:
        try:
            return _read_rows(text, delimiter)
        except TableError as error:
            failed.append(error)
    raise failed[0]


def delimiters_of(text: str) -> list[str]:
    """What may divide the values of a table, which begins so: what divides its first line, the most first."""
    counts = {delimiter: len(_first_row(text, delimiter)) for delimiter in DELIMITERS}
    candidates = sorted(DELIMITERS, key=lambda delimiter: -counts[delimiter])
    return [delimiter for delimiter in candidates if counts[delimiter] > 1] or [","]


def _first_row(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error:
        return []


def _read_rows(text: str, delimiter: str) -> dict[str, list]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        # A spreadsheet writes its empty lines as well.
        rows = [(reader.line_num, row) for row in reader if any(row)]
    except csv.Error as error:
        raise TableError(f"line {reader.line_num}: {error}") from error
    for line, row in rows:
        if len(row) != len(names):
            raise TableError(f"line {line}: {len(row)} values for {len(names)} columns")
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise TableError(f"two columns have one name, {twice!r}")
    # Without a name is the index of pandas, and what a delimiter at the end of each line makes.
    return {name: [row[at] for _, row in rows] for at, name in enumerate(names) if name}


def _read_lines(text: str) -> dict[str, list]:
    lines = [(number, line.strip("\r")) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        return {"file": [], "score": []}
    first, last = lines[0][1], lines[-1][1]
    given = [d for d in ("\t", ";", ",") if all(d in line for _, line in lines)]
    delimiter = next((d for d in given if _is_number(last.rsplit(d, 1)[1])), None)
    if delimiter is not None and len(row := _first_row(first, delimiter)) > 2 and not _is_number(row[-1]):
        return _read_delimited(text)
    files, scores = [], []
    for number, line in lines:
        # The score is last, for a path may have spaces, and commas.
        file, *score = line.rsplit(delimiter, 1) if delimiter else line.strip().rsplit(maxsplit=1)
        if not score:
            raise TableError(f"line {number}: a file and its score are needed, not {line.strip()[:80]!r}")
        if (two := _FILE_AND_NUMBER.fullmatch(file.strip())) and _is_number(two[2]) and _is_number(score[0]):
            raise TableError(f"line {number}: {two[1]} has two numbers, and nothing says which is its score")
        files.append(file.strip())
        scores.append(score[0].strip())
    if len(lines) > 1 and not _is_number(scores[0]) and _is_number(scores[1]):
        del files[0], scores[0]  # the names of the columns
    return {"file": files, "score": scores}


def _is_number(value: str) -> bool:
    try:
        as_number(value)
    except ValueError:
        return False
    return True


def _read_parquet(path: Path) -> dict[str, list]:
    if reason := file_fault(path):
        raise TableError(reason)
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise TableError("Parquet needs pyarrow: pip install 'diffiqa-hf[parquet]'") from error
    try:
        schema = pq.read_schema(path)
        if twice := next((name for name in schema.names if schema.names.count(name) > 1), None):
            raise TableError(f"two columns have one name, {twice!r}")
        plain = [field.name for field in schema if not is_nested(pa, field.type)]
        table = pq.read_table(path, columns=plain)
        return {name: table[name].to_pylist() for name in plain}
    except (pa.ArrowException, ValueError, OverflowError) as error:
        # Whatever a damaged file makes of itself; a TableError is a ValueError.
        raise error if isinstance(error, TableError) else TableError(first_line(error)) from error


def is_nested(pa, kind) -> bool:
    """Whether a type of Arrow is none of plain values."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return binary or pa.types.is_nested(kind)


def first_line(error: BaseException) -> str:
    """Of an error's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


# -- what stands in the cells -----------------------------------------------------------------------------------------


def column_of(table: dict[str, list], name: str, source: str, hint: str = "") -> list:
    """
    A column.

    Raises:
        TableError: It isn't there; the message names those that are.
    """
    if name not in table:
        raise TableError(f"{source}: has no column {name!r}; it has {', '.join(table) or 'none'}{hint}")
    return table[name]


def as_text(value: Any) -> str | None:
    """
    A name out of a table: `None` where it is missing (null, NaN, empty, or what programs write for these). Of a whole
    number, which is a float where a column has gaps, the digits alone.
    """
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if value.is_integer():
            value = int(value)
    text = "" if value is None else str(value).strip()
    return None if text in MISSING_TEXTS else text


def as_number(value: Any) -> float:
    """A number out of a table; NaN for one that is missing (`None`, an empty string).

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, str):
        value = value.strip()
        # FaceQnet writes an array of one number.
        value = re.sub(r"^\[(.*)\]$", r"\1", value)
        if re.fullmatch(r"[+-]?\d+,\d+", value):
            raise ValueError(f"{value!r} has a comma in place of its point")
        if "_" in value:  # which Python takes for a separator of thousands
            raise ValueError(f"{value!r} is no number")
        value = value or None
    if isinstance(value, bool):
        raise ValueError(f"{value} is no number")
    try:
        return math.nan if value is None else float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{str(value)[:80]!r} is no number") from error


def numbers(values: Sequence[Any], source: str, first_row: int = 1) -> np.ndarray:
    """A column of numbers, float64; NaN where one is missing.

    Args:
        first_row: What the first of them is called in an error.

    Raises:
        TableError: A value is no number.
    """
    import numpy as np

    found = np.empty(len(values))
    for row, value in enumerate(values):
        try:
            found[row] = as_number(value)
        except ValueError as error:
            raise TableError(f"{source}: row {row + first_row}: {error}") from error
    return found


def names_of(values: Iterable[Any], source: str, first_row: int = 1) -> list[str]:
    """
    A column of names; `first_row` as in [`numbers`].

    Raises:
        TableError: One is missing.
    """
    names = []
    for row, value in enumerate(values, first_row):
        # A file may bear any name, such as None: only what is no text at all is missing.
        name = value if isinstance(value, str) else as_text(value)
        if not name:
            raise TableError(f"{source}: row {row} has no name")
        names.append(name)
    return names


__all__ = [
    "TABLE_ENDINGS",
    "TableError",
    "as_number",
    "as_text",
    "column_of",
    "first_line",
    "names_of",
    "numbers",
    "read_table",
    "read_text",
]
