# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""CLIB-FIQA configuration."""

from ..modeling_face import FaceModelConfig


# What a prompt says of a face, in the order of the prompts: the last word changes first. The middle of the quality
# levels is at .1, .3, .5, .7 and .9.
PROMPT_WORDS = {
    "blur": ("hazy", "blurry", "clear"),
    "occlusion": ("obstructed", "unobstructed"),
    "pose": ("profile", "slight angle", "frontal"),
    "expression": ("exaggerated expression", "typical expression"),
    "illumination": ("extreme lighting", "normal lighting"),
    "quality": ("bad", "poor", "fair", "good", "perfect"),
}
NUM_PROMPTS = 360


class CLIBFIQAConfig(FaceModelConfig):
    r"""
    Configuration of a [`CLIBFIQAForFaceQuality`]. The defaults are the published network, on CLIP's RN50.

    Args:
        depths (`list[int]`, *optional*, defaults to `[3, 4, 6, 3]`):
            Blocks of each stage of the image encoder.
        width (`int`, *optional*, defaults to 64):
            Channels after the stem. The attention in the end, at 32 times as many, has a head for each 64.
        crop_size (`list[int]`, *optional*, defaults to `[224, 224]`):
            Height and width of the network's input, multiples of 32 with four stages. The whole canonical face is
            resized to it.
        embedding_size (`int`, *optional*, defaults to 1024):
            Dimension of what images and prompts are compared in.

    The other arguments are those of [`FaceModelConfig`]; `normalize_embedding` and `quality_hidden_size` mean nothing
    here.
    """

    model_type = "clib_fiqa"

    crop_size: list[int] | tuple[int, ...] = (224, 224)
    image_mean: list[float] | tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    image_std: list[float] | tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    embedding_size: int = 1024
    depths: list[int] | tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64

    def __post_init__(self, **kwargs):
        if any(side % (2 << len(self.depths)) for side in self.crop_size):
            raise ValueError(f"crop_size has to be in multiples of {2 << len(self.depths)}: {list(self.crop_size)}")
        if self.width % 2:
            raise ValueError(f"width has to be even, got {self.width}")
        super().__post_init__(**kwargs)


__all__ = ["NUM_PROMPTS", "PROMPT_WORDS", "CLIBFIQAConfig"]
