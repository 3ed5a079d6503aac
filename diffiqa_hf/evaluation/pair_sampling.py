# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Comparisons of labelled images where no list is published: mated pairs capped a person, non-mated ones drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def sample_pairs(
    identities: ArrayLike, mated_per_person: int | None = 20, num_nonmated: int = 100_000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """
    All mated pairs, of each person at most so many, and so many non-mated pairs.

    Both are drawn uniformly and without replacement, in an order that `numpy.random.RandomState(seed)` gives: its
    stream is frozen, so that a seed means the same pairs in years. Without the cap a person with 100 images has 4,950
    pairs and one with two has one, and the curve is that of the former.

    Args:
        identities: (I,) labels of any kind.
        mated_per_person: At most so many mated pairs of each person; `None`: all of them.
        num_nonmated: Non-mated pairs; all of them where there are no more.
        seed: Of the draw.

    Returns:
        (P, 2) int32 positions, the mated pairs first, the smaller position first in each; and (P,) whether mated.

    Raises:
        ValueError: Nobody has two images, or there is one person only.
    """
    random = np.random.RandomState(seed)
    _, firsts, labels, sizes = np.unique(
        np.asarray(identities), return_index=True, return_inverse=True, return_counts=True
    )
    # People in the order of their first images: what they are called is no part of the draw.
    order = np.argsort(firsts)
    labels, sizes = np.argsort(order)[labels], sizes[order]
    if len(sizes) < 2 or sizes.max() < 2:
        what = "nobody has two images" if len(sizes) > 1 else "all images show one person"
        raise ValueError(f"There are no pairs to compare: {what}.")
    mated = []
    for rows in np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1]):
        own = rows[np.stack(np.triu_indices(len(rows), 1), 1)]
        if mated_per_person is not None and len(own) > mated_per_person:
            own = own[np.sort(random.permutation(len(own))[:mated_per_person])]
        mated.append(own)
    same = np.concatenate(mated).astype(np.int32)

    count = len(labels)
    possible = count * (count - 1) // 2 - int((sizes * (sizes - 1) // 2).sum())
    if possible <= 2 * num_nonmated:
        first, second = np.triu_indices(count, 1)
        different = np.flatnonzero(labels[first] != labels[second])
        different = different[np.sort(random.permutation(len(different))[:num_nonmated])]
        drawn = np.stack([first[different], second[different]], 1)
    else:
        codes = np.empty(0, np.int64)
        while len(codes) < num_nonmated:
            ends = np.sort(random.randint(0, count, (2 * num_nonmated, 2)), axis=1).astype(np.int64)
            ends = ends[labels[ends[:, 0]] != labels[ends[:, 1]]]
            codes = np.concatenate([codes, ends[:, 0] * count + ends[:, 1]])
            codes = codes[np.sort(np.unique(codes, return_index=True)[1])]  # each once, in the order of the draw
        codes = codes[:num_nonmated]
        drawn = np.stack([codes // count, codes % count], 1)
    pairs = np.concatenate([same, drawn.astype(np.int32)])
    return pairs, np.arange(len(pairs)) < len(same)


__all__ = ["sample_pairs"]
