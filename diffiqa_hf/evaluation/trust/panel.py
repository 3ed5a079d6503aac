# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The trust panel: does a score fall when the face gets worse, and does it tell what is no face from a face?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from .damages import COPIES, DAMAGES, STRENGTHS, damage
from .non_faces import non_faces


# What each check asks of a method: [`TrustResult.failures`].
SPEARMAN_LIMIT = -0.9
ABOVE_LIMIT = 0.01
PERCENTILE_LIMIT = 5.0
COPY_LIMIT = 0.98


class Failure(NamedTuple):
    """A check that was not passed: of a `"damage"`, `"picture"` or `"copy"`, its name, and what was found."""

    of: str
    name: str
    found: str

    def __str__(self) -> str:
        return f"{self.name}: {self.found}"


@dataclass(frozen=True)
class TrustResult:
    """
    Scores of one method for N faces and all that was made of them. NaN, a picture that the method refuses, counts as
    the lowest score.

    Args:
        clean (`np.ndarray` of shape `(N,)`): Of the faces as they are.
        damaged (`dict[str, np.ndarray]`): Of each kind of damage, `(N, 5)`, the slightest first.
        copies (`dict[str, np.ndarray]`): Of the copies that are as good as the face, `(N,)`.
        non_faces (`dict[str, float]`): Of the pictures that show none.
    """

    clean: np.ndarray
    damaged: dict[str, np.ndarray]
    copies: dict[str, np.ndarray] = field(default_factory=dict)
    non_faces: dict[str, float] = field(default_factory=dict)

    def spearman(self, kind: str) -> np.ndarray:
        """
        (N,): of each face the rank correlation of score and strength, 0 (the clean face) to 5: -1 where every step
        down lowers the score. 0 where all six scores are equal.
        """
        scores = np.column_stack([self.clean, self.damaged[kind]])
        return np.array([_spearman(row, np.arange(len(row))) for row in _lowest_for_nan(scores)])

    def above(self, kind: str) -> float:
        """Share of the faces whose strongest damage has a higher score than the clean face."""
        return float(np.mean(_lowest_for_nan(self.damaged[kind][:, -1]) > _lowest_for_nan(self.clean)))

    def percentiles(self, scores: Any) -> np.ndarray:
        """Percent of the clean faces whose score is at most this one, for scores of any shape; 0 for NaN."""
        scores = np.asarray(scores, float)
        reached = np.searchsorted(np.sort(_lowest_for_nan(self.clean)), scores, side="right")
        return np.where(np.isnan(scores), 0.0, 100.0 * reached / len(self.clean))

    def copy_spearman(self, name: str) -> float:
        """Rank correlation of the scores of the faces and of their copies."""
        return _spearman(_lowest_for_nan(self.clean), _lowest_for_nan(self.copies[name]))

    def failures(
        self,
        spearman: float = SPEARMAN_LIMIT,
        above: float = ABOVE_LIMIT,
        percentile: float = PERCENTILE_LIMIT,
        copies: float = COPY_LIMIT,
    ) -> list[Failure]:
        """
        The checks that it does not pass; there is one for each kind of damage, picture and copy.

        Args:
            spearman: A kind of damage has to have at most this median over the faces.
            above: At most this share of the faces may have a higher score at its strongest.
            percentile: A picture that is no face has to be below this percentile of the clean faces.
            copies: A kind of copy has to have at least this rank correlation.
        """
        found = []
        for kind in self.damaged:
            median, share = float(np.median(self.spearman(kind))), self.above(kind)
            if median > spearman or share > above:
                told = f"Spearman {median:+.2f}, strongest above the clean face in {share:.1%}"
                found.append(Failure("damage", kind, told))
        for name, score in self.non_faces.items():
            if (reached := float(self.percentiles(score))) >= percentile:
                found.append(Failure("picture", name, f"percentile {reached:.0f}"))
        for name in self.copies:
            if (likeness := self.copy_spearman(name)) < copies:
                found.append(Failure("copy", name, f"Spearman {likeness:.3f}"))
        return found

    @property
    def checks(self) -> int:
        """How many there are."""
        return len(self.damaged) + len(self.non_faces) + len(self.copies)

    def summary(self) -> dict[str, Any]:
        """What the report says of it, in plain numbers."""
        damages = {}
        for kind, scores in self.damaged.items():
            each = self.spearman(kind)
            levels = self.percentiles(np.column_stack([self.clean, scores]))
            damages[kind] = {
                "spearman": float(np.median(each)),
                "spearman_quartiles": np.quantile(each, [0.25, 0.75]).tolist(),
                "above": self.above(kind),
                "median_percentiles": np.median(levels, 0).tolist(),
            }
        return {
            "faces": len(self.clean),
            "damages": damages,
            "non_faces": {name: float(self.percentiles(score)) for name, score in self.non_faces.items()},
            "copies": {name: self.copy_spearman(name) for name in self.copies},
            "failures": [str(failure) for failure in self.failures()],
            "checks": self.checks,
        }


