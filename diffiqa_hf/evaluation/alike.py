# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""People who look like one person under two names, whose comparisons would count as false matches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


MAX_IMAGES = 20_000  # that are compared; of more, the first of each person


@dataclass
class AlikePeople:
    """
    Two names.

    Args:
        names: Of the two.
        similarity (`float`): Mean cosine of all comparisons between them, in [-1, 1].
        images: Positions of the two images that are most alike.
    """

    names: tuple[str, str]
    similarity: float
    images: tuple[int, int]


def alike_people(embeddings: ArrayLike, identities: Sequence[str | None]) -> list[AlikePeople]:
    """
    The pairs of names whose images are as similar, in the mean, as comparisons within a name are (all but the least
    similar twentieth of these), and stand out of what is usual between two names.

    Args:
        embeddings: (N, D); one of length zero is none.
        identities: (N,), `None` where it is not known who it is.

    Returns:
        The most alike first; empty where no name has two images.
    """
    embeddings = np.asarray(embeddings, np.float32)
    norms = np.linalg.norm(embeddings, axis=1)
    at = np.array([i for i, name in enumerate(identities) if name is not None and norms[i] > 0], dtype=int)
    if len(at) < 2:
        return []
    names, codes = np.unique([identities[i] for i in at], return_inverse=True)
    order = np.argsort(codes, kind="stable")
    if len(order) > MAX_IMAGES:
        # As many of each as there is room for.
        rank = np.arange(len(order)) - np.searchsorted(codes[order], codes[order])
        order = np.sort(order[np.argsort(rank, kind="stable")[:MAX_IMAGES]])
        order = order[np.argsort(codes[order], kind="stable")]
    at, codes = at[order], codes[order]
    unit = embeddings[at] / norms[at, None]
    starts = np.searchsorted(codes, np.arange(len(names)))
    sizes = np.bincount(codes, minlength=len(names))
    # The sum of all cosines between two names is the product of the sums of their embeddings.
    sums = np.add.reduceat(unit, np.minimum(starts, len(unit) - 1)) * (sizes > 0)[:, None]
    within = np.concatenate(
        [
            (own @ own.T)[np.triu_indices(len(own), 1)]
            for own in (unit[start : start + min(size, 200)] for start, size in zip(starts, sizes, strict=True))
        ]
    )
    if not len(within):
        return []
    limit = _limit(within, sums, sizes)
    found = []
    for first in range(len(names)):
        means = sums[first] @ sums[first + 1 :].T / np.maximum(sizes[first] * sizes[first + 1 :], 1)
        for second in first + 1 + np.flatnonzero((means >= limit) & (sizes[first + 1 :] > 0) & (sizes[first] > 0)):
            mine = slice(starts[first], starts[first] + sizes[first])
            others = slice(starts[second], starts[second] + sizes[second])
            between = unit[mine] @ unit[others].T
            i, j = np.unravel_index(int(between.argmax()), between.shape)
            pair = int(at[mine][i]), int(at[others][j])
            found.append(AlikePeople((str(names[first]), str(names[second])), float(between.mean()), pair))
    return sorted(found, key=lambda alike: -alike.similarity)


def _limit(within: np.ndarray, sums: np.ndarray, sizes: np.ndarray) -> float:
    """From which mean similarity on two names look like one person."""
    low, middle = np.quantile(within, [0.05, 0.5])
    some = np.linspace(0, len(sums) - 1, min(len(sums), 2_000)).astype(int)
    means = (sums[some] @ sums[some].T / np.maximum(np.outer(sizes[some], sizes[some]), 1))[
        np.triu_indices(len(some), 1)
    ]
    usual = np.median(means)
    if usual >= low:  # most of the names are one person's
        return float(low)
    # Of half a million pairs of people, the similarities of a normal distribution come to five standard deviations.
    spread = 1.4826 * np.median(np.abs(means - usual))
    return float(np.clip(usual + 6 * spread, low, middle))


__all__ = ["AlikePeople", "alike_people"]
