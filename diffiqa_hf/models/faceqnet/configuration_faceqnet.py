# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""FaceQnet configuration."""

from ..modeling_face import FaceModelConfig


class FaceQnetConfig(FaceModelConfig):
    r"""
    Configuration of a [`FaceQnetForFaceQuality`]. The trunk of the defaults is that of the published networks. Their
    head is read off the file; the default one is of this package.

    Args:
        depths (`list[int]`, *optional*, defaults to `[3, 4, 6, 3]`):
            Blocks of each stage.
        widths (`list[int]`, *optional*, defaults to `[64, 128, 256, 512]`):
            Inner channels of each stage; its output has four times as many.
        stem_width (`int`, *optional*, defaults to 64):
            Channels of the first convolution.
        head_widths (`list[int]`, *optional*, defaults to `[512]`):
            Widths of the dense layers before the last, which has one output.
        head_acts (`list[str]`, *optional*, defaults to `["relu", "linear"]`):
            What follows each dense layer, the last among them: `"relu"`, `"linear"` or `"sigmoid"`.
        dropout (`float`, *optional*, defaults to 0.0):
            Probability of the dropout before the first dense layer, which v1 of FaceQnet has.
        crop_size (`list[int]`, *optional*, defaults to `[224, 224]`):
            Height and width of the network's input, even. The whole canonical face is resized to it.

    The other arguments are those of [`FaceModelConfig`]. Pixels are BGR from 0 to 255, without the mean subtracted.
    `normalize_embedding` and `quality_hidden_size` mean nothing here.
    """

    model_type = "faceqnet"

    crop_size: list[int] | tuple[int, ...] = (224, 224)
    channel_order: str = "bgr"
    image_mean: list[float] | tuple[float, ...] = (0.0, 0.0, 0.0)
    image_std: list[float] | tuple[float, ...] = (1 / 255, 1 / 255, 1 / 255)
    bn_eps: float = 1e-3
    depths: list[int] | tuple[int, ...] = (3, 4, 6, 3)
    widths: list[int] | tuple[int, ...] = (64, 128, 256, 512)
    stem_width: int = 64
    head_widths: list[int] | tuple[int, ...] = (512,)
    head_acts: list[str] | tuple[str, ...] = ("relu", "linear")
    dropout: float = 0.0

    def __post_init__(self, **kwargs):
        if len(self.depths) != len(self.widths):
            raise ValueError(f"depths and widths have an entry a stage, got {len(self.depths)} and {len(self.widths)}")
        if len(self.head_acts) != len(self.head_widths) + 1:
            raise ValueError("head_acts has an entry a dense layer, one more than head_widths")
        if unknown := {*self.head_acts} - {"relu", "linear", "sigmoid"}:
            raise ValueError(f"head_acts are 'relu', 'linear' or 'sigmoid', not {unknown.pop()!r}")
        if any(side % 2 for side in self.crop_size):
            raise ValueError(f"crop_size has to be even, got {list(self.crop_size)}")
        self.embedding_size = 4 * self.widths[-1]
        super().__post_init__(**kwargs)


__all__ = ["FaceQnetConfig"]
