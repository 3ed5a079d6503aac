# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Configuration of dlib's ResNet."""

from ..modeling_face import FaceModelConfig


class DlibResNetConfig(FaceModelConfig):
    r"""
    Configuration of a [`DlibResNetModel`]. The defaults are the published network,
    `dlib_face_recognition_resnet_model_v1.dat`.

    Args:
        depths, widths (`list[int]`, *optional*, default to `[3, 4, 3, 3, 1]` and `[32, 64, 128, 256, 256]`):
            Residual blocks and channels of each level. All levels but the first begin with a block that halves the
            resolution.
        chip_size (`int`, *optional*, defaults to 150):
            Height and width in pixels of dlib's chips, on which the network works. `None` where the faces that come in
            are such chips already and not canonical ones; `crop_size` is then the size of the chips.

    The other arguments are those of [`FaceModelConfig`].
    """

    model_type = "dlib_resnet"

    image_mean: list[float] | tuple[float, ...] = (122.782 / 255, 117.001 / 255, 104.298 / 255)
    image_std: list[float] | tuple[float, ...] = (256 / 255, 256 / 255, 256 / 255)
    embedding_size: int = 128
    depths: list[int] | tuple[int, ...] = (3, 4, 3, 3, 1)
    widths: list[int] | tuple[int, ...] = (32, 64, 128, 256, 256)
    chip_size: int | None = 150

    def __post_init__(self, **kwargs):
        if len(self.depths) != len(self.widths) or not self.depths or min(*self.depths, *self.widths) < 1:
            raise ValueError(
                f"depths and widths are as many positive numbers, not {list(self.depths)} and {list(self.widths)}"
            )
        if list(self.widths) != sorted(self.widths):  # what a shortcut lacks of channels is zero, and it loses none
            raise ValueError(f"widths grow from level to level, unlike {list(self.widths)}")
        if self.chip_size is not None and self.crop_size[0] != self.crop_size[1]:
            raise ValueError(f"chips are made of square faces, not of {list(self.crop_size)}")
        super().__post_init__(**kwargs)


__all__ = ["DlibResNetConfig"]
