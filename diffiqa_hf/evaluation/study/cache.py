# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The cache of a study: arrays in shards, by what they depend on. A shard is written beside and renamed, so that it is
whole or absent, and any number of processes may make shards of one entry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ...file_utils import replace_file, write_text
from ...scoring.names import Names
from ...scoring.score_files import read_scores


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

    def shards(self) -> Iterator[tuple[Path, range]]:
        for start in range(0, self.count, self.shard_size):
            # The name has both ends: with another shard size others are made, and none is taken for another.
            stop = min(start + self.shard_size, self.count)
            yield self.folder / f"rows-{start:07d}-{stop:07d}.npz", range(start, stop)

    def missing(self) -> int:
        return sum(not path.exists() for path, _ in self.shards())

    def compute(self, rows_of: Callable[[range], dict[str, np.ndarray]], share: tuple[int, int] | None, bar) -> None:
        """
        Makes shards that aren't there: those of the process `share[0]` of `share[1]`; with `None` all, from the last
        one on.
        """
        todo = list(self.shards())
        if share is None:
            todo.reverse()
        else:
            offset = int(self.folder.name, 16)  # or entries of a few shards would all fall to the first processes
            todo = [entry for at, entry in enumerate(todo) if (at + offset) % share[1] == share[0]]
        todo = [(path, rows) for path, rows in todo if not path.exists()]
        if not todo:
            return
        write_text(self.folder / "settings.json", json.dumps(self.settings, indent=2, default=str) + "\n")
        with bar(total=sum(len(rows) for _, rows in todo), desc=self.settings["what"], unit="image") as progress:
            for path, rows in todo:
                if path.exists():  # another process has made it meanwhile
                    progress.update(len(rows))
                    continue
                arrays = rows_of(rows)

                def write(temporary: Path, arrays=arrays) -> None:
                    with open(temporary, "wb") as file:
                        np.savez(file, **arrays)

                replace_file(path, write)
                progress.update(len(rows))

    def load(self) -> dict[str, np.ndarray]:
        """All rows. Raises `FileNotFoundError` where some aren't there."""
        parts: list[dict[str, np.ndarray]] = []
        for path, _ in self.shards():
            with np.load(path, allow_pickle=False) as file:
                parts.append({name: file[name] for name in file.files})
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


def texts_of(errors: Sequence[str | None]) -> np.ndarray:
    return np.array([error or "" for error in errors], dtype=np.str_)


__all__ = ["CACHE_VERSION", "CacheEntry", "GivenScores", "key_of", "texts_of"]
