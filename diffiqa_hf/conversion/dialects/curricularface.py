# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""CurricularFace's IR networks (https://github.com/HuangYG123/CurricularFace): IR-50 and 101."""

import torch

from ...models import IResNetConfig
from .iresnet import convert_ir


def convert_curricularface(state_dict: dict[str, torch.Tensor]) -> tuple[IResNetConfig, dict[str, torch.Tensor]]:
    """
    Args:
        state_dict: A bare state dict of CurricularFace's `IR_*` (RGB, (x / 255 - 0.5) / 0.5).

    Returns:
        The configuration and the state dict of an [`IResNetModel`].

    Raises:
        ValueError: A tensor is missing, is not expected or has another shape; it is named.
    """
    return convert_ir(
        state_dict,
        block=("bn1", "conv1", "prelu", "conv2", "bn3"),
        mid_norm=False,
        shortcut="subsample",
        final_norm_affine=False,
        dropout=0.4,
    )
