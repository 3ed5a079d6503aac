# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""SER-FIQ (on the FR model itself): the card."""

from .card import MethodCard
from .words import FR_SOURCE, ON_LFW, PROBING, SEEDED


CARD = MethodCard(
    name="ser-fiq",
    title="SER-FIQ (on the FR model itself)",
    paper="Terhörst, Kolf, Damer, Kirchbuchner and Kuijper, SER-FIQ: Unsupervised Estimation of Face Image "
    "Quality Based on Stochastic Embedding Robustness, CVPR 2020",
    kind="analytical",
    formula="2 * sigmoid(-mean pairwise Euclidean distance of T unit embeddings made with dropout before the last "
    "layer); with `rescale` sigmoid(130 * (that - 0.88))",
    raw_range="(0, 1], in a narrow band: about .88 for the authors' network, .55 to .62 on 100 faces of LFW for a "
    "MobileFaceNet trained on CASIA-WebFace without dropout",
    determinism=SEEDED,
    code_license="CC BY-NC-SA 4.0",
    checked_against="a float64 rendering in NumPy (tests/methods/test_formulas.py); the authors' MXNet network "
    "was not at hand",
    notes=(
        "the mean is over the T(T-1)/2 pairs, as in the authors' code; the paper divides by T^2/2, which changes "
        "the numbers and not the order",
        "values lie close together and that is no fault: `rescale` is the authors' stretching, with constants for "
        "their network alone",
        "`dropout` is .5 unless given: the probability of the FR model's own dropout module is not looked at. "
        "insightface's code for the authors' network has .4",
        "the authors' code (scikit-learn 0.24, in float64) and ser-fiq-pytorch (in float32) take distances by a "
        f"matrix product: on 100 faces {ON_LFW} the scores are the same to 1e-7",
        "ser-fiq-pytorch averages over all T^2 places, of which T(T-1)/2 are filled: on these faces the scores "
        "are .20 higher on average, in the same order",
        "the authors' results are those of LResNet100E-IR with MTCNN's crops; with another FR model it is another "
        "variant and should be named so",
        "XQLFW was put together with SER-FIQ: results on it say nothing",
        "the part of the network before the dropout runs once a face",
    ),
    options=("num_passes", "dropout", "rescale", "layer"),
    method="ser_fiq:SERFIQ",
    **{
        **PROBING,
        "weights_license": "those of the FR model; the authors' network is MIT by their "
        "download_link_license.txt, while insightface, whose it is, allows non-commercial research only",
        "weights_source": f"{FR_SOURCE}; the authors' LResNet100E-IR on Google Drive, linked by "
        "https://github.com/pterhoer/FaceImageQuality (`diffiqa convert --from insightface-mxnet`)",
    },
)

__all__ = ["CARD"]
