# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""FaceQAN: the card."""

from .card import MethodCard
from .words import ON_LFW, PROBING, SEEDED


CARD = MethodCard(
    name="faceqan",
    title="FaceQAN",
    paper="Babnik, Peer and Štruc, FaceQAN: Face Image Quality Assessment Through Adversarial Noise Exploration, "
    "ICPR 2022",
    kind="analytical",
    formula="((1 + mean S) / 2 * clip(1 - std S, 0, 1) * cos(face, mirrored face))^p, S being the l*k cosine "
    "similarities to the face along l steps of the basic iterative method from k random starts",
    raw_range="[0, 1] for all but faces whose mirror image has a negative similarity",
    determinism=SEEDED,
    code_license="MIT",
    checked_against="a float64 rendering in NumPy with gradients by hand (tests/methods/test_formulas.py)",
    notes=(
        "eps is on the [0, 1] scale of the pixels, as in the authors' code; mean and (population) standard "
        "deviation are over all l*k similarities, of which the first k are of the random starts",
        "noisy pixels are clipped to [0, 1]; the authors' code clips to [-1, 1] although its images are in [0, 1] "
        f"(`clip=(-1, 1)` does that); on 16 faces {ON_LFW} the scores differ by .0001 on average, at most .0005, "
        "where their standard deviation is .05 (Spearman correlation .997)",
        "to compare with: the authors' repository has its scores of all 13,233 images of XQLFW "
        "(src/evaluation/xqlfw_results.pkl)",
        "the authors' command line takes -k and -p and never passes them on, so its scores are those of k = 10, "
        "p = 5; with an even p a negative similarity would raise the score",
        "the result of the last step is never embedded, neither here nor there, so its gradient is not computed",
    ),
    options=("eps", "num_steps", "num_starts", "exponent", "clip"),
    method="faceqan:FaceQAN",
    **PROBING,
)

__all__ = ["CARD"]
