# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Which labelled faces are held out, and what a distilled network is measured by on them."""

import argparse
import logging
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap, rankdata, spearmanr

from ..calibration import Calibration
from ..evaluation import bootstrap_pauc, compare_embeddings, edc_curve
from ..evaluation.verification import Comparisons
from ..hub import ResultFacts
from ..methods.regression import method_of
from ..models import FacePreTrainedModel
from ..scoring.image_columns import DEGRADED_COLUMN
from .data import ROW
from .distillation import BEST_BY, LabelledFaces
from .held_out import HeldOut, calibrate_held_out, people_of, predict, split_halves, split_people
from .labels import read_labels


logger = logging.getLogger(__name__)


MAX_COMPARED = 8000  # faces held out whose pairs, 32 million, are compared for the pAUC


def split_dataset(dataset, args: argparse.Namespace):
    """As [`~diffiqa_hf.training.held_out.split_people`], or by the labels."""
    modulo = args.holdout_modulo
    if not modulo or args.validation_split == "identity":
        return split_people(dataset, args.identity_column, modulo)
    # Of one column the order of the labels themselves.
    ranks = rankdata(read_labels(dataset, args.label_column), axis=0) @ args.label_weights
    order = np.argsort(ranks, kind="stable")
    out = np.zeros(len(order), bool)
    out[order[::modulo]] = True
    train, heldout = (dataset.select(np.flatnonzero(out == part)) for part in (False, True))
    if not len(train):
        raise ValueError(f"--holdout_modulo {modulo} leaves no face to train on")
    return train, heldout, HeldOut.rows(heldout, f"one in {modulo} by the labels")


def find_halves(heldout, args: argparse.Namespace) -> dict[str, np.ndarray]:
    """The rows held out by which `best` is chosen, and those that the card reports on: of other people."""
    if args.validation_split == "label":
        return split_halves([str(row) for row in heldout[ROW]], args.holdout_modulo)
    pairs = None
    if args.validation_embeddings:  # as many as an FMR of 1e-3 takes
        clean = np.ones(len(heldout), bool)
        if DEGRADED_COLUMN in heldout.column_names:
            clean = ~np.array(heldout[DEGRADED_COLUMN], dtype=bool)
        pairs = (clean, 1000)
    return split_halves(people_of(heldout, args.identity_column), args.holdout_modulo, pairs)


