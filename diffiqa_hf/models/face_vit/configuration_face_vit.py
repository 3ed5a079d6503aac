# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Configuration of the vision transformers for faces."""

from ..modeling_face import FaceModelConfig


class FaceViTConfig(FaceModelConfig):
    r"""
    Configuration of a [`FaceViTModel`]. The defaults are CVLface's ViT-B (AdaFace on WebFace4M).

    The others differ in:

    - CVLface's ViT-B with KP-RPE: `relative_keypoints=True`; its small ones: `num_hidden_layers=12`,
      `num_attention_heads=8`, `intermediate_size=2560`.
    - insightface's ViT-B: `patch_size=9`, `num_attention_heads=8`, `intermediate_size=2048`, `mask_ratio=0.1`; S has
      12 layers, T 12 of width 256.
    - ViT-FIQA(T): insightface's ViT-S with `quality_token=True`.

    Args:
        patch_size (`int`, *optional*, defaults to 8):
            Side of the square that becomes one token, in pixels. What is left over at the right and below is not
            looked at, as in the originals (112 = 12 * 9 + 4).
        hidden_size (`int`, *optional*, defaults to 512):
            Width of the tokens, a multiple of `num_attention_heads`.
        num_hidden_layers (`int`, *optional*, defaults to 24):
            Transformer blocks.
        num_attention_heads (`int`, *optional*, defaults to 16):
            Heads of each block's attention. No tensor of a file tells how many there were.
        intermediate_size (`int`, *optional*, defaults to 1536):
            Width inside of a block's two linear layers.
        quality_token (`bool`, *optional*, defaults to `False`):
            Whether a learnt token goes before the patches, which the quality is read from (ViT-FIQA).
        embed_quality_token (`bool`, *optional*, defaults to `False`):
            Whether the embedding is made of that token as well. The quality is then read from the embedding, as it is
            where there is no such token.
        relative_keypoints (`bool`, *optional*, defaults to `False`):
            Whether attention has a bias that depends on where a patch lies from the five points of the face (KP-RPE).
        mask_ratio (`float`, *optional*):
            Part of the patches that training leaves out at random, to put a learnt token in their places after the
            last block. `None` where there is no such token.
        drop_path_rate (`float`, *optional*, defaults to 0.0):
            Probability that training leaves out the last block of a face, falling to 0 at the first one.

    The other arguments are those of [`FaceModelConfig`]; `bn_eps` defaults to 2e-5.
    """

    model_type = "face_vit"

    bn_eps: float = 2e-5
    patch_size: int = 8
    hidden_size: int = 512
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 1536
    quality_token: bool = False
    embed_quality_token: bool = False
    relative_keypoints: bool = False
    mask_ratio: float | None = None
    drop_path_rate: float = 0.0

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        names = ("patch_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        if min(getattr(self, name) for name in names) < 1:
            raise ValueError(f"{', '.join(names)} are positive")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size has to be a multiple of num_attention_heads, got {self.hidden_size} and "
                f"{self.num_attention_heads}"
            )
        if min(self.crop_size) < self.patch_size:
            raise ValueError(f"a patch of {self.patch_size} pixels is larger than the face of {list(self.crop_size)}")
        if self.embed_quality_token and not self.quality_token:
            raise ValueError("embed_quality_token goes with quality_token")
        if self.relative_keypoints and (self.quality_token or self.mask_ratio):
            raise ValueError("relative_keypoints goes with patches alone: neither quality_token nor mask_ratio")
        if self.quality_hidden_size is not None:
            raise ValueError("the quality head of a FaceViT has no hidden layer: quality_hidden_size has to be None")
        ratios = (self.mask_ratio or 0.0, self.drop_path_rate)
        if not all(isinstance(ratio, int | float) and 0 <= ratio < 1 for ratio in ratios):
            raise ValueError(f"mask_ratio and drop_path_rate lie in [0, 1), got {ratios}")

    @property
    def num_patches(self) -> int:
        """How many tokens a face becomes, without that of the quality."""
        return (self.crop_size[0] // self.patch_size) * (self.crop_size[1] // self.patch_size)


__all__ = ["FaceViTConfig"]