def _lowest_for_nan(scores: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(scores), -np.inf, scores)


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    first, second = rankdata(first), rankdata(second)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def run_panel(
    scorer: Any,
    faces: Sequence[np.ndarray],
    *,
    kinds: Sequence[str] = tuple(DAMAGES),
    pictures: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
) -> TrustResult:
    """
    The panel for one method.

    Args:
        scorer: Gives scores for a list of (H, W, 3) uint8 RGB arrays: a pipeline, a method, or a function that returns
            (N,) numbers, higher is better.
        faces: N aligned crops, (H, W, 3) RGB, uint8.
        kinds: Out of `DAMAGES`.
        pictures: That show no face; [`non_faces`] unless given.
        seed: Of the damage, with the place of the face.

    Raises:
        ValueError: There is no face, or the method gives another number of scores.
    """
    if not len(faces):
        raise ValueError("the panel needs faces")
    pictures = non_faces() if pictures is None else pictures
    rows = [score(scorer, made_of(face, seed + at, kinds)) for at, face in enumerate(faces)]
    others = score(scorer, list(pictures.values())) if pictures else []
    return result_of(np.array(rows), dict(zip(pictures, others, strict=True)), kinds)


def made_of(face: np.ndarray, seed: int, kinds: Sequence[str] = tuple(DAMAGES)) -> list[np.ndarray]:
    """The face, its damaged versions and its copies: the pictures of one row of [`result_of`]."""
    damaged = [damage(face, kind, strength, seed) for kind in kinds for strength in STRENGTHS]
    return [face, *damaged, *(copy(face) for copy in COPIES.values())]


def result_of(rows: np.ndarray, others: Mapping[str, float], kinds: Sequence[str] = tuple(DAMAGES)) -> TrustResult:
    """
    The result of scores.

    Args:
        rows: Of each face the scores of what [`made_of`] gives.
        others: Scores of the pictures that show no face.
    """
    damaged = rows[:, 1 : 1 + len(kinds) * len(STRENGTHS)].reshape(len(rows), len(kinds), len(STRENGTHS))
    copies = rows[:, rows.shape[1] - len(COPIES) :]
    return TrustResult(
        rows[:, 0],
        {kind: damaged[:, at] for at, kind in enumerate(kinds)},
        {name: copies[:, at] for at, name in enumerate(COPIES)},
        {name: float(value) for name, value in others.items()},
    )


def score(scorer: Any, images: list[np.ndarray]) -> np.ndarray:
    """(N,) float64 of whatever a method, a pipeline or a function gives for N images."""
    given = scorer(images)
    scores = np.asarray(getattr(given, "scores", given), dtype=np.float64)
    if scores.shape != (len(images),):
        raise ValueError(f"the method gave scores of shape {scores.shape} for {len(images)} images")
    return scores


__all__ = [
    "ABOVE_LIMIT",
    "COPY_LIMIT",
    "PERCENTILE_LIMIT",
    "SPEARMAN_LIMIT",
    "Failure",
    "TrustResult",
    "made_of",
    "result_of",
    "run_panel",
    "score",
]
