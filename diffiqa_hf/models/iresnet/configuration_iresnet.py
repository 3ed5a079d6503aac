# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""IResNet configuration."""

from ..modeling_face import FaceModelConfig


class IResNetConfig(FaceModelConfig):
    r"""
    Configuration of an [`IResNetModel`]. The defaults are the 100-layer network of ArcFace and CosFace.

    Args:
        depths (`list[int]`, *optional*, defaults to `[3, 13, 30, 3]`):
            Blocks of each stage: [2, 2, 2, 2] is IResNet-18, [3, 4, 6, 3] 34, [3, 4, 14, 3] 50, [6, 26, 60, 6] 200.
        widths (`list[int]`, *optional*, defaults to `[64, 128, 256, 512]`):
            Channels of each stage. The first block of each halves the resolution.
        dropout (`float`, *optional*, defaults to 0.0):
            Probability of the dropout before the last layer. 0.4 in CurricularFace and MagFace.

    The other arguments are those of [`FaceModelConfig`].
    """

    model_type = "iresnet"

    depths: list[int] | tuple[int, ...] = (3, 13, 30, 3)
    widths: list[int] | tuple[int, ...] = (64, 128, 256, 512)
    dropout: float = 0.0

    def __post_init__(self, **kwargs):
        if len(self.depths) != len(self.widths):
            raise ValueError(f"depths and widths have an entry a stage, got {len(self.depths)} and {len(self.widths)}")
        super().__post_init__(**kwargs)


__all__ = ["IResNetConfig"]
