# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What a benchmark is once it has been read: images, and which of them are compared. No file is opened here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ...file_utils import printable
from ..identities import UNKNOWN, identity_codes, is_known


if TYPE_CHECKING:
    import datasets


# How the qualities of the images of a template become the quality of the template.
POOLINGS: dict[str, Callable] = {"mean": np.mean, "median": np.median, "min": np.min, "max": np.max}


class BenchmarkError(ValueError):
    """
    A benchmark can't be read; the message is the reason in one line, naming the file (and line) that is wrong.

    Args:
        missing (`tuple[str, ...]`): All files that are named by the protocol and aren't there.
    """

    def __init__(self, message: str, missing: tuple[str, ...] = ()):
        super().__init__(printable(message))
        self.missing = missing


class BenchmarkWarning(UserWarning):
    """What was read differs from what the benchmark should be."""


@dataclass(frozen=True)
class Counts:
    """
    How much of everything a benchmark has, or should have.

    Args:
        images, people, templates, mated, nonmated (`int`, *optional*): `None` where it isn't known (the people of a
            source without identities) or can't be compared.
    """

    images: int | None = None
    people: int | None = None
    mated: int | None = None
    nonmated: int | None = None
    templates: int | None = None

    def differences(self, expected: Counts) -> list[str]:
        """Where this differs from what was `expected`, one phrase each with both numbers."""
        return [
            f"{count:,} {LABELS[label]} where {right:,} are expected"
            for label in LABELS
            if (count := getattr(self, label)) is not None
            and (right := getattr(expected, label)) is not None
            and count != right
        ]


LABELS = {
    "images": "images",
    "people": "people",
    "templates": "templates",
    "mated": "mated pairs",
    "nonmated": "non-mated pairs",
}


