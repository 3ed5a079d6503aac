# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Comparisons of labelled images where no list is published: mated pairs capped a person, non-mated ones drawn.

Pairs have numbers, and those that are drawn are found from their numbers: a person with 8,000 images has 32 million
pairs, which are never all there.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike

from .identities import UNKNOWN, identity_codes
from .protocol import EDCWarning


# Up to so many pairs their numbers are put in random order, of more they are drawn until enough are different. (Which
# of the two decides what a seed means, so that this number stays.)
PERMUTED = 4_000_000


class LabelledPairs:
    """
    The mated and the non-mated pairs of images by number.

    Args:
        labels: (I,) int64 from 0, the person of each image, everybody with one image at least.
    """

    def __init__(self, labels: np.ndarray):
        self.labels = labels
        self.order = np.argsort(labels, kind="stable")
        self.sizes = np.bincount(labels)
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.mated_before = np.concatenate([[0], np.cumsum(self.sizes * (self.sizes - 1) // 2)])
        count = len(labels)
        self.num_mated = int(self.mated_before[-1])
        self.num_nonmated = count * (count - 1) // 2 - self.num_mated
        # How many images come before each one that show the same person.
        self._own_before = np.empty(count, np.int64)
        self._own_before[self.order] = np.arange(count) - self.starts[labels[self.order]]
        later_own = self.sizes[labels] - 1 - self._own_before
        self._nonmated_before = np.concatenate([[0], np.cumsum(np.arange(count)[::-1] - later_own)])

    def mated(self, numbers: np.ndarray) -> np.ndarray:
        """
        (N, 2) positions, the smaller one first, of the mated pairs of these numbers: person by person, and of a person
        in the order of `numpy.triu_indices`.
        """
        person = np.searchsorted(self.mated_before, numbers, side="right") - 1
        first, second = _triangle(numbers - self.mated_before[person], self.sizes[person])
        return np.stack([self.order[self.starts[person] + first], self.order[self.starts[person] + second]], 1)

    def nonmated(self, numbers: np.ndarray) -> np.ndarray:
        """(N, 2) positions of non-mated pairs, numbered by the first image and then by the second."""
        numbers = np.asarray(numbers, np.int64)
        if not len(numbers):
            return np.empty((0, 2), np.int64)
        first = np.searchsorted(self._nonmated_before, numbers, side="right") - 1
        # Which of the images of other people the second one is.
        rank = numbers - self._nonmated_before[first] + first - self._own_before[first]
        second = np.empty(len(numbers), np.int64)
        by_person = np.argsort(self.labels[first], kind="stable")
        people, starts = np.unique(self.labels[first][by_person], return_index=True)
        for person, rows in zip(people, np.split(by_person, starts[1:]), strict=True):
            own = self.order[self.starts[person] : self.starts[person] + self.sizes[person]]
            second[rows] = rank[rows] + np.searchsorted(own - np.arange(len(own)), rank[rows], side="right")
        return np.stack([first, second], 1)


def _triangle(number: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the entries of these numbers above the diagonal of size x size."""
    row = ((2 * size - 1 - np.sqrt((2 * size - 1) ** 2 - 8 * number)) / 2).astype(np.int64)
    before = row * (2 * size - row - 1) // 2
    row -= before > number  # the root may be rounded to either side
    before = row * (2 * size - row - 1) // 2
    row += number - before >= size - row - 1
    before = row * (2 * size - row - 1) // 2
    return row, number - before + row + 1


def draw_numbers(random: np.random.RandomState, possible: int, count: int) -> np.ndarray:
    """`count` of the numbers below `possible`, or all of them where there are no more; different ones, not sorted."""
    if possible <= max(PERMUTED, 2 * count):
        return random.permutation(possible)[:count]
    drawn = np.empty(0, np.int64)
    while len(drawn) < count:
        drawn = np.concatenate([drawn, random.randint(0, possible, 2 * count, dtype=np.int64)])
        drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
    return drawn[:count]


def sample_pairs(
    identities: ArrayLike, mated_per_person: int | None = 20, num_nonmated: int = 100_000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """
    All mated pairs, of each person at most so many, and so many non-mated pairs.

    Both are drawn uniformly and without replacement, in an order that `numpy.random.RandomState(seed)` gives: its
    stream is frozen, so that a seed means the same pairs in years. Without the cap a person with 100 images has 4,950
    pairs and one with two has one, and the curve is that of the former.

    Args:
        identities: (I,) labels of any kind. `None`, NaN and empty strings name nobody: such an image is in no pair.
        mated_per_person: At most so many mated pairs of each person; `None`: all of them.
        num_nonmated: Non-mated pairs; all of them where there are no more.
        seed: Of the draw.

    Returns:
        (P, 2) int32 positions, the mated pairs first, the smaller position first in each; and (P,) whether mated.

    Raises:
        ValueError: Nobody has two images, or there is one person only.

    Warns:
        EDCWarning: It is not known who is on some images.
    """
    random = np.random.RandomState(seed)
    codes = identity_codes(identities)[0]
    images = np.flatnonzero(codes != UNKNOWN)
    if len(images) < len(codes):
        warnings.warn(
            f"It is not known who is on {len(codes) - len(images):,} of {len(codes):,} images: they are in no pair.",
            EDCWarning,
            stacklevel=2,
        )
    _, firsts, labels, sizes = np.unique(codes[images], return_index=True, return_inverse=True, return_counts=True)
    # People in the order of their first images: what they are called is no part of the draw.
    labels = np.argsort(np.argsort(firsts))[labels]
    if len(sizes) < 2 or sizes.max() < 2:
        what = "nobody has two images" if len(sizes) != 1 else "all images show one person"
        raise ValueError(f"There are no pairs to compare: {what}.")
    everything = LabelledPairs(labels)
    numbers = []
    for start, stop in zip(everything.mated_before[:-1].tolist(), everything.mated_before[1:].tolist(), strict=True):
        if mated_per_person is not None and stop - start > mated_per_person:
            numbers.append(start + np.sort(draw_numbers(random, stop - start, mated_per_person)))
        else:
            numbers.append(np.arange(start, stop))
    same = everything.mated(np.concatenate(numbers))

    count, possible = len(labels), everything.num_nonmated
    if possible <= 2 * num_nonmated or possible < count * (count - 1) // 40:
        drawn = everything.nonmated(np.sort(draw_numbers(random, possible, num_nonmated)))
    else:
        # Of any pairs, those that are non-mated: most are.
        found = np.empty(0, np.int64)
        while len(found) < num_nonmated:
            ends = np.sort(random.randint(0, count, (2 * num_nonmated, 2)), axis=1).astype(np.int64)
            ends = ends[labels[ends[:, 0]] != labels[ends[:, 1]]]
            found = np.concatenate([found, ends[:, 0] * count + ends[:, 1]])
            found = found[np.sort(np.unique(found, return_index=True)[1])]  # each once, in the order of the draw
        found = found[:num_nonmated]
        drawn = np.stack([found // count, found % count], 1)
    pairs = images[np.concatenate([same, drawn])].astype(np.int32)
    return pairs, np.arange(len(pairs)) < len(same)


__all__ = ["PERMUTED", "LabelledPairs", "draw_numbers", "sample_pairs"]
