# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What a network of any recipe is measured by, on people held out."""

import argparse
import logging
from pathlib import Path

import numpy as np

from ...calibration import Calibration
from ...evaluation import EDCProtocol, bootstrap_pauc, compare_embeddings, edc_curve
from ...evaluation.pair_sampling import sample_pairs
from ...hub import ResultFacts
from ...image_processing_face import FaceImageError
from ...methods.method import FaceQualityMethod
from ...models import FacePreTrainedModel
from ...scoring.image_columns import as_image
from ..held_out import calibrate_held_out, people_of, predict
from .faces import Faces


logger = logging.getLogger(__name__)


LIMIT = 0.3  # of the pAUC


class Validation:
    """
    Measures the pAUC at a discard fraction of 0.3 on comparisons of the people held out: all mated pairs, up to 20 of
    each person, and so many non-mated ones. Scores are those of `load_method`.
    """

    def __init__(self, dataset, fr_model: FacePreTrainedModel, args: argparse.Namespace):
        self.dataset, self.args = dataset, args
        self.identities = np.array(people_of(dataset, args.identity_column))
        self.protocol = EDCProtocol(fmr=args.validation_fmr, limits=(LIMIT,))
        faces = Faces(dataset, args)
        self.embeddings = predict(fr_model, faces, range(len(faces)), "held out")["embeddings"].numpy()
        pairs, _ = sample_pairs(self.identities, num_nonmated=args.validation_nonmated, seed=0)
        self.comparisons = compare_embeddings(self.embeddings, self.identities, pairs)
        # Now, and not after hours: whether these people can be measured on.
        start = self._curve(np.zeros(len(faces)))
        logger.info(
            f"held out: {start.mated:,} mated and {start.nonmated:,} non-mated pairs, FNMR {start.fnmr:.4f} at FMR "
            f"{args.validation_fmr:g}; the least pAUC that there could be is {start.floor[LIMIT]:.4f}"
        )

    def scores(self, method: FaceQualityMethod) -> np.ndarray:
        """A method's for all faces held out, `(N,)`, which the rest is measured by."""
        images = (as_image(self.dataset[i][self.args.image_column]) for i in range(len(self.dataset)))
        scores = []
        for record in method.stream(images):
            if record.error is not None:
                raise FaceImageError(f"row {record.index} of the people held out: {record.error}")
            scores.append(record.score)
        return np.array(scores)

    def __call__(self, scores: np.ndarray) -> dict[str, float]:
        """The figures by their names."""
        pairs = self.comparisons
        result = self._curve(scores)
        drawn = bootstrap_pauc(
            pairs.similarities,
            pairs.mated,
            {"model": scores},
            self.identities,
            self.protocol,
            pairs=pairs.pairs,
            replicates=self.args.validation_replicates,
        )
        interval = drawn.interval("model", LIMIT)
        name = f"pauc_{LIMIT:g}"
        return {
            name: result.pauc[LIMIT],
            f"{name}_low": interval.low,
            f"{name}_high": interval.high,
            f"{name}_floor": result.floor[LIMIT],
            f"{name}_share": result.share[LIMIT],
            "fnmr": result.fnmr,
        }

    def calibration(self, method: FaceQualityMethod, scores: np.ndarray) -> Calibration | None:
        """What the scores of a method mean among the faces held out; an FNMR by the same pairs as the pAUC."""
        fr_model = Path(self.args.fr_model)
        return calibrate_held_out(
            method,
            scores,
            f"faces of {len(np.unique(self.identities)):,} people",
            self.args,
            embeddings=self.embeddings,
            identities=self.identities,
            embedded_by=f"the FR model `{fr_model.name if fr_model.exists() else self.args.fr_model}`",
            pairs=self.comparisons.pairs,
            fmr=self.args.validation_fmr,
        )

    def results(self, figures: dict[str, float]) -> list[ResultFacts]:
        """The figures for the model card."""
        name = f"pauc_{LIMIT:g}"
        value, low, high = (figures[key] for key in (name, f"{name}_low", f"{name}_high"))
        if not np.isfinite([value, low, high]).all():  # nothing that could be wrong
            return []
        people = len(np.unique(self.identities))
        basis = (
            f"{int(self.comparisons.mated.sum()):,} mated pairs of {people:,} people, floor "
            f"{figures[f'{name}_floor']:.3f}, bootstrap of {self.args.validation_replicates} over people"
        )
        title = f"pAUC at discard {LIMIT:g}, FMR {self.args.validation_fmr:g}"
        return [ResultFacts("pauc", title, value, "people held out", low, high, 0.95, basis)]

    def _curve(self, scores: np.ndarray):
        pairs = self.comparisons
        return edc_curve(pairs.similarities, pairs.mated, scores, self.protocol, pairs=pairs.pairs)


__all__ = ["LIMIT", "Validation"]