@dataclass(frozen=True)
class Benchmark:
    """
    Face images and the comparisons that a benchmark makes of them.

    What is compared are *units*: images, or, where `templates` is given (IJB-C), templates of several images. Scores
    of images become scores of units by [`Benchmark.pool_qualities`], embeddings by [`Benchmark.pool_embeddings`]; both
    return what they are given where units are images.

    Args:
        name (`str`): As in [`BENCHMARKS`].
        images (`datasets.Dataset`): One row an image. Columns: `image` (`datasets.Image`, decoded when read), `file`
            (`str`, its place in the layout), `identity` (`str`, `None` where the source has none); where the layout
            has them `landmarks` (5 points x, y in pixels of this image, in the order of `ARCFACE_TEMPLATE`, or
            `None`), which [`FaceImageProcessor`] aligns with; and for templates `template` and `media` (`int`, the
            ids of the protocol), and `box` (x, y, width, height in pixels) where an image may show several people:
            the face that is meant, which [`crop_to_box`] cuts out. Images are as the layout has them, aligned or not.
        pairs (`np.ndarray` of shape `(P, 2)`): int32, the two units of each comparison: rows of `images`, or positions
            in `templates`.
        mated (`np.ndarray` of shape `(P,)`): bool, whether both show one person.
        folds (`np.ndarray` of shape `(P,)`, *optional*): int32 from 0, the fold of each comparison.
        protocol (`str`): Where the comparisons come from, in a sentence.
        generated (`bool`): Whether we drew the comparisons because no published list exists.
        templates (`np.ndarray` of shape `(T,)`, *optional*): int64, the ids of the templates, ascending.
        pooling (`str`, *optional*): How template quality is pooled, one of `"mean"`, `"median"`, `"min"`, `"max"`;
            `None` where units are images.
        view (`str`, *optional*): Of LFW.
        source (`str`): The kind of layout that was read, and from where.
        expected (`Counts`): What it should have, by Table 1 of the paper where that says it.
        aligned (`bool`): Whether the images are aligned crops; others have to go through a [`FaceImageProcessor`] with
            `do_align=True`.
    """

    name: str
    images: datasets.Dataset
    pairs: np.ndarray
    mated: np.ndarray
    folds: np.ndarray | None = None
    protocol: str = ""
    generated: bool = False
    templates: np.ndarray | None = None
    pooling: str | None = None
    view: str | None = None
    source: str = ""
    expected: Counts = field(default_factory=Counts)
    aligned: bool = True

    def __post_init__(self):
        if (self.templates is None) != (self.pooling is None):
            raise ValueError("templates and pooling are given together or not at all")
        if self.pooling is not None and self.pooling not in POOLINGS:
            raise ValueError(f"pooling is one of {', '.join(POOLINGS)}, not {self.pooling!r}")
        if self.pairs.ndim != 2 or self.pairs.shape[1] != 2 or self.mated.shape != self.pairs.shape[:1]:
            raise ValueError(f"pairs must be (P, 2) and mated (P,), not {self.pairs.shape} and {self.mated.shape}")
        if self.folds is not None and self.folds.shape != self.mated.shape:
            raise ValueError(f"folds must be (P,) as mated, not {self.folds.shape}")

    @property
    def num_units(self) -> int:
        """How many images, or templates, there are to compare."""
        return len(self.images) if self.templates is None else len(self.templates)

    @property
    def counts(self) -> Counts:
        """What it has."""
        identities = set(self.images["identity"][:])
        mated = int(self.mated.sum())
        return Counts(
            images=len(self.images),
            people=None if not is_known(list(identities)).all() else len(identities),
            mated=mated,
            nonmated=len(self.mated) - mated,
            templates=None if self.templates is None else len(self.templates),
        )

    def pool_qualities(self, qualities: ArrayLike) -> np.ndarray:
        """
        Quality of each unit from the quality of each image: for a template the `pooling` of its images.

        The paper doesn't say how it pools; `"mean"` is our default. An image without a score (NaN) is left out of its
        template; a template without any score is NaN.

        Args:
            qualities: (I,), in the order of `images`.

        Returns:
            (U,) float64.

        Raises:
            ValueError: It isn't one number for each image.
        """
        qualities = np.asarray(qualities, dtype=np.float64)
        if qualities.shape != (len(self.images),):
            raise ValueError(f"qualities must be ({len(self.images)},), one for each image, not {qualities.shape}")
        if self.templates is None or self.pooling is None:
            return qualities
        pooled = np.full(len(self.templates), np.nan)
        rows = self._template_rows()
        order = np.argsort(rows, kind="stable")
        order = order[~np.isnan(qualities[order])]
        present, starts = np.unique(rows[order], return_index=True)
        for template, values in zip(present, np.split(qualities[order], starts[1:]), strict=True):
            pooled[template] = POOLINGS[self.pooling](values)
        return pooled

    def pool_embeddings(self, embeddings: ArrayLike) -> np.ndarray:
        """
        Embedding of each unit: for a template the sum over its media (photographs, videos) of the mean over the frames
        of each, as in insightface's IJB evaluation. A frame with a long embedding weighs more; normalise before for
        equal weights.

        Args:
            embeddings: (I, D), in the order of `images`.

        Returns:
            (U, D), float32, not normalised.

        Raises:
            ValueError: It isn't one row for each image.
        """
        embeddings = np.asarray(embeddings, dtype=np.float32)
        if embeddings.ndim != 2 or len(embeddings) != len(self.images):
            raise ValueError(f"embeddings must be ({len(self.images)}, D), one for each image, not {embeddings.shape}")
        if self.templates is None:
            return embeddings
        from scipy.sparse import csr_array

        rows = self._template_rows()
        media = np.unique(np.asarray(self.images["media"][:], dtype=np.int64), return_inverse=True)[1]
        _, inverse, frames = np.unique(rows * (media.max() + 1) + media, return_inverse=True, return_counts=True)
        weights = (1 / frames)[inverse].astype(np.float32)
        shape = len(self.templates), len(embeddings)
        return csr_array((weights, (rows, np.arange(len(rows)))), shape=shape) @ embeddings

    def unit_identities(self) -> np.ndarray:
        """
        A label for the person of each unit, (U,) int64: what a bootstrap over people draws.

        From `identity` where the source has it (that of a template is that of its images); where it has it of some
        units only, each of the others is a person of its own. Of a source without (insightface's packages, and its
        IJB-C) units are taken for one person when mated pairs join them; one person may then count as several, whose
        intervals come out a little too short.
        """
        labels, people = identity_codes(self.unit_people())
        unknown = labels == UNKNOWN
        labels[unknown] = len(people) + np.arange(unknown.sum())
        return labels

    def unit_people(self) -> np.ndarray:
        """
        (U,) the person of each unit as the source calls them, `None` where it doesn't say; of a source that names
        nobody the numbers of those that mated pairs join, see [`Benchmark.unit_identities`].
        """
        identities = self.images["identity"][:]
        people = np.empty(self.num_units, object)
        if not is_known(identities).any():
            from scipy.sparse import coo_array
            from scipy.sparse.csgraph import connected_components

            first, second = self.pairs[self.mated].T
            graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(self.num_units, self.num_units))
            people[:] = connected_components(graph, directed=False)[1].tolist()
            return people
        named = [None if label is None else str(label) for label in identities]
        if self.templates is None:
            people[:] = named
        else:
            people[self._template_rows()] = named
        return people

    def paired_only(self) -> Benchmark:
        """The same comparisons over only the images that take part in one: LFW's View 2 needs 7,701 of 13,233."""
        used, renumbered = np.unique(self.pairs, return_inverse=True)
        pairs = renumbered.reshape(self.pairs.shape).astype(np.int32)
        templates = None if self.templates is None else self.templates[used]
        return replace(self, images=self.images.select(self.image_rows(self.pairs)), templates=templates, pairs=pairs)

    def image_rows(self, pairs: np.ndarray) -> np.ndarray:
        """The images, as ascending rows of `images`, that some of the comparisons (P, 2) are made of."""
        used = np.unique(pairs)
        return used if self.templates is None else np.flatnonzero(np.isin(self._template_rows(), used))

    def _template_rows(self) -> np.ndarray:
        """(I,) position in `templates` of the template of each image."""
        return np.searchsorted(self.templates, np.asarray(self.images["template"][:], dtype=np.int64))


__all__ = ["POOLINGS", "Benchmark", "BenchmarkError", "BenchmarkWarning", "Counts"]
