# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""LightQNet configuration."""

from ..modeling_face import FaceModelConfig


class LightQNetConfig(FaceModelConfig):
    r"""
    Configuration of a [`LightQNetForFaceQuality`]. The defaults are the largest of the three published networks,
    `dm100`; `dm050` and `dm025` differ in their widths.

    Args:
        stem_width (`int`, *optional*, defaults to 16):
            Channels of the first convolution, which keeps the resolution.
        blocks (`list[list[int]]`):
            Rows of (hidden channels, output channels, stride). A block whose hidden width is that of its input does
            not widen; one with stride 1 that keeps the width is residual.
        feature_width (`int`, *optional*, defaults to 576):
            Channels of the last feature map, whose mean the score is made of. It is the `embedding_size` as well.
        crop_size (`list[int]`, *optional*, defaults to `[96, 96]`):
            Height and width of the network's input, multiples of 16. Unlike that of the FR models it is not cut out:
            the whole canonical face is resized to it.

    The other arguments are those of [`FaceModelConfig`]; `normalize_embedding` and `quality_hidden_size` mean nothing
    here.
    """

    model_type = "lightqnet"

    crop_size: list[int] | tuple[int, ...] = (96, 96)
    image_mean: list[float] | tuple[float, ...] = (128 / 255, 128 / 255, 128 / 255)
    image_std: list[float] | tuple[float, ...] = (128 / 255, 128 / 255, 128 / 255)
    bn_eps: float = 2e-5
    stem_width: int = 16
    blocks: list[list[int]] | tuple[tuple[int, ...], ...] = (
        (16, 16, 2),
        (72, 24, 2),
        (88, 24, 1),
        (96, 40, 2),
        (240, 40, 1),
        (240, 40, 1),
        (120, 48, 1),
        (144, 48, 1),
        (288, 96, 2),
        (576, 96, 1),
        (576, 96, 1),
    )
    feature_width: int = 576

    def __post_init__(self, **kwargs):
        if any(side % 16 for side in self.crop_size):
            raise ValueError(f"crop_size has to be in multiples of 16, got {list(self.crop_size)}")
        self.embedding_size = self.feature_width
        super().__post_init__(**kwargs)


__all__ = ["LightQNetConfig"]
