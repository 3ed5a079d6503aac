# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""PCNet configuration."""

from ..modeling_face import FaceModelConfig


class PCNetConfig(FaceModelConfig):
    r"""
    Configuration of a [`PCNetForFaceQuality`]. The defaults are the trunk of 18 layers in LightQNet's training code.

    Args:
        depths (`list[int]`, *optional*, defaults to `[1, 2, 2, 1]`):
            Residual blocks of each stage, after the convolution that halves the resolution.
        widths (`list[int]`, *optional*, defaults to `[64, 128, 256, 512]`):
            Channels of each stage. The last is the `embedding_size` as well.
        dropout (`float`, *optional*, defaults to 0.0):
            Probability of the dropout before the last layer.
        crop_size (`list[int]`, *optional*, defaults to `[96, 96]`):
            Height and width of the network's input, multiples of two to the power of the number of stages. The whole
            canonical face is resized to it.

    The other arguments are those of [`FaceModelConfig`]; `normalize_embedding` and `quality_hidden_size` mean nothing
    here.
    """

    model_type = "pcnet"

    crop_size: list[int] | tuple[int, ...] = (96, 96)
    image_std: list[float] | tuple[float, ...] = (128 / 255, 128 / 255, 128 / 255)
    bn_eps: float = 1e-3
    depths: list[int] | tuple[int, ...] = (1, 2, 2, 1)
    widths: list[int] | tuple[int, ...] = (64, 128, 256, 512)
    dropout: float = 0.0

    def __post_init__(self, **kwargs):
        if len(self.depths) != len(self.widths):
            raise ValueError(f"depths and widths have an entry a stage, got {len(self.depths)} and {len(self.widths)}")
        if any(side % 2 ** len(self.depths) for side in self.crop_size):
            raise ValueError(f"crop_size has to be in multiples of {2 ** len(self.depths)}: {list(self.crop_size)}")
        self.embedding_size = self.widths[-1]
        super().__post_init__(**kwargs)


__all__ = ["PCNetConfig"]
