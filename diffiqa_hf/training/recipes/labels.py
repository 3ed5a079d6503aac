# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Quality labels that are made of embeddings and identities alone: those of SDD-FIQA and FaceQnet, and the similarity to
the centre of the person.
"""

import numpy as np
from numpy.typing import ArrayLike


def sdd_fiqa_labels(
    embeddings: ArrayLike, identities: ArrayLike, num_pairs: int = 24, num_rounds: int = 12, seed: int = 0
) -> np.ndarray:
    """
    SDD-FIQA's labels: how far the similarities of a face to others of its person lie above those to other people.

    Ou et al., CVPR 2021 (https://github.com/Tencent/TFace, branch quality). In each round a face is compared with
    `num_pairs` others of its person (with all, where there are fewer) and with `num_pairs` faces of other people,
    drawn without replacement; its raw label is the mean over the rounds of the Wasserstein distance between the two
    sets of cosine similarities. Raw labels are scaled so that the lowest is 0 and the highest 100. (The authors' code
    scales the labels of each round by themselves and averages then.)

    Args:
        embeddings: (N, D), normalised or not.
        identities: (N,) labels of any kind.
        num_pairs: Pairs of each kind in a round (the paper's 24).
        num_rounds: The paper's 12.
        seed: Of the draws.

    Returns:
        (N,) float64 in [0, 100]; NaN for a person's only face.

    Raises:
        ValueError: Shapes that do not fit, an embedding that is zero or not finite, nobody with two faces, somebody
            with fewer than `num_pairs` faces of others, or labels that are all equal.
    """
    unit, people = _unit(embeddings, identities)
    if num_pairs < 1 or num_rounds < 1:
        raise ValueError(f"num_pairs and num_rounds are at least 1, got {num_pairs} and {num_rounds}")
    rng = np.random.default_rng(seed)
    # A person's faces side by side: those of others are then all but a slice.
    order = np.argsort(people, kind="stable")
    unit = unit[order]
    raw = np.full(len(unit), np.nan)
    start = 0
    for count in np.bincount(people):
        stop, others = start + count, len(unit) - count
        if count > 1:
            if others < num_pairs:
                raise ValueError(f"{num_pairs} pairs with other people are asked for, there are {others}")
            own = unit[start:stop] @ unit[start:stop].T
            own = own[~np.eye(count, dtype=bool)].reshape(count, count - 1)
            distances = np.zeros(count)
            for _ in range(num_rounds):
                # Without replacement: the first columns of a random order of each row.
                chosen = rng.random(own.shape).argsort(1)[:, :num_pairs]
                mated = np.take_along_axis(own, chosen, 1)
                drawn = np.stack([rng.choice(others, num_pairs, replace=False, shuffle=False) for _ in range(count)])
                drawn += count * (drawn >= start)
                nonmated = np.einsum("nd,nkd->nk", unit[start:stop], unit[drawn])
                distances += wasserstein_distances(mated, nonmated)
            raw[start:stop] = distances / num_rounds
        start = stop
    labels = np.empty_like(raw)
    labels[order] = _scaled(raw)
    return 100 * labels


def wasserstein_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """
    First Wasserstein distances between the rows of two arrays, each row a set of equally likely numbers: the area
    between their cumulative distributions.

    Args:
        first, second: (N, A) and (N, B).

    Returns:
        (N,)
    """
    values = np.concatenate([first, second], 1)
    order = values.argsort(1, kind="stable")
    steps = np.where(order < first.shape[1], 1 / first.shape[1], -1 / second.shape[1])
    widths = np.diff(np.take_along_axis(values, order, 1), axis=1)
    return (np.abs(steps.cumsum(1))[:, :-1] * widths).sum(1)


def reference_labels(embeddings: ArrayLike, identities: ArrayLike, references: ArrayLike) -> np.ndarray:
    """
    FaceQnet's labels: the cosine similarity of a face to the reference face of its person, scaled so that the lowest
    is 0 and the highest 1.

    Hernandez-Ortega et al., ICB 2019. The paper's references are the faces that comply best with ICAO's rules, by a
    framework that is not public, and its similarities are FaceNet's.

    Args:
        embeddings: (N, D), normalised or not.
        identities: (N,) labels of any kind.
        references: (N,) for each face the position of its person's reference, -1 where there is none.

    Returns:
        (N,) float64 in [0, 1]; NaN for the references themselves, and where there is none.

    Raises:
        ValueError: Shapes that do not fit, an embedding that is zero or not finite, a reference that shows another
            person, or labels that are all equal.
    """
    unit, people = _unit(embeddings, identities)
    references = np.asarray(references)
    if references.shape != people.shape:
        raise ValueError(f"references have the shape {people.shape}, got {references.shape}")
    rows = np.arange(len(unit))
    has = (references >= 0) & (references != rows)
    if (people[references[has]] != people[has]).any():
        raise ValueError("a reference shows another person")
    raw = np.full(len(unit), np.nan)
    raw[has] = np.einsum("nd,nd->n", unit[has], unit[references[has]])
    return _scaled(raw)


def centre_labels(
    embeddings: ArrayLike, identities: ArrayLike, sources: ArrayLike | None = None, clean: ArrayLike | None = None
) -> np.ndarray:
    r"""
    How near a face, degraded perhaps, is to the centre of its person: the cosine similarity to the mean of the unit
    embeddings of the person's clean faces, without the face itself and without the one that it is a copy of,

    $$q_i = \cos\Big(e_i, \sum_{j \in C_i} \frac{e_j}{\lVert e_j \rVert}\Big),\quad
    C_i = \{j : j \text{ is clean and of the person of } i, s_j \ne s_i\}$$

    with the source s of each face. Without the exclusion a person's few faces would be near a centre that they make
    themselves, and a copy near its original. It is a choice of this package; eDifFIQA (Babnik et al., TBIOM 2024)
    moves DifFIQA's labels towards the similarity to a centre that the face itself may be part of.

    A person's faces are in memory at a time, so that `embeddings` may be a memory-mapped file.

    Args:
        embeddings: (N, D), normalised or not.
        identities: (N,) labels of any kind.
        sources: (N,) labels of any kind, equal for a face and its copies. Without them each face is its own.
        clean: (N,) bool, which faces centres are made of. Without it all of them.

    Returns:
        (N,) float64 in [-1, 1], higher is better; NaN where no other face is left, or where the rest has the mean 0.

    Raises:
        ValueError: Shapes that do not fit, or an embedding that is zero or not finite.
    """
    embeddings, people = np.asarray(embeddings), np.unique(np.asarray(identities), return_inverse=True)[1]
    if embeddings.ndim != 2 or people.shape != embeddings.shape[:1] or not len(embeddings):
        raise ValueError(f"embeddings are (N, D) and identities (N,), got {embeddings.shape} and {people.shape}")
    sources = np.arange(len(people)) if sources is None else np.asarray(sources)
    clean = np.ones(len(people), bool) if clean is None else np.asarray(clean, dtype=bool)
    if not sources.shape == clean.shape == people.shape:
        raise ValueError(f"sources and clean have the shape {people.shape}, got {sources.shape} and {clean.shape}")
    labels = np.full(len(people), np.nan)
    order = np.argsort(people, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(people[order])) + 1):
        unit, own = _unit(embeddings[rows], sources[rows])
        # The sum, and the number, of the clean faces of each source.
        sums, counts = np.zeros((own.max() + 1, unit.shape[1])), np.bincount(own, clean[rows])
        np.add.at(sums, own[clean[rows]], unit[clean[rows]])
        rest = (sums.sum(0) - sums)[own]
        length = np.linalg.norm(rest, axis=1)
        left = (counts.sum() - counts[own] > 0) & (length > 1e-9)  # what rounding leaves of 0 is far below
        labels[rows[left]] = np.einsum("nd,nd->n", unit[left], rest[left]) / length[left]
    return np.clip(labels, -1, 1)


def choose_references(embeddings: ArrayLike, identities: ArrayLike, marked: ArrayLike | None = None) -> np.ndarray:
    """
    A reference face for each person.

    Args:
        embeddings: (N, D), normalised or not.
        identities: (N,) labels of any kind.
        marked: (N,) bool, which faces may be references; who has none of them has no reference. Without it all may.

    Returns:
        (N,) for each face the position of its person's reference, the one of those that may be whose embedding is
        nearest the mean of the person's unit embeddings; -1 where there is none.

    Raises:
        ValueError: Shapes that do not fit, or an embedding that is zero or not finite.
    """
    unit, people = _unit(embeddings, identities)
    marked = np.ones(len(unit), bool) if marked is None else np.asarray(marked, dtype=bool)
    if marked.shape != people.shape:
        raise ValueError(f"the marks have the shape {people.shape}, got {marked.shape}")
    sums = np.zeros((people.max() + 1, unit.shape[1]))
    np.add.at(sums, people, unit)
    nearness = np.where(marked, np.einsum("nd,nd->n", unit, sums[people]), -np.inf)
    # The last of a person's faces in this order is the nearest; the lower position where several are.
    order = np.lexsort((-np.arange(len(unit)), nearness, people))
    last = np.flatnonzero(np.append(np.diff(people[order]) > 0, True))
    best = order[last]
    return np.where(marked[best], best, -1)[people]


def _unit(embeddings: ArrayLike, identities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Unit embeddings in float64, and people as whole numbers from 0."""
    embeddings = np.asarray(embeddings, dtype=np.float64)
    people = np.unique(np.asarray(identities), return_inverse=True)[1]
    if embeddings.ndim != 2 or people.shape != embeddings.shape[:1] or not len(embeddings):
        raise ValueError(f"embeddings are (N, D) and identities (N,), got {embeddings.shape} and {people.shape}")
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise ValueError("an embedding is zero or not finite")
    return embeddings / norms, people


def _scaled(raw: np.ndarray) -> np.ndarray:
    """To [0, 1]; NaN stays."""
    if np.isnan(raw).all():
        raise ValueError("there is no face with another of its person, so there are no labels")
    low, high = np.nanmin(raw), np.nanmax(raw)
    if low == high:
        raise ValueError(f"all labels are equal ({low}): there is nothing to learn")
    return (raw - low) / (high - low)


__all__ = ["centre_labels", "choose_references", "reference_labels", "sdd_fiqa_labels", "wasserstein_distances"]