class Validation:
    """
    Measures on the faces held out: the mean absolute error to the normalised labels, Spearman's rank correlation with
    them and, with embeddings, the pAUC (the protocol `default` of diffiqa_hf.evaluation) of the comparisons of those
    that are not degraded copies: most of these match nobody, and drown what the others say.

    Args:
        dataset: The faces held out, with their rows of the whole dataset in a column `row`.
        targets (`np.ndarray` of shape `(N,)`): Their normalised labels.
    """

    def __init__(self, dataset, targets: np.ndarray, args: argparse.Namespace):
        self.args, self.faces, self.targets = args, LabelledFaces(dataset, args), targets
        self.comparisons: Comparisons | None = None
        self.identities = np.empty(0, str)  # of each face, where the column is there and needed
        by_person = args.validation_split == "identity" or args.validation_embeddings
        if by_person and args.identity_column in dataset.column_names:
            self.identities = np.array(people_of(dataset, args.identity_column))
        # The faces that are compared and calibrated on: what somebody will score, and no two of them one photo.
        self.clean = np.arange(len(dataset))
        if DEGRADED_COLUMN in dataset.column_names:
            self.clean = np.flatnonzero(~np.array(dataset[DEGRADED_COLUMN], dtype=bool))
        self.has_copies = len(self.clean) < len(dataset)
        if args.validation_embeddings:
            if not len(self.identities):
                raise ValueError(f"--validation_embeddings needs people: there is no column {args.identity_column!r}")
            self.clean = self.clean[:MAX_COMPARED]
            rows = np.array(dataset[ROW])[self.clean]
            self.embeddings = np.load(args.validation_embeddings, mmap_mode="r")[rows]
            self.comparisons = compare_embeddings(self.embeddings, self.identities[self.clean])
            figures = self._pauc(targets)
            logger.info(f"the labels themselves, on the faces held out: {figures}")
            if args.best_by == "pauc" and not np.isfinite(figures[BEST_BY["pauc"][0]]):
                raise ValueError(
                    "--best_by pauc: there is none, because all mated pairs of the faces held out match by "
                    "--validation_embeddings"
                )

    def scores(self, model: FacePreTrainedModel) -> np.ndarray:
        """A model's for all faces held out, `(N,)`, which the rest is measured by."""
        scores = predict(model, self.faces, range(len(self.faces)), "held out")["scores"].numpy()
        if not np.isfinite(scores).all():
            raise FloatingPointError(f"{np.sum(~np.isfinite(scores))} scores of the faces held out are not finite")
        return scores

    def __call__(self, scores: np.ndarray) -> dict[str, float]:
        """The figures by their names."""
        constant = len(np.unique(scores)) == 1 or len(np.unique(self.targets)) == 1
        return {
            "spearman": 0.0 if constant else float(spearmanr(scores, self.targets).statistic),
            "mean_absolute_error": float(np.abs(scores - self.targets).mean()),
            **self._pauc(scores),
        }

    def calibration(self, model: FacePreTrainedModel, scores: np.ndarray) -> Calibration | None:
        """
        What the scores of a model mean, among the faces held out without degraded copies; with embeddings on as many
        as the pAUC.
        """
        args, clean, known = self.args, self.clean, {}
        if self.comparisons is not None:
            known = {"embeddings": self.embeddings, "identities": self.identities[clean]}
        what = "faces without degraded copies" if self.has_copies else "faces"
        if args.validation_split == "identity":  # else people are in both parts
            what += f" of {len(np.unique(self.identities[clean])):,} people"
        embedded_by = f"the embeddings `{Path(args.validation_embeddings or '').name}`"
        return calibrate_held_out(method_of(model), scores[clean], what, args, embedded_by=embedded_by, **known)

    def results(self, scores: np.ndarray, note: str) -> list[ResultFacts]:
        """
        The figures for the card, with 95 % intervals: for the pAUC over people, else over faces. The note goes into
        what they rest on.
        """
        found: list[ResultFacts] = []
        if len(scores) < 2:
            return found
        basis = f"{len(scores):,} faces{note}, bootstrap of 1000 over faces"
        for metric, name, measure in (
            ("spearmanr", "Spearman's correlation with the labels", lambda s, t: spearmanr(s, t).statistic),
            ("mae", "mean absolute error to the labels", lambda s, t: np.abs(s - t).mean()),
        ):
            options = {"n_resamples": 1000, "paired": True, "vectorized": False, "method": "percentile", "rng": 0}
            drawn = bootstrap((scores, self.targets), measure, **options).confidence_interval
            value = measure(scores, self.targets)
            if np.isfinite([value, *drawn]).all():  # not where all scores are equal
                bounds = (float(drawn.low), float(drawn.high), 0.95)
                found.append(ResultFacts(metric, name, float(value), "faces held out", *bounds, basis))
        if self.comparisons is not None:
            pairs = self.comparisons
            # A replicate of 32 million pairs takes seconds.
            replicates = 1000 if len(pairs.mated) < 2_000_000 else 200
            drawn = bootstrap_pauc(
                pairs.similarities,
                pairs.mated,
                {"model": scores[self.clean]},
                self.identities[self.clean],
                pairs=pairs.pairs,
                replicates=replicates,
            )
            people = f"{drawn.identities:,} people{note}"
            basis = f"{pairs.mated.sum():,} mated pairs of {people}, bootstrap of {replicates}"
            for limit in drawn.limits:
                interval = drawn.interval("model", limit)
                if np.isfinite([interval.estimate, interval.low, interval.high]).all():
                    name = f"pAUC at discard {limit:g}, FMR 1e-3"
                    bounds = (interval.low, interval.high, interval.confidence)
                    found.append(ResultFacts("pauc", name, interval.estimate, "people held out", *bounds, basis))
        return found

    def _pauc(self, qualities: np.ndarray) -> dict[str, float]:
        if self.comparisons is None:
            return {}
        pairs = self.comparisons
        result = edc_curve(pairs.similarities, pairs.mated, qualities[self.clean], pairs=pairs.pairs)
        return {f"pauc_{limit:g}": value for limit, value in result.pauc.items()}


__all__ = ["MAX_COMPARED", "Validation", "find_halves", "split_dataset"]
