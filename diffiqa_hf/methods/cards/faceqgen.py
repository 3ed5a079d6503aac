# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""FaceQgen: the card."""

from .card import MethodCard
from .words import CANONICAL, REGRESSION


CARD = MethodCard(
    name="faceqgen",
    title="FaceQgen",
    paper="Hernandez-Ortega, Fierrez, Serna and Morales, FaceQgen: Semi-Supervised Deep Learning for Face Image "
    "Quality Assessment, FG 2021",
    formula="structural similarity of the face and the one that a generator makes of it, trained to give the "
    "person's image of high quality; with `measure` minus their mean squared difference, or the probability that "
    "the discriminator gives the restored face",
    input=CANONICAL,
    raw_range="ssim [-1, 1], mse [-1, 0] with its sign turned, discriminator (0, 1)",
    code_license="none published",
    weights_license="none published",
    weights_source="none published (the model that https://github.com/javier-hernandezo/FaceQgen links is "
    "FaceQnet v0): your own training (`training/train_quality.py`)",
    checked_against="structural similarity and the other two measures in NumPy and float64 "
    "(tests/methods/test_formulas_more.py); nothing is published to compare with, so results are to be named "
    "re-trained",
    notes=(
        "the authors' repository holds FaceQnet's script and link and no GAN, so there is no converter",
        "what the paper says of the networks, the weights of the losses and what the discriminator is shown was "
        "not at hand: generator and discriminator are those of pix2pix, the latter shown the restored face alone",
        "DifFIQA's paper gives it and FaceQnet the same running time to four digits, so the numbers there may not "
        "be of a GAN",
    ),
    training=(
        "`training/train_quality.py --recipe faceqgen`",
        "by its abstract it is trained from scratch on SCface, with one image of high quality for each person",
        "networks, losses, their weights, optimiser and rate are pix2pix's; batch, epochs and the clipping of the "
        "gradient's norm at 5 are ours",
        "`--reference_column` says which images are of high quality; without it the face nearest the person's "
        "mean embedding is taken",
    ),
    networks=("FaceQgenForFaceQuality",),
    options=("measure",),
    **{**REGRESSION, "kind": "analytical", "method": "faceqgen:FaceQgen", "one_pass": False},
)

__all__ = ["CARD"]
