# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""AdaFace's IR networks (https://github.com/mk-minchul/AdaFace): IR-18, 34, 50 and 101."""

import torch

from ...models import IResNetConfig
from .iresnet import convert_ir


def convert_adaface(state_dict: dict[str, torch.Tensor]) -> tuple[IResNetConfig, dict[str, torch.Tensor]]:
    """
    Args:
        state_dict: A bare state dict of AdaFace's `build_model("ir_*")` (BGR, (x / 255 - 0.5) / 0.5): of the
            `state_dict` of a published file what is under `model.`, without that prefix.

    Returns:
        The configuration and the state dict of an [`IResNetModel`]. As the original, it gives unit embeddings and
        their norms before.

    Raises:
        ValueError: A tensor is missing, is not expected or has another shape; it is named.
    """
    return convert_ir(
        state_dict,
        block=("bn1", "conv1", "bn2", "prelu", "conv2", "bn3"),
        channel_order="bgr",
        normalize_embedding=True,
        shortcut="subsample",
        final_norm_affine=False,
        dropout=0.4,
    )
