# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Face verification on embeddings: the comparisons that an error-versus-discard curve is made of."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .edc import EDCResult, edc_curve
from .identities import UNKNOWN, identity_codes
from .protocol import EDCProtocol, EDCWarning


@dataclass(frozen=True)
class Comparisons:
    """
    Scored pairs of images.

    Args:
        similarities (`np.ndarray` of shape `(N,)`): Cosine similarities in [-1, 1], float32.
        mated (`np.ndarray` of shape `(N,)`): Whether both images of a pair show one person.
        pairs (`np.ndarray` of shape `(N, 2)`): The two images, int32 positions among the embeddings.
    """

    similarities: np.ndarray
    mated: np.ndarray
    pairs: np.ndarray


def compare_embeddings(
    embeddings: ArrayLike, identities: ArrayLike, pairs: ArrayLike | None = None, *, block: int = 1024
) -> Comparisons:
    """Cosine similarities of given pairs of images, or of all of them.

    Args:
        embeddings: (I, D), normalised or not.
        identities: (I,) labels of any kind, equal for the images of one person. `None`, NaN and empty strings name
            nobody: such an image is in no pair.
        pairs: (N, 2) positions. `None`: each image with each other once, I (I - 1) / 2 pairs of 13 bytes each (13,233
            images of LFW: 1.1 GB).
        block: How many rows are multiplied at once; memory only.

    Raises:
        ValueError: Shapes that do not fit; an embedding that is zero or not finite; a position that does not exist.

    Warns:
        EDCWarning: The same two images are paired more than once, in either order. It is not known who is on some.
    """
    embeddings = np.asarray(embeddings, dtype=np.float32)
    people = identity_codes(identities)[0]
    if embeddings.ndim != 2 or people.shape != embeddings.shape[:1]:
        raise ValueError(f"embeddings must be (I, D) and identities (I,), not {embeddings.shape} and {people.shape}.")
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if len(bad):
        raise ValueError(f"{len(bad)} embeddings are zero or not finite, the first is number {bad[0]}.")
    unit = embeddings / norms
    similarities, pairs = _score_all(unit, block) if pairs is None else _score_pairs(unit, pairs, block)
    np.clip(similarities, -1, 1, out=similarities)  # rounding can leave the range by an ulp
    if (people == UNKNOWN).any():
        kept = (people[pairs] != UNKNOWN).all(axis=1)
        warnings.warn(
            f"It is not known who is on {int((people == UNKNOWN).sum()):,} of {len(people):,} images: "
            f"{int((~kept).sum()):,} of {len(pairs):,} pairs are left out.",
            EDCWarning,
            stacklevel=2,
        )
        similarities, pairs = similarities[kept], pairs[kept]
    return Comparisons(similarities, people[pairs[:, 0]] == people[pairs[:, 1]], pairs)


def _score_all(unit: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    count = len(unit)
    similarities = np.empty(count * (count - 1) // 2, np.float32)
    pairs = np.empty((len(similarities), 2), np.int32)
    at = 0
    for start in range(0, count, block):
        products = unit[start : start + block] @ unit[start:].T
        for row, product in enumerate(products, start):
            here = slice(at, at + count - row - 1)
            similarities[here] = product[row - start + 1 :]
            pairs[here, 0] = row
            pairs[here, 1] = np.arange(row + 1, count)
            at = here.stop
    return similarities, pairs


def _score_pairs(unit: np.ndarray, pairs: ArrayLike, block: int) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.asarray(pairs)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise ValueError(f"pairs must be (N, 2) integers, not {pairs.shape} {pairs.dtype}.")
    if len(pairs) and not 0 <= pairs.min() <= pairs.max() < len(unit):
        raise ValueError(f"pairs has positions from {pairs.min()} to {pairs.max()} for {len(unit)} embeddings.")
    if repeated := repeated_pairs(pairs):
        warnings.warn(f"{repeated:,} of {len(pairs):,} pairs repeat another one.", EDCWarning, stacklevel=3)
    similarities = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), block):
        first, second = pairs[start : start + block].T
        similarities[start : start + block] = np.einsum("nd,nd->n", unit[first], unit[second])
    return similarities, pairs.astype(np.int32)


def repeated_pairs(pairs: np.ndarray) -> int:
    """How many of (N, 2) pairs are there already, in either order."""
    ordered = np.sort(pairs.astype(np.int64), axis=1)
    size = int(ordered.max(initial=0)) + 1
    return len(pairs) - len(np.unique(ordered[:, 0] * size + ordered[:, 1]))


def edc_from_embeddings(
    embeddings: ArrayLike,
    identities: ArrayLike,
    qualities: ArrayLike,
    protocol: str | EDCProtocol = "default",
    *,
    pairs: ArrayLike | None = None,
) -> EDCResult:
    """[`edc_curve`] of the pairs that [`compare_embeddings`] makes; `qualities` is (I,), one for each image."""
    comparisons = compare_embeddings(embeddings, identities, pairs)
    return edc_curve(comparisons.similarities, comparisons.mated, qualities, protocol, pairs=comparisons.pairs)


def error_rates(similarities: ArrayLike, mated: ArrayLike, thresholds: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """FNMR and FMR at one or more thresholds, in the shape of `thresholds`; NaN where there is no pair of the kind.

    A pair matches where its similarity is at or above the threshold. `similarities` and `mated` are (N,).
    """
    similarities, mated = np.asarray(similarities), np.asarray(mated, dtype=bool)
    genuine, impostor = np.sort(similarities[mated]), np.sort(similarities[~mated])
    with np.errstate(invalid="ignore"):
        fnmr = np.searchsorted(genuine, thresholds, side="left") / np.float64(len(genuine))
        fmr = (len(impostor) - np.searchsorted(impostor, thresholds, side="left")) / np.float64(len(impostor))
    return fnmr, fmr
