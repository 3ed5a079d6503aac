# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""By which rules an error-versus-discard curve is computed, and those that were published."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any


_CHOICES = {
    "error": ("fnmr", "fmr"),
    "fmr_rule": ("at_most", "index", "nearest", "quantile"),
    "threshold_update": ("fixed", "recomputed"),
    "discard": ("mated", "nonmated", "all", "images"),
    "pair_quality": ("min", "mean", "product", "given"),
    "ties": ("together", "random"),
    "interpolation": ("step", "linear"),
    "nan_quality": ("raise", "lowest"),
}


class EDCWarning(UserWarning):
    """A curve, or a number out of it, that exists but should not be read without care."""


@dataclass(frozen=True)
class EDCProtocol:
    """
    How an EDC is computed. Exactly one of `fmr`, `threshold` and `starting_fnmr` is set, the other two are `None`.

    Args:
        error (`str`): The error rate of the curve, `"fnmr"` or `"fmr"` (the latter with a fixed threshold only).
        fmr (`float`, *optional*): The threshold is that of this false match rate, by `fmr_rule`.
        threshold (`float`, *optional*): The threshold itself.
        starting_fnmr (`float`, *optional*): The threshold is this quantile of the mated similarities, so that the
            curve starts near this FNMR (Schlett et al.).
        fmr_rule (`str`): For n non-mated pairs, similarities in descending order s[0], s[1], ...:

            - `"at_most"`: the lowest threshold with a true FMR of at most `fmr`; just above s[floor(fmr n)].
            - `"index"`: just above s[floor(fmr (n - 1))], MagFace's `eval_quality.py`: n = 3000 has FMR 2/3000.
            - `"nearest"`: of the scores that occur, mated or not, the lowest of those whose FMR (scores at or above)
              is nearest `fmr`; pairs match above it only. CR-FIQA's `erc.py`.
            - `"quantile"`: the quantile 1 - `fmr` with linear interpolation.
        threshold_update (`str`): `"fixed"` on all pairs, or `"recomputed"` on those that are left at each fraction.
        discard (`str`): What leaves, and so what the fraction counts: `"mated"` pairs, `"nonmated"` pairs (where
            `error` is `"fmr"`), `"all"` pairs in one pool, or `"images"`, with which their pairs leave.
        pair_quality (`str`): Quality of a pair from those of its two images: `"min"`, `"mean"`, `"product"`; or
            `"given"` for each pair.
        ties (`str`): Equal qualities leave `"together"`, as soon as the fraction holds all of them; or in `"random"`
            order, where errors and pairs are their expectations over all orders: exact, but for the errors at a
            recomputed threshold where more than 256 sets of units could be left at a point, which are the mean over 2
            to 256 seeded draws of them. The rate is the ratio of the two expectations; that of the rate itself where
            the number of pairs left is no matter of chance (`discard` is `"mated"` or `"nonmated"`).
        step (`float`, *optional*): Grid of fractions 0, step, 2 step, ... below 1, at each of which
            floor(fraction * units) leave. `None`: every distinct quality.
        interpolation (`str`): Between the points of the curve, `"step"` (constant to the right) or `"linear"`.
        limits (`tuple[float, ...]`): Discard fractions in (0, 1] up to which the pAUC is taken.
        divide_by_start, divide_by_limit (`bool`): Divide the pAUC by the rate at fraction 0, and by the limit. With
            both, discarding at random has the expectation 1 at a fixed threshold. At a recomputed one it has not: see
            `random` of [`EDCResult`].
        nan_quality (`str`): `"raise"`, or `"lowest"`: who has no quality leaves first, with a warning.
    """

    error: str = "fnmr"
    fmr: float | None = 1e-3
    threshold: float | None = None
    starting_fnmr: float | None = None
    fmr_rule: str = "at_most"
    threshold_update: str = "fixed"
    discard: str = "mated"
    pair_quality: str = "min"
    ties: str = "together"
    step: float | None = None
    interpolation: str = "step"
    limits: tuple[float, ...] = (0.2, 0.3)
    divide_by_start: bool = True
    divide_by_limit: bool = True
    nan_quality: str = "raise"

    def __post_init__(self):
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}.")
        if sum(value is not None for value in (self.fmr, self.threshold, self.starting_fnmr)) != 1:
            raise ValueError("Set exactly one of fmr, threshold and starting_fnmr, and the other two to None.")
        for name in ("fmr", "starting_fnmr"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise ValueError(f"{name} must lie between 0 and 1, not {value}.")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ValueError(f"threshold must be a finite number, not {self.threshold}.")
        if self.step is not None and not 0 < self.step < 1:
            raise ValueError(f"step must lie between 0 and 1, not {self.step}.")
        object.__setattr__(self, "limits", tuple(float(limit) for limit in self.limits))
        if not self.limits or not all(0 < limit <= 1 for limit in self.limits):
            raise ValueError(f"limits must be discard fractions in (0, 1], not {self.limits}.")
        if self.step is not None and self.interpolation == "step" and min(self.limits) <= self.step:
            raise ValueError(
                f"A limit of {min(self.limits)} lies within the first step of {self.step}: it says nothing."
            )
        if self.discard in ("mated", "nonmated") and (self.discard == "mated") != (self.error == "fnmr"):
            raise ValueError(f"Discarding {self.discard} pairs alone never changes the {self.error.upper()}.")
        if self.discard == "images" and self.pair_quality != "min":
            raise ValueError("Where images are discarded, the quality of a pair is the min of its images'.")
        if self.threshold_update == "recomputed":
            if self.fmr is None or self.error == "fmr" or self.discard == "mated":
                raise ValueError("A recomputed threshold needs fmr, error='fnmr' and discard 'all' or 'images'.")
            if self.fmr_rule == "quantile":
                raise ValueError("fmr_rule 'quantile' is defined for a fixed threshold only.")

    @property
    def target_fmr(self) -> float:
        """The false match rate that the threshold goes by; a `ValueError` where it goes by something else."""
        if self.fmr is None:
            raise ValueError("The protocol has no fmr: its threshold goes by something else.")
        return self.fmr

    @classmethod
    def from_preset(cls, name: str, **changes: Any) -> EDCProtocol:
        """The protocol `name` of `PROTOCOLS`, with some of its fields changed."""
        if name not in PROTOCOLS:
            raise ValueError(f"There is no protocol {name!r}; there are {', '.join(PROTOCOLS)}.")
        return replace(PROTOCOLS[name], **changes)


PROTOCOLS: dict[str, EDCProtocol] = {
    # Threshold of all non-mated pairs, exact steps: nothing depends on a grid or on the order of a sort.
    "default": EDCProtocol(),
    # DifFIQA (Babnik et al., 2023), whose evaluation code is not public; so reconstructed from their figures, which
    # have MagFace's script behind them. Their order of equal qualities is that of a sort; ours is all orders.
    "diffiqa": EDCProtocol(fmr_rule="index", threshold_update="recomputed", discard="all", ties="random", step=0.05),
    # Schlett et al. (2023), github.com/dasec/quality-assessment-evaluation.
    "schlett": EDCProtocol(fmr=None, starting_fnmr=0.05, divide_by_start=False, divide_by_limit=False),
    # CR-FIQA (Boutros et al., 2023), `ERC/erc.py`, whose area is a trapezoidal one over the whole grid.
    "cr-fiqa": EDCProtocol(
        fmr_rule="nearest",
        threshold_update="recomputed",
        discard="all",
        ties="random",
        step=0.05,
        interpolation="linear",
        limits=(0.95,),
        divide_by_start=False,
        divide_by_limit=False,
    ),
}


def measured_kind(protocol: EDCProtocol) -> str:
    return "mated" if protocol.error == "fnmr" else "nonmated"
