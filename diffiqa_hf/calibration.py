# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
What a score means: its percentile among the faces of stated data, and the FNMR that is to be expected above it.

A score by itself is an arbitrary number, and no threshold carries from one camera to another. A [`Calibration`] is
measured on faces, is valid for the settings that it was measured with, and lies beside a checkpoint as
`calibration.json`.
"""

import json
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .file_utils import file_fault, write_text
from .fingerprints import digest_of


if TYPE_CHECKING:
    import torch


logger = logging.getLogger(__name__)

CALIBRATION_NAME = "calibration.json"
FORMAT = 1
# What every pipeline was measured with whose calibration does not name the scheduler.
UNNAMED_SCHEDULER = {"class": "DDPMScheduler", "num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}
# Percentiles at which the FNMR is measured.
LEVELS = tuple(range(0, 100, 5))
# An FNMR is stated where it rests on this many mated pairs, of this many people, and no pair less: of 100 pairs one
# error is one per cent, and the pairs of one person fail together.
MIN_PAIRS = 100
MIN_IDENTITIES = 10
# More mated pairs than this, and more non-mated ones, are not compared: this many are drawn at random.
MAX_PAIRS = 5_000_000


@dataclass(frozen=True)
class FNMRLevel:
    """
    What the pairs at and above one percentile give.

    Args:
        percentile (`float`): The level, in [0, 100).
        score (`float`): The score at it.
        pairs (`int`): Mated pairs whose worse image has that score or a higher one.
        errors (`int`): Those of them that do not match: false non-matches.
        identities (`int`): People that the pairs are of.
    """

    percentile: float
    score: float
    pairs: int
    errors: int
    identities: int

    @property
    def fnmr(self) -> float:
        """`errors / pairs`; NaN where there are fewer than `MIN_PAIRS` pairs or `MIN_IDENTITIES` people."""
        enough = self.pairs >= MIN_PAIRS and self.identities >= MIN_IDENTITIES
        return self.errors / self.pairs if enough else math.nan


@dataclass(frozen=True)
class Calibration:
    r"""
    Scores to percentiles, and percentiles to the expected FNMR. Made by [`fit_calibration`].

    Args:
        quantiles (`tuple[float, ...]` of length 101): The scores at the percentiles 0, 1, ..., 100 of the faces that
            it was measured on, in ascending order.
        num_faces (`int`): How many faces that were.
        levels (`tuple[FNMRLevel, ...]`): The FNMR table in ascending order; empty where no FNMR was measured.
        fmr (`float`): The false match rate that the threshold is for.
        threshold (`float`, *optional*): Similarity at and above which a pair matches, the same for every level.
        num_nonmated (`int`): Non-mated pairs that the threshold rests on.
        settings (`dict`): What the scores depend on besides the faces, as JSON: the settings of the call, and digests
            of the weights.
        data (`str`): What the faces are, for people.
    """

    quantiles: tuple[float, ...]
    num_faces: int
    levels: tuple[FNMRLevel, ...] = ()
    fmr: float = 1e-3
    threshold: float | None = None
    num_nonmated: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    data: str = ""

    def __post_init__(self):
        quantiles = np.asarray(self.quantiles, dtype=np.float64)
        if quantiles.shape != (101,) or not np.isfinite(quantiles).all() or (np.diff(quantiles) < 0).any():
            raise ValueError("quantiles have to be 101 finite numbers in ascending order")
        numbers = [("num_faces", self.num_faces), ("fmr", self.fmr), ("num_nonmated", self.num_nonmated)]
        numbers += [] if self.threshold is None else [("threshold", self.threshold)]
        numbers += [item for level in self.levels for item in asdict(level).items()]
        for name, value in numbers:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name} has to be a number, not {value!r}")
        if not isinstance(self.settings, Mapping) or not isinstance(self.settings.get("weights", {}), Mapping):
            raise ValueError("settings, and the weights in them, have to be by name")

    # -- scores -------------------------------------------------------------------------------------------------------

    def percentiles(self, scores: ArrayLike) -> np.ndarray:
        """
        Where scores stand among the faces of the calibration, in [0, 100].

        For one of these faces: the per cent of the other ones that score lower, and half of those that score the same.
        So the lowest has 0, the highest 100 (of ten faces, they have 0, 11.1, ..., 88.9, 100), and a score that many
        have in common has the middle of their share. A score between two that occur is interpolated linearly, from
        the end of the lower one's share to the beginning of the higher one's, so that a higher score never has a
        lower percentile. Below all faces it is 0, above all of them 100. A NaN stays one. (Of the faces 101 quantiles
        are stored, which makes it exact to one per cent.)

        Args:
            scores: Array or CPU tensor of any shape.
        """
        values, first, counts = np.unique(self.quantiles, return_index=True, return_counts=True)
        last = first + counts - 1
        scores = np.asarray(scores, dtype=np.float64)
        # The share of each value as a point at its beginning and one at its end; at the value itself, its middle.
        between = np.interp(scores, np.repeat(values, 2), np.stack([first, last], 1).ravel(), left=0.0, right=100.0)
        at = np.minimum(np.searchsorted(values, scores), len(values) - 1)
        return np.where(scores == values[at], (first + last)[at] / 2, between)

    def scores_at(self, percentiles: ArrayLike) -> np.ndarray:
        """The scores at percentiles in [0, 100], of any shape: the other way round."""
        percentiles = np.asarray(percentiles, dtype=np.float64)
        if ((percentiles < 0) | (percentiles > 100)).any():
            raise ValueError("percentiles lie in [0, 100]")
        return np.interp(percentiles, np.arange(101), self.quantiles)

    def to_iso(self, scores: ArrayLike) -> np.ndarray:
        """
        Scores as integers from 0 to 100, higher is better, which is the form that ISO/IEC 29794-1 gives quality
        scores.

        The integer is the percentile of [`percentiles`], rounded to the nearest, halves up; -1 is a score that is NaN,
        as OFIQ marks what it could not assess. So 50 is the median face of the calibration's data. It is neither the
        unified quality score of ISO/IEC 29794-5 nor comparable with another calibration's.

        Returns:
            `np.ndarray` of int64 in the shape of `scores`.
        """
        percentiles = self.percentiles(scores)
        missing = np.isnan(percentiles)
        return np.where(missing, -1, np.floor(np.where(missing, 0.0, percentiles) + 0.5)).astype(np.int64)

    # -- errors -------------------------------------------------------------------------------------------------------

    def level(self, percentile: float) -> FNMRLevel | None:
        """The measured level at or next below a percentile; `None` of NaN, and without an FNMR table."""
        reached = [level for level in self.levels if level.percentile <= percentile]
        return reached[-1] if reached else None

    def expected_fnmr(self, percentiles: ArrayLike) -> np.ndarray:
        """
        The FNMR, at the FMR of `fmr`, of mated pairs whose worse image is at or above a percentile.

        It is that of the measured level at or next below (every 5 per cent), not interpolated, so that it rests on
        the pairs which that level counts. NaN where these are too few (see [`FNMRLevel`]) and without an FNMR table.

        Args:
            percentiles: In [0, 100], of any shape.
        """
        percentiles = np.asarray(percentiles, dtype=np.float64)
        levels = [self.level(value) for value in percentiles.ravel()]
        return np.array([math.nan if x is None else x.fnmr for x in levels]).reshape(percentiles.shape)

    def level_for_fnmr(self, fnmr: float) -> FNMRLevel | None:
        """The lowest level with an expected FNMR of at most `fnmr`, whose `score` is then a threshold, or `None`."""
        return next((level for level in self.levels if level.fnmr <= fnmr), None)

    # -- settings and files -------------------------------------------------------------------------------------------

    def differences(self, settings: Mapping[str, Any]) -> list[str]:
        """
        In which of the calibration's settings others differ, each as `"num_repeats was 4, is 10"`; empty where it
        holds. A digest of weights that is `None` (half precision) is not compared.
        """
        lines = []
        for name, measured in self.settings.items():
            now = settings.get(name)
            if name == "weights":
                for part, digest in measured.items():
                    here = (now or {}).get(part, "")
                    if digest != here and None not in (digest, here):
                        lines.append(f"other weights of {part}")
            elif isinstance(measured, dict) and isinstance(now, Mapping):
                now = json.loads(json.dumps(now))
                for part in dict.fromkeys([*measured, *now]):
                    if measured.get(part) != now.get(part):
                        lines.append(f"{name} {part} was {measured.get(part)}, is {now.get(part)}")
            elif json.loads(json.dumps(now)) != measured:
                lines.append(f"{name} was {measured}, is {now}")
        return lines

    def misfit(self, settings: Mapping[str, Any]) -> str | None:
        """One line that says why there are no percentiles with these settings; `None` where it holds for them."""
        differences = "; ".join(self.differences(settings))
        if not differences:
            return None
        return f"no percentiles: the calibration was measured with other settings ({differences})"

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the file, in plain Python numbers."""
        return {"format": FORMAT, **asdict(self), "quantiles": list(self.quantiles)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """The other way round. Raises `ValueError` for what is no calibration."""
        try:
            values = dict(values)
            if (form := values.pop("format")) != FORMAT:
                raise ValueError(f"it has format {form!r}, this version reads {FORMAT}")
            levels = tuple(FNMRLevel(**level) for level in values.pop("levels"))
            settings = values.get("settings", {})
            if "num_timesteps" in settings:  # of DifFIQA; the first of them did not name its scheduler
                values["settings"] = {"scheduler": UNNAMED_SCHEDULER, **settings}
            return cls(quantiles=tuple(values.pop("quantiles")), levels=levels, **values)
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"not a calibration ({' '.join(str(error).split())})") from error

    def save(self, path: str | os.PathLike) -> None:
        """Writes the JSON file, whole or not at all."""
        write_text(path, json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")

    def save_pretrained(self, save_directory: str | os.PathLike) -> None:
        """Writes `calibration.json` into the folder of a checkpoint."""
        self.save(Path(save_directory) / CALIBRATION_NAME)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> "Calibration":
        """
        The calibration of a checkpoint, by its folder or Hub id, or in a file of any name.

        Args:
            **kwargs: `revision`, `token`, `cache_dir`, `local_files_only`, ... as elsewhere.

        Raises:
            OSError: There is none.
            ValueError: The file is no calibration.
        """
        calibration = find_calibration(pretrained_model_name_or_path, **kwargs)
        if calibration is None:
            raise OSError(f"{os.fspath(pretrained_model_name_or_path)} has no {CALIBRATION_NAME}")
        return calibration


def find_calibration(name_or_path: str | os.PathLike, **kwargs: Any) -> Calibration | None:
    """As [`Calibration.from_pretrained`], and `None` where there is none."""
    if os.path.isdir(name_or_path):
        path: str | os.PathLike = Path(name_or_path) / (kwargs.get("subfolder") or "") / CALIBRATION_NAME
        if not os.path.exists(path):
            return None
    elif os.path.isfile(name_or_path):
        path = name_or_path
    else:
        from transformers.utils import cached_file

        path = cached_file(
            name_or_path,
            CALIBRATION_NAME,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            **kwargs,
        )
        if path is None:
            return None
    if (reason := file_fault(path)) is not None:
        raise ValueError(f"{path} is no calibration: {reason}")
    try:
        return Calibration.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no calibration: {error or 'too deep'}") from error


def weights_digest(model: "torch.nn.Module") -> str | None:
    """16 hexadecimal digits that change with any weight; `None` of a model in half precision, which has others."""
    import torch

    from .inference.network_views import weights_of

    weights = weights_of(model)
    if any(tensor.is_floating_point() and tensor.dtype != torch.float32 for tensor in weights.values()):
        return None
    return digest_of((name, tensor.detach().cpu().numpy()) for name, tensor in sorted(weights.items()))


class CalibrationMixin:
    """
    What a pipeline or method is that may have a [`Calibration`]. It says what its scores depend on, by
    [`calibration_settings`], and which networks they are of, by `_scoring_models`.
    """

    # By a call's settings, what its scores depend on besides the faces and the seed, for [`fit_calibration`]; JSON.
    calibration_settings: Callable[..., dict[str, Any]]

    _calibration: Calibration | None = None
    _warned_of: set[str]

    @property
    def calibration(self) -> Calibration | None:
        """
        What gives the scores their percentiles: the `calibration.json` beside the checkpoint, or one that is set.
        Where a call has other settings, or the networks other weights, than it was measured with, there are no
        percentiles, and a warning says so once. Set it before `enable_folding` and before a change to half precision,
        in which weights can't be compared.
        """
        return self._calibration

    @calibration.setter
    def calibration(self, calibration: Calibration | None) -> None:
        self._calibration = calibration
        self._warned_of = set()
        if calibration is not None:
            self._weight_digests()

    def usable_calibration(self, **settings: Any) -> Calibration | None:
        """The calibration, if it holds for a call with these settings, which [`calibration_settings`] takes."""
        calibration = self.calibration  # another thread may set another one meanwhile
        if calibration is None:
            return None
        misfit = calibration.misfit(self.calibration_settings(**settings))
        if misfit is None:
            return calibration
        warned = self.__dict__.setdefault("_warned_of", set())  # of a method that has its pipeline's none is set yet
        if misfit not in warned:
            logger.warning(misfit)
            warned.add(misfit)
        return None

    def _scoring_models(self) -> "dict[str, torch.nn.Module]":
        raise NotImplementedError

    def _weight_digests(self) -> dict[str, str | None]:
        # Once for each model object, which stays the same through `.to`, compilation and offloading.
        known, digests = self.__dict__.get("_digests", {}), {}
        for name, model in self._own_models().items():
            is_known = name in known and known[name][0] is model
            digests[name] = known[name] if is_known else (model, weights_digest(model))
        self._digests = digests  # at once, for other threads
        return {name: digest for name, (_, digest) in digests.items()}

    def _own_models(self) -> "dict[str, torch.nn.Module]":
        from .inference.network_views import uncompiled

        # What torch.compile has wrapped is the model itself.
        models = {name: model for name, model in self._scoring_models().items() if model is not None}
        return {name: uncompiled(model) for name, model in models.items()}

    @contextmanager
    def _same_weights(self) -> Iterator[None]:
        """What takes the place of a model meanwhile counts as that model: it is a folded copy."""
        digests = {} if self.calibration is None else self._weight_digests()
        yield
        models = self._own_models()
        self._digests = {name: (models[name], digest) for name, digest in digests.items()}


def fit_calibration(
    scores: ArrayLike,
    embeddings: ArrayLike | None = None,
    identities: ArrayLike | None = None,
    *,
    pairs: ArrayLike | None = None,
    fmr: float = 1e-3,
    settings: Mapping[str, Any] | None = None,
    data: str = "",
    seed: int = 0,
) -> Calibration:
    """
    Measures a calibration.

    Args:
        scores: (N,) qualities of faces, higher is better. Faces with NaN are left out.
        embeddings: (N, D) of the same faces, by the FR model that the FNMR is to be expected of. One that is zero or
            not finite is none, and its face is in no pair.
        identities: (N,) strings or numbers, equal for the images of one person; `None`, NaN or an empty string where
            it is not known who it is, and such a face is in no pair. Scores alone give percentiles; with embeddings
            and identities there is an FNMR as well.
        pairs: (P, 2) positions of the images that are compared. By default all are, or, from `MAX_PAIRS` pairs on,
            `MAX_PAIRS` mated and `MAX_PAIRS` non-mated ones, or all where there are no more, drawn at random without
            replacement.
        fmr: False match rate of the similarity threshold, which is that of all the non-mated pairs by the rule
            `"at_most"` of [`~diffiqa_hf.evaluation.fmr_threshold`].
        settings: What the scores depend on, as [`Calibration`] has it.
        data: What the faces are.
        seed: Of the draw of pairs.

    Returns:
        [`Calibration`]

    Raises:
        ValueError: Shapes that do not fit; fewer than two scores that are numbers; embeddings without identities, or
            the reverse.

    Warns:
        UserWarning: There are fewer non-mated pairs than `1 / fmr`, or no mated one, and so no FNMR. Faces are in no
            pair, as it is not known who they are, or they have no embedding.
    """
    scores = np.asarray(scores, dtype=np.float64)
    kept = np.flatnonzero(np.isfinite(scores))
    if scores.ndim != 1 or len(kept) < 2:
        raise ValueError(f"a calibration needs two scores or more, these are {len(kept)} of shape {scores.shape}")
    if (embeddings is None) != (identities is None):
        raise ValueError("embeddings and identities go together")
    quantiles = np.quantile(scores[kept], np.arange(101) / 100)
    known = {
        "quantiles": tuple(quantiles.tolist()),
        "num_faces": len(kept),
        "fmr": fmr,
        # Through JSON, so that it is what a file of it gives back.
        "settings": json.loads(json.dumps(dict(settings or {}))),
        "data": data,
    }
    if embeddings is None:
        return Calibration(**known)

    # Here, because reading a calibration takes none of it.
    from .evaluation.identities import UNKNOWN, identity_codes
    from .evaluation.thresholds import fmr_threshold
    from .evaluation.verification import compare_embeddings

    embeddings, codes = np.asarray(embeddings), identity_codes(identities)[0]
    if codes.shape != scores.shape or embeddings.shape[:1] != scores.shape:
        raise ValueError(f"{len(scores)} scores, embeddings of shape {embeddings.shape}, {len(codes)} identities")
    norms = np.linalg.norm(embeddings.reshape(len(embeddings), -1).astype(np.float64), axis=1)
    embedded = np.isfinite(norms) & (norms > 0)
    known_at = kept[(codes[kept] != UNKNOWN) & embedded[kept]]
    unknown, without = int((codes[kept] == UNKNOWN).sum()), int((~embedded & (codes != UNKNOWN))[kept].sum())
    reasons = [f"it is not known who {unknown:,} of them show"] if unknown else []
    reasons += [f"{without:,} of them have no embedding (it is zero or not finite)"] if without else []
    if reasons:
        warnings.warn(
            f"of {len(kept):,} faces {len(known_at):,} are in the pairs of the FNMR: {', and '.join(reasons)}",
            UserWarning,
            stacklevel=2,
        )
    codes = codes[known_at]
    if pairs is None:
        pairs = _choose_pairs(codes, seed)
    else:
        pairs = np.asarray(pairs)
        pairs = np.searchsorted(known_at, pairs[np.isin(pairs, known_at).all(axis=1)])
    compared = compare_embeddings(embeddings[known_at], codes, pairs)
    nonmated = compared.similarities[~compared.mated]
    needed = math.ceil(1 / fmr - 1e-9)
    if len(nonmated) < needed or not compared.mated.any():
        warnings.warn(
            f"no FNMR: there are {int(compared.mated.sum()):,} mated pairs and {len(nonmated):,} non-mated ones; an "
            f"FMR of {fmr:g} needs {needed:,} non-mated ones",
            UserWarning,
            stacklevel=2,
        )
        return Calibration(**known)
    threshold = fmr_threshold(nonmated, fmr)
    ends = compared.pairs[compared.mated]
    worse = scores[known_at][ends].min(axis=1)
    failed = compared.similarities[compared.mated] < threshold
    levels = []
    for percentile in LEVELS:
        score = quantiles[percentile]
        left = worse >= score
        people = len(np.unique(codes[ends[left, 0]]))
        levels.append(FNMRLevel(percentile, float(score), int(left.sum()), int(failed[left].sum()), people))
    return Calibration(**known, levels=tuple(levels), threshold=float(threshold), num_nonmated=len(nonmated))


def _choose_pairs(codes: np.ndarray, seed: int) -> np.ndarray | None:
    """`None` for all pairs; or of the mated and of the non-mated ones `MAX_PAIRS` each."""
    from .evaluation.pair_sampling import LabelledPairs, draw_numbers

    count = len(codes)
    if count * (count - 1) // 2 <= MAX_PAIRS:
        return None
    everything = LabelledPairs(np.unique(codes, return_inverse=True)[1])
    random = np.random.RandomState(seed)
    mated, nonmated = (
        np.sort(draw_numbers(random, possible, MAX_PAIRS))
        for possible in (everything.num_mated, everything.num_nonmated)
    )
    return np.concatenate([everything.mated(mated), everything.nonmated(nonmated)])


__all__ = [
    "CALIBRATION_NAME",
    "LEVELS",
    "MAX_PAIRS",
    "MIN_IDENTITIES",
    "MIN_PAIRS",
    "Calibration",
    "CalibrationMixin",
    "FNMRLevel",
    "find_calibration",
    "fit_calibration",
    "weights_digest",
]
