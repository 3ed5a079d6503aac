# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""insightface's arcface_torch IResNets (ArcFace, CosFace). Our module names are theirs; the sizes are read off."""

import torch

from ..models import IResNetConfig


def convert_insightface_iresnet(
    state_dict: dict[str, torch.Tensor],
) -> tuple[IResNetConfig, dict[str, torch.Tensor]]:
    """
    Args:
        state_dict: A bare state dict of arcface_torch's `iresnet*` (RGB, (x / 255 - 0.5) / 0.5).

    Returns:
        The configuration and the state dict of an [`IResNetModel`].
    """
    blocks = {tuple(name.split(".")[:2]) for name in state_dict if name.startswith("layer")}
    stages = sorted({stage for stage, _ in blocks})
    config = IResNetConfig(
        depths=[sum(stage == name for name, _ in blocks) for stage in stages],
        widths=[state_dict[f"{stage}.0.conv1.weight"].shape[0] for stage in stages],
        embedding_size=state_dict["fc.weight"].shape[0],
    )
    return config, dict(state_dict)
