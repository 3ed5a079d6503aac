# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""PCNet: the card."""

from .card import MethodCard
from .words import ON_LFW, OUR_CLIPPING, REGRESSION


CARD = MethodCard(
    name="pcnet",
    title="PCNet",
    paper="Xie, Byrne and Zisserman, Inducing Predictive Uncertainty Estimation for Face Recognition, BMVC 2020",
    formula="sigmoid of one linear layer on the mean of the last feature map of an 18-layer residual network, "
    "trained so that the lower one of two faces of a person is their cosine similarity",
    input="96x96 of the same crop, RGB, (x - 127.5) / 128; other sizes are resized",
    raw_range="(0, 1)",
    code_license="none published",
    weights_license="none published",
    weights_source="none published: your own training (`training/train_quality.py`)",
    checked_against="network and loss in NumPy and float64 (tests/methods/test_formulas_more.py); nothing is "
    "published to compare with, so results are to be named re-trained",
    notes=(
        "what the paper says of its network beyond a light ResNet was not at hand: trunk, input size and the "
        "sigmoid are those of the ResNet-18 in https://github.com/KaenChan/lightqnet-train, which normalises the "
        "last layer as well; that is left out here",
        "lightqnet-train's version of the loss takes the first face's score of each pair for the lower one (see "
        f"lightqnet): of one free number for each of 400 faces {ON_LFW} those with the least of that loss and of "
        "the paper's differ by .054 on average (standard deviation .13) with a Spearman correlation of .87, and "
        "the paper's loss is .0059 at the former, .0035 at the latter",
        "the similarities that it learns are of one FR model, and with them what it calls quality",
    ),
    training=(
        "`training/train_quality.py --recipe pcnet`",
        "the paper's own settings were not at hand: rate, steps and batch are those of lightqnet-train's "
        "configuration of PCNet's loss, which trains a MobileNetV3-Small, taught by a branch on the FR model "
        "(weight 20)",
        "the ResNet-18 alone, without a teacher, is ours; LightQNet's paper has PCNet as a ResNet-18 in its table "
        "of times",
        OUR_CLIPPING,
    ),
    networks=("PCNetForFaceQuality",),
    **{**REGRESSION, "method": "pcnet:PCNetMethod"},
)

__all__ = ["CARD"]
