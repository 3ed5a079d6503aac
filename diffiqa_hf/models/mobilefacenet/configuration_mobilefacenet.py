# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""MobileFaceNet configuration."""

from ..modeling_face import FaceModelConfig


class MobileFaceNetConfig(FaceModelConfig):
    r"""
    Configuration of a [`MobileFaceNetModel`]. The defaults are the network of the paper (Chen et al., CCBR 2018,
    Table 1).

    Args:
        stem_width (`int`, *optional*, defaults to 64):
            Channels of the first convolution, which halves the resolution.
        stem_groups (`int`, *optional*, defaults to 64):
            Groups of the second 3x3 convolution: `stem_width` makes it depthwise.
        stem_pointwise (`bool`, *optional*, defaults to `False`):
            Whether a 1x1 convolution follows it.
        stages (`list[list[int]]`):
            Rows of (hidden channels, output channels, number of blocks, stride of the first block). Blocks with
            stride 1 that keep the width are residual.
        feature_width (`int`, *optional*, defaults to 512):
            Channels before the global depthwise convolution.
        embedding_bias (`bool`, *optional*, defaults to `False`):
            Whether the last linear layer has a bias.
        hidden_act (`str`, *optional*, defaults to `"prelu"`):
            `"prelu"`, or `"relu6"`.

    The other arguments are those of [`FaceModelConfig`].
    """

    model_type = "mobilefacenet"

    embedding_size: int = 128
    stem_width: int = 64
    stem_groups: int = 64
    stem_pointwise: bool = False
    stages: list[list[int]] | tuple[tuple[int, ...], ...] = (
        (128, 64, 5, 2),
        (256, 128, 1, 2),
        (256, 128, 6, 1),
        (512, 128, 1, 2),
        (256, 128, 2, 1),
    )
    feature_width: int = 512
    embedding_bias: bool = False
    hidden_act: str = "prelu"

    def __post_init__(self, **kwargs):
        if self.hidden_act not in ("prelu", "relu6"):
            raise ValueError(f"hidden_act is 'prelu' or 'relu6', not {self.hidden_act!r}")
        super().__post_init__(**kwargs)


__all__ = ["MobileFaceNetConfig"]
