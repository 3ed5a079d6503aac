# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The pool of training/make_pool.py, read: its images, what they are, and the labels that FR models give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd


MIRRORED = "-mirrored"  # the end of the name of an FR model's embeddings of the mirrored images
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


def quality_labels(
    pool: Pool,
    norm_of: Sequence[str] = (),
    norm_weight: float = 0.15,
    scores_of: str | None = None,
    scores_weight: float = 0.4,
    mirrored_weight: float = 0.0,
) -> np.ndarray:
    """
    Labels (N,) in [0, 1], higher is better: the mean of the FR models' ranks.

    A face: its similarity to the centre of its person's other faces. The order of the faces among themselves has a
    part of the norms of some models' embeddings and of a quality network's score; the faces of people with one image
    have these alone. A copy: its similarity to that centre, and to its own clean face times what that one has; of
    a person with one image, the latter alone. So both kinds of people are on one scale. That score's rank among
    all faces and copies is a part of every label. A copy is never better than one that is less damaged in the same
    way, nor than its clean face. What is no face: 0.

    Args:
        norm_of: FR models whose norms are used. Not every one's says anything: dlib's is no better than random.
        norm_weight: Of each norm's rank, and of the score's, each, in the order of the faces; the similarity has the
            rest.
        scores_of: A quality network's scores, in the pool by this name, none of its embeddings.
        scores_weight: Of the score's rank in a label.
        mirrored_weight: In a label, of how far the FR models' embeddings move when the picture is mirrored, as in
            DifFIQA; the pool has `NAME-mirrored` of each.
    """
    table = pool.table
    is_face, is_copy = (table["kind"] == "face").to_numpy(), (table["series"] >= 0).to_numpy()
    trained_on = ~table["heldout"].to_numpy()
    face = table["face"].to_numpy()
    people = table["identity"].to_numpy()
    count = int(is_face.sum())
    known_faces = trained_on[:count]
    # What says something of a face whose person has no other.
    alone = []
    for name in norm_of:
        norms = np.linalg.norm(np.asarray(pool.embeddings[name][:count], dtype=np.float64), axis=1)
        alone.append(ranks(norms, norms[known_faces]))
    if scores_of is not None:
        scored = np.asarray(pool.embeddings[scores_of], dtype=np.float64)[:, 0]
        alone.append(ranks(scored[:count], scored[:count][known_faces]))
    models = [name for name in pool.embeddings if name != scores_of and not name.endswith(MIRRORED)]
    learnt_from = trained_on & (is_face | is_copy)
    total, stays = np.zeros(len(table)), np.zeros(len(table))
    for name in models:
        raw = np.asarray(pool.embeddings[name], dtype=np.float64)
        # dlib's embeddings lie to one side of the origin: their angles are told from their mean.
        middle = raw[:count][known_faces].mean(0)
        placed = unit(raw - middle)
        clean = placed[:count]
        centres, has_centre = leave_one_out(clean, people[:count])
        similarity = (clean * centres).sum(1)
        known = has_centre & known_faces
        if alone:
            # Ranks are mixed, and become similarities again, for the copies.
            others = np.mean(alone, axis=0)
            weight = norm_weight * len(alone)
            mixed = (1 - weight) * ranks(similarity, similarity[known]) + weight * others
            mixed = np.where(has_centre, mixed, others)
            similarity = np.quantile(similarity[known], ranks(mixed, mixed[known]))
        else:
            similarity = np.where(has_centre, similarity, np.median(similarity[known]))

        values = np.zeros(len(table))
        values[:count] = similarity
        own = face[is_copy]
        copies = placed[is_copy]
        by_face = similarity[own] * (copies * clean[own]).sum(1)
        by_centre = (copies * centres[own]).sum(1)
        values[is_copy] = np.where(has_centre[own], 0.5 * (by_face + by_centre), by_face)
        total += ranks(values, values[learnt_from])
        if mirrored_weight:
            mirrored = unit(np.asarray(pool.embeddings[name + MIRRORED], dtype=np.float64) - middle)
            similarity = (placed * mirrored).sum(1)
            stays += ranks(similarity, similarity[learnt_from]) / len(models)
    labels = total / len(models)
    parts = []
    if scores_of is not None:
        parts.append((scores_weight, ranks(scored, scored[learnt_from])))
    if mirrored_weight:
        parts.append((mirrored_weight, ranks(stays, stays[learnt_from])))
    labels *= 1 - sum(weight for weight, _ in parts)
    for weight, part in parts:
        labels += weight * part
    labels[~is_face & ~is_copy] = 0
    # In the order of the rows a series goes from weak to strong.
    rows = np.flatnonzero(is_copy)
    if len(rows):
        series = labels[rows].reshape(-1, int((table["series"] == table["series"].iloc[rows[0]]).sum()))
        start = labels[face[rows]].reshape(series.shape)[:, :1]
        labels[rows] = np.minimum.accumulate(np.hstack([start, series]), axis=1)[:, 1:].reshape(-1)
    return labels


__all__ = ["Pool", "leave_one_out", "quality_labels", "ranks", "unit"]
