# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""ViTNT-FIQA: the card."""

from .card import MethodCard
from .words import DETERMINISTIC, PROBING


CARD = MethodCard(
    name="vitnt-fiqa",
    title="ViTNT-FIQA",
    paper="Ozgur, Caldeira, Chettaoui, Kolf, Huber, Damer and Boutros, ViTNT-FIQA: Training-Free Face Image Quality "
    "Assessment with Vision Transformers, WACVW 2026",
    kind="analytical",
    formula="mean over the patches of 2 / (1 + exp(8 d)), d being the mean distance of the patch's unit tokens from "
    "one block of a vision transformer to the next",
    raw_range="(0, 1]",
    determinism=DETERMINISTIC,
    needs=("fr_model",),
    code_license="CC BY-NC-SA 4.0",
    checked_against="NumPy and float64, and the authors' code on synthetic weights (tests/methods/test_vitnt_fiqa.py)",
    notes=(
        "the FR model has to be a vision transformer; there is none in this package",
        "the defaults are those of the authors' function: all blocks, all patches alike. Their evaluation/run.sh has "
        "`num_blocks=20, attention_weights=True` for CVLface's ViT-B, which has 24 blocks",
        "their `--blocks-to-use` can name any blocks and then leaves the others out of the network; here the first "
        "ones can be chosen, which is the same for those",
        "their script reads with OpenCV and passes BGR on unless `--color-channel RGB` is given, while CVLface's "
        "networks take RGB; here the FR model's own configuration is followed",
    ),
    options=("num_blocks", "attention_weights", "scaling"),
    method="vitnt_fiqa:ViTNTFIQA",
    networks=("FaceViTModel",),
    **{
        **PROBING,
        "weights_license": "those of the FR model; MIT for CVLface's (its code; none is stated for the files apart "
        "from that)",
        "weights_source": "CVLface's ViT-B, https://huggingface.co/minchul/cvlface_adaface_vit_base_webface4m "
        "(`diffiqa convert` takes its model.pt), or insightface's vit_*; there was none at hand",
    },
)

__all__ = ["CARD"]
