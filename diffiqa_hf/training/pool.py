# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The pool of training/make_pool.py, read: its images, what they are, and the labels that FR models give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd


LEVELS = 1001  # quantiles that a rank is told by


@dataclass(frozen=True)
class Pool:
    """
    Args:
        table: A row for each image: `face` (number of the face that it is of, -1 for what is none), `series` (-1: it
            is no copy), `strength`, `kind`, `identity`, `heldout`.
        images (`np.ndarray` of shape `(N, 112, 112, 3)`): RGB, uint8.
        embeddings: Of each FR model, `(N, D)`; not to be read where `kind` is `"non-face"`.
    """

    table: pd.DataFrame
    images: np.ndarray
    embeddings: dict[str, np.ndarray]

    @classmethod
    def open(cls, folder: str | Path, fr_models: Sequence[str]) -> Pool:
        """Of a pool that is still being made, what all of these FR models have embedded: whole series only."""
        folder = Path(folder)
        table = pd.read_parquet(folder / "rows.parquet")
        count = min(int((folder / f"{name}.done").read_text()) for name in ("images", *fr_models))
        singles = int((table["series"] < 0).sum())
        if count < singles:
            raise ValueError(
                f"{folder} has {count} rows that are done; without its {singles} faces it makes no labels"
            )
        if count > singles:
            count -= (count - singles) % int((table["series"] == 0).sum())
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r")[:count] for name in fr_models}
        images = np.load(folder / "images.npy", mmap_mode="r")[:count]
        return cls(table[:count].copy(), images, arrays)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def ranks(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Where each value stands among others, in [0, 1]."""
    levels = np.linspace(0, 1, LEVELS)
    known, place = np.unique(np.quantile(among, levels), return_inverse=True)
    return np.interp(values, known, np.bincount(place, levels) / np.bincount(place))


def leave_one_out(embeddings: np.ndarray, people: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Args:
        embeddings (`np.ndarray` of shape `(N, D)`): Of unit length.
        people (`np.ndarray` of shape `(N,)`): Whose they are.

    Returns:
        The centres of each one's other faces `(N, D)`, of unit length, and whether there are any `(N,)`.
    """
    _, number, counts = np.unique(people, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), embeddings.shape[1]))
    np.add.at(sums, number, embeddings)
    return unit(sums[number] - embeddings), counts[number] > 1


def quality_labels(pool: Pool, norm_weight: float = 0.5) -> np.ndarray:
    """
    Labels (N,) in [0, 1], higher is better: the mean of the FR models' ranks.

    A face: its similarity to the centre of its person's other faces, and in the order of the faces among themselves
    also the norm of its embedding (the faces of people with one image have the norm alone). A copy: its similarity to
    that centre, and to its own clean face times what that one has; of a person with one image, the latter alone. So
    both kinds of people are on one scale. A copy is never better than one that is less damaged in the same way, nor
    than its clean face. What is no face: 0.

    Args:
        norm_weight: Of the norm's rank among the clean faces; the similarity has the rest.
    """
    table = pool.table
    is_face, is_copy = (table["kind"] == "face").to_numpy(), (table["series"] >= 0).to_numpy()
    trained_on = ~table["heldout"].to_numpy()
    face = table["face"].to_numpy()
    count = int(is_face.sum())
    total = np.zeros(len(table))
    for raw in pool.embeddings.values():
        raw = np.asarray(raw, dtype=np.float64)
        clean = raw[:count]
        # dlib's embeddings lie to one side of the origin: their angles are told from their mean.
        middle = clean[trained_on[:count]].mean(0)
        clean_unit = unit(clean - middle)
        centres, has_centre = leave_one_out(clean_unit, table["identity"].to_numpy()[:count])
        similarity = (clean_unit * centres).sum(1)
        # The order among the faces: both ranks where there are both. Then back to a similarity, for the copies.
        norm_rank = ranks(np.linalg.norm(clean, axis=1), np.linalg.norm(clean[trained_on[:count]], axis=1))
        known = has_centre & trained_on[:count]
        similarity_rank = ranks(similarity, similarity[known])
        mixed = np.where(has_centre, (1 - norm_weight) * similarity_rank + norm_weight * norm_rank, norm_rank)
        clean_similarity = np.quantile(similarity[known], ranks(mixed, mixed[known]))

        values = np.zeros(len(table))
        values[:count] = clean_similarity
        own = face[is_copy]
        copies = unit(raw[is_copy] - middle)
        by_face = clean_similarity[own] * (copies * clean_unit[own]).sum(1)
        by_centre = (copies * centres[own]).sum(1)
        values[is_copy] = np.where(has_centre[own], 0.5 * (by_face + by_centre), by_face)
        among = values[trained_on & (is_face | is_copy)]
        total += ranks(values, among)
    labels = total / len(pool.embeddings)
    labels[~is_face & ~is_copy] = 0
    # In the order of the rows a series goes from weak to strong.
    rows = np.flatnonzero(is_copy)
    if len(rows):
        series = labels[rows].reshape(-1, int((table["series"] == table["series"].iloc[rows[0]]).sum()))
        start = labels[face[rows]].reshape(series.shape)[:, :1]
        labels[rows] = np.minimum.accumulate(np.hstack([start, series]), axis=1)[:, 1:].reshape(-1)
    return labels


__all__ = ["Pool", "leave_one_out", "quality_labels", "ranks", "unit"]
