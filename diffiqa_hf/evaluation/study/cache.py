# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The cache of a study: arrays in shards, by what they depend on. A shard is written beside and renamed, so that it is
whole or absent, and any number of processes may make shards of one entry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...file_utils import replace_file, write_text
from ...scoring.names import Names
from ...scoring.score_files import read_scores


if TYPE_CHECKING:
    from ...pipeline_output import FaceQualityRecord


OPEN_SHARDS = 16  # in memory at a time, of those that rows are taken from
CACHE_VERSION = 1  # goes up when what is in a shard, or how it is computed, changes


def key_of(settings: dict) -> str:
    """What the cache calls that which was computed with these settings."""
    text = json.dumps({"version": CACHE_VERSION, **settings}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class CacheEntry:
    """Arrays of one row for each of N images in shards: `rows-000000.npz`, ... beside `settings.json`."""

    def __init__(self, folder: Path, settings: dict, count: int, shard_size: int):
        self.folder = folder / key_of(settings)
        self.settings, self.count, self.shard_size = settings, count, shard_size

    def shard(self, number: int) -> tuple[Path, range]:
        start = number * self.shard_size
        # The name has both ends: with another shard size others are made, and none is taken for another.
        stop = min(start + self.shard_size, self.count)
        return self.folder / f"rows-{start:07d}-{stop:07d}.npz", range(start, stop)

    def shards(self) -> Iterator[tuple[Path, range]]:
        return (self.shard(number) for number in range(-(-self.count // self.shard_size)))

    def missing(self) -> int:
        return sum(not path.exists() for path, _ in self.shards())

    def load(self) -> dict[str, np.ndarray]:
        """All rows. Raises `FileNotFoundError` where some aren't there."""
        parts: list[dict[str, np.ndarray]] = []
        for path, _ in self.shards():
            parts.append(_read_arrays(path))
        width = max(part["embeddings"].shape[1] for part in parts) if "embeddings" in parts[0] else 0
        for part in parts:
            if width and part["embeddings"].shape[1] == 0:  # a shard in which no image could be read
                part["embeddings"] = np.full((len(part["errors"]), width), np.nan, np.float32)
        # A shard in which nothing could be scored has no terms.
        names = dict.fromkeys(name for part in parts for name in part)
        return {
            name: np.concatenate([part.get(name, np.full(len(part["errors"]), np.nan)) for part in parts])
            for name in names
        }


class SharedRows:
    """
    The rows of images that other entries have, which were computed in the same way: benchmarks share images.
    """

    def __init__(self) -> None:
        self._entries: dict[str, dict[Path, tuple[CacheEntry, Sequence[bytes]]]] = {}
        self._arrays = lru_cache(OPEN_SHARDS)(_read_arrays)
        # By the numbers of two lists of keys, which live as long as the study: where in the first those of both are.
        self._both: dict[tuple[int, int], dict[bytes, int]] = {}

    @staticmethod
    def _way(entry: CacheEntry) -> str:
        return key_of({name: value for name, value in entry.settings.items() if name not in ("images", "what")})

    def add(self, entry: CacheEntry, keys: Sequence[bytes]) -> None:
        """An entry, whose shards may be there or come to be, with the keys of its images."""
        self._entries.setdefault(self._way(entry), {})[entry.folder] = (entry, keys)

    def find(
        self, entries: Sequence[CacheEntry], keys: Sequence[bytes], rows: range
    ) -> list[dict[int, dict[str, Any]]]:
        """Of each entry the rows, by their place among those asked for, of images that have one elsewhere for all."""
        found: list[dict[int, dict[str, Any]]] = [{} for _ in entries]
        others = [
            [(other, self._shared(theirs, keys)) for other, theirs in known.values() if theirs is not keys]
            for known in (self._entries.get(self._way(entry), {}) for entry in entries)
        ]
        for at, row in enumerate(rows if all(others) else ()):
            there = list(filter(None, (self._row(known, keys[row]) for known in others)))
            if len(there) == len(entries):
                for of_entry, arrays in zip(found, there, strict=True):
                    of_entry[at] = arrays
        return found

    def _shared(self, theirs: Sequence[bytes], ours: Sequence[bytes]) -> dict[bytes, int]:
        pair = id(theirs), id(ours)
        if pair not in self._both:
            wanted = set(ours)
            self._both[pair] = {key: row for row, key in enumerate(theirs) if key in wanted}
        return self._both[pair]

    def _row(self, known: list[tuple[CacheEntry, dict[bytes, int]]], key: bytes) -> dict[str, Any] | None:
        for entry, rows in known:
            if (row := rows.get(key)) is not None:
                path, of_shard = entry.shard(row // entry.shard_size)
                if path.exists():
                    arrays = {name: values[row - of_shard.start] for name, values in self._arrays(path).items()}
                    # The reason of a failure names the file: it is found anew.
                    return None if arrays["errors"] else arrays
        return None


def compute_shards(
    entries: Sequence[CacheEntry],
    rows_of: Callable[[Sequence[int], list[int]], list[dict[str, np.ndarray]]],
    share: tuple[int, int] | None,
    bar,
    keys: Sequence[bytes] = (),
    shared: SharedRows | None = None,
) -> None:
    """
    Makes shards that aren't there, of entries of the same images that have their work in common.

    Args:
        entries: As many as are computed together.
        rows_of: For rows of images and the numbers of the entries that lack them, the arrays of each of these.
        share: Process and number of processes: makes every so many-th shard. `None`: all, from the last one on.
        bar: Makes a bar.
        keys: Of the images, with `shared`.
        shared: Rows that other entries have, which are not computed again.
    """
    shards = list(zip(*(entry.shards() for entry in entries), strict=True))
    if share is None:
        shards.reverse()
    else:
        offset = int(entries[0].folder.name, 16)  # or entries of a few shards would all fall to the first processes
        shards = [shard for at, shard in enumerate(shards) if (at + offset) % share[1] == share[0]]
    shards = [shard for shard in shards if not all(path.exists() for path, _ in shard)]
    if not shards:
        return
    for entry in entries:
        write_text(entry.folder / "settings.json", json.dumps(entry.settings, indent=2, default=str) + "\n")
    what = ", ".join(dict.fromkeys(entry.settings["what"] for entry in entries))
    with bar(total=sum(len(shard[0][1]) for shard in shards), desc=what, unit="image") as progress:
        for shard in shards:
            rows = shard[0][1]
            # Another process may have made some meanwhile.
            lacking = [number for number, (path, _) in enumerate(shard) if not path.exists()]
            known: list[dict[int, dict[str, Any]]] = [{} for _ in lacking]
            if shared is not None and lacking:
                known = shared.find([entries[number] for number in lacking], keys, rows)
            todo = [row for at, row in enumerate(rows) if at not in known[0]] if any(known) else rows
            made = rows_of(todo, lacking) if lacking and todo else [{} for _ in lacking]
            for number, arrays, there in zip(lacking, made, known, strict=True):
                arrays = _merged(arrays, there, len(rows)) if there else arrays
                replace_file(shard[number][0], partial(_write_arrays, arrays=arrays))
            progress.update(len(rows))


def _merged(arrays: dict[str, np.ndarray], there: dict[int, dict[str, Any]], count: int) -> dict[str, np.ndarray]:
    """The arrays of a shard, of the rows that were computed, in their order, and of those that were there."""
    computed = [at for at in range(count) if at not in there]
    merged = {}
    for name in dict.fromkeys([*arrays, *(name for row in there.values() for name in row)]):
        values: dict[int, Any] = {at: row[name] for at, row in there.items() if name in row}
        if name in arrays and (arrays[name].ndim == 1 or arrays[name].shape[1]):
            values |= dict(zip(computed, arrays[name], strict=True))
        lacking = np.full_like(next(iter(values.values())), np.nan) if len(values) < count else None
        merged[name] = np.array([values.get(at, lacking) for at in range(count)])
    return merged


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with open(path, "wb") as file:
        np.savez(file, **arrays)


class GivenScores:
    """Scores out of a table, in place of an [`CacheEntry`]."""

    def __init__(self, path: str, file_column: str, score_column: str, files: Sequence[str], what: str):
        read = read_scores(path, file_column, (score_column,))
        self.scores = np.array(read.scores[score_column])[Names(read.names, path).find(files, what)]
        self.folder = Path(path)
        digest = hashlib.sha256(self.folder.read_bytes()).hexdigest()[:16]
        self.settings = {"what": what, "kind": "scores", "table": path, "column": score_column, "digest": digest}

    def missing(self) -> int:
        return 0

    def load(self) -> dict[str, np.ndarray]:
        errors = ["the table has no score" if score else None for score in np.isnan(self.scores)]
        return {"scores": self.scores, "errors": texts_of(errors)}


def arrays_of(records: Sequence[FaceQualityRecord]) -> dict[str, np.ndarray]:
    """What a shard of scores holds: scores and terms, NaN where there is none, and reasons, or ""."""
    names = dict.fromkeys(term for record in records for term in record.terms)
    terms = {f"term_{name}": np.array([record.terms.get(name, np.nan) for record in records]) for name in names}
    scores = np.array([record.score for record in records], np.float64)
    return {"scores": scores, "errors": texts_of([record.error for record in records]), **terms}


def texts_of(errors: Sequence[str | None]) -> np.ndarray:
    return np.array([error or "" for error in errors], dtype=np.str_)


__all__ = [
    "CACHE_VERSION", "CacheEntry", "GivenScores", "SharedRows", "arrays_of", "compute_shards", "key_of", "texts_of",
]  # fmt: skip
