# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""FaceQgen configuration."""

from ..modeling_face import FaceModelConfig


class FaceQgenConfig(FaceModelConfig):
    r"""
    Configuration of a [`FaceQgenForFaceQuality`].

    Args:
        generator_widths (`list[int]`, *optional*, defaults to `[64, 128, 256, 512]`):
            Channels of the generator's encoder, each stage of which halves the resolution.
        discriminator_widths (`list[int]`, *optional*, defaults to `[64, 128, 256]`):
            Channels of the discriminator; each stage halves the resolution.
        crop_size (`list[int]`, *optional*, defaults to `[112, 112]`):
            Height and width of the faces, multiples of two to the power of the number of the generator's stages and
            at least 11, the window of SSIM.
        measure (`str`, *optional*, defaults to `"ssim"`):
            What `scores` are: `"ssim"` between the face and the restored one, minus their `"mse"`, or the
            `"discriminator"`'s opinion of the restored one.

    The other arguments are those of [`FaceModelConfig`]; those of embeddings mean nothing here.
    """

    model_type = "faceqgen"

    generator_widths: list[int] | tuple[int, ...] = (64, 128, 256, 512)
    discriminator_widths: list[int] | tuple[int, ...] = (64, 128, 256)
    measure: str = "ssim"

    def __post_init__(self, **kwargs):
        factor = 2 ** len(self.generator_widths)
        if any(side % factor or side < 11 for side in self.crop_size):
            raise ValueError(f"crop_size has to be in multiples of {factor} and at least 11: {list(self.crop_size)}")
        if self.measure not in ("ssim", "mse", "discriminator"):
            raise ValueError(f"measure is 'ssim', 'mse' or 'discriminator', not {self.measure!r}")
        super().__post_init__(**kwargs)


__all__ = ["FaceQgenConfig"]
