# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The text files that list comparisons, line by line; whatever is wrong is named with its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .benchmark import BenchmarkError


@dataclass(frozen=True)
class PairList:
    """
    Comparisons by the names of the images.

    Args:
        source (`str`): The file.
        names (`list[tuple[str, str]]`): P pairs of names.
        mated (`np.ndarray` of shape `(P,)`), folds (`np.ndarray` of shape `(P,)`, *optional*): As in [`Benchmark`].
        lines (`list[int]`): The line of each pair, from 1.
    """

    source: str
    names: list[tuple[str, str]]
    mated: np.ndarray
    folds: np.ndarray | None
    lines: list[int]

    def rows(self, row_of: Mapping[str, int], suffix: str = "") -> np.ndarray:
        """
        The pairs as rows, (P, 2) int32.

        Args:
            row_of: The row of each name.
            suffix: What a name lacks to be that of a file, for the error.

        Raises:
            BenchmarkError: Some aren't there; all of them are in `missing`.
        """
        missing: dict[str, int] = {}
        rows = np.zeros((len(self.names), 2), np.int32)
        for at, (pair, line) in enumerate(zip(self.names, self.lines, strict=True)):
            for side, name in enumerate(pair):
                if name in row_of:
                    rows[at, side] = row_of[name]
                else:
                    missing.setdefault(name + suffix, line)
        if missing:
            name, line = next(iter(missing.items()))
            count = (
                f"{len(missing):,} images that it names are missing, the first is" if len(missing) > 1 else "missing"
            )
            raise BenchmarkError(f"{self.source}: line {line}: {count} {name}", tuple(missing))
        return rows


def read_lfw_pairs(lines: Sequence[str], source: str) -> PairList:
    """
    Pairs as LFW writes them: a line with the number of folds and of pairs in one (`10 300`), or the latter alone
    (`500`); then for each fold so many lines `name i j` (mated) and as many `name i other j` (non-mated).

    Names of images are as their files without the ending: `Aaron_Eckhart_0001`.

    Raises:
        BenchmarkError: A line is not like this, or there are more or fewer than the first one says.
    """
    header = lines[0].split() if lines else []
    if not (1 <= len(header) <= 2 and all(field.isdecimal() for field in header)):
        raise BenchmarkError(f"{source}: line 1: the number of pairs belongs here, as in '10 300' or '500'")
    count, per_fold = (int(header[0]) if len(header) == 2 else 1), int(header[-1])
    names, mated, numbers = [], [], []
    for number, line in enumerate(lines[1:], 2):
        fields = line.split("\t") if "\t" in line else line.split()
        if not line.strip():
            continue
        same = len(fields) == 3
        indices = fields[1:] if same else fields[1::2]
        if len(fields) not in (3, 4) or not all(index.strip().isdecimal() for index in indices):
            raise BenchmarkError(f"{source}: line {number}: neither 'name i j' nor 'name i other j': {line.strip()!r}")
        people = (fields[0], fields[0]) if same else (fields[0], fields[2])
        first, second = (f"{name.strip()}_{int(i):04d}" for name, i in zip(people, indices, strict=True))
        names.append((first, second))
        mated.append(same)
        numbers.append(number)
    mated = np.array(mated, bool)
    if len(names) != 2 * count * per_fold:
        raise BenchmarkError(
            f"{source}: line 1 announces {count} x {per_fold} mated and as many non-mated pairs, and "
            f"{len(names):,} pairs follow"
        )
    for fold, part in enumerate(mated.reshape(count, 2 * per_fold)):
        if part.sum() != per_fold:
            raise BenchmarkError(f"{source}: fold {fold + 1} has {part.sum()} mated pairs, and not {per_fold}")
    folds = np.repeat(np.arange(count, dtype=np.int32), 2 * per_fold) if len(header) == 2 else None
    return PairList(source, names, mated, folds, numbers)


def read_people(lines: Sequence[str], source: str) -> set[str]:
    """
    The people that one of LFW's people files lists, as `name<tab>number of images` below a line with their number.

    Raises:
        BenchmarkError: A line is not like this.
    """
    people = set()
    for number, line in enumerate(lines[1:], 2):
        fields = line.split()
        if len(fields) == 2 and fields[1].isdecimal():
            people.add(fields[0])
        elif line.strip():
            raise BenchmarkError(f"{source}: line {number}: not 'name number': {line.strip()!r}")
    return people


def read_flat_pairs(lines: Sequence[str], source: str) -> PairList:
    """
    Pairs as CALFW and CPLFW write them: two lines a pair, `file label` each, the label 0 for two people and otherwise
    the fold from 1 (or 1 throughout).

    Only mated pairs have a fold in the file. Where the folds of these have one size, the non-mated pairs are dealt to
    folds of that size in their order, as in LFW.

    Raises:
        BenchmarkError: A line is not like this, or the labels of a pair differ.
    """
    read = []
    for number, line in enumerate(lines, 1):
        fields = line.rsplit(maxsplit=1)
        if not fields:
            continue
        if len(fields) != 2 or not fields[1].isdecimal():
            raise BenchmarkError(f"{source}: line {number}: not 'file label': {line.strip()!r}")
        read.append((number, fields[0].strip(), int(fields[1])))
    if len(read) % 2 or not read:
        raise BenchmarkError(f"{source}: {len(read):,} lines, and a pair takes two")
    names, labels, numbers = [], [], []
    for first, second in zip(read[::2], read[1::2], strict=True):
        if first[2] != second[2]:
            raise BenchmarkError(f"{source}: line {second[0]}: label {second[2]}, and {first[2]} on the line before")
        names.append((first[1], second[1]))
        labels.append(first[2])
        numbers.append(first[0])
    labels = np.array(labels, np.int32)
    return PairList(source, names, labels > 0, _dealt_folds(labels), numbers)


def _dealt_folds(labels: np.ndarray) -> np.ndarray | None:
    sizes = np.bincount(labels[labels > 0])[1:]
    different = np.flatnonzero(labels == 0)
    if len(sizes) < 2 or len(set(sizes)) > 1 or len(different) % len(sizes):
        return None
    folds = labels - 1
    folds[different] = np.arange(len(different)) // (len(different) // len(sizes))
    return folds.astype(np.int32)


__all__ = ["PairList", "read_flat_pairs", "read_lfw_pairs", "read_people"]
