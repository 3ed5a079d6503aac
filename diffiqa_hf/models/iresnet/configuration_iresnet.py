# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""IResNet configuration."""

from ..modeling_face import FaceModelConfig


class IResNetConfig(FaceModelConfig):
    r"""
    Configuration of an [`IResNetModel`]. The defaults are the 100-layer network of ArcFace and CosFace.

    The others differ in:

    - MagFace: `channel_order="bgr"`, `image_mean=[0, 0, 0]`, `image_std=[1, 1, 1]`, `bn_eps=2e-5`, `dropout=0.4`,
      `dropout_channels=True`.
    - AdaFace: `channel_order="bgr"`, `normalize_embedding=True`, `shortcut="subsample"`, `final_norm_affine=False`,
      `dropout=0.4`.
    - CurricularFace: `mid_norm=False`, `shortcut="subsample"`, `final_norm_affine=False`, `dropout=0.4`.

    Args:
        depths (`list[int]`, *optional*, defaults to `[3, 13, 30, 3]`):
            Blocks of each stage: [2, 2, 2, 2] is IResNet-18, [3, 4, 6, 3] 34, [3, 4, 14, 3] 50, [6, 26, 60, 6] 200.
            The default is called 100 by ArcFace and MagFace, 101 by AdaFace and CurricularFace.
        widths (`list[int]`, *optional*, defaults to `[64, 128, 256, 512]`):
            Channels of each stage. The first block of each halves the resolution.
        mid_norm (`bool`, *optional*, defaults to `True`):
            Whether a block normalises between its first convolution and its activation.
        shortcut (`str`, *optional*, defaults to `"conv"`):
            What the first block of a stage adds to its result where it keeps the width: `"conv"` is a 1x1 convolution
            of stride 2 and a normalisation, as where the width changes; `"subsample"` is every second row and column
            of its input (in the originals a max pooling of size 1).
        final_norm_affine (`bool`, *optional*, defaults to `True`):
            Whether the normalisation of the embedding has a scale (never trained, as in the original) and a shift.
        dropout (`float`, *optional*, defaults to 0.0):
            Probability of the dropout before the last layer.
        dropout_channels (`bool`, *optional*, defaults to `False`):
            Whether the dropout takes out whole channels and not single values.

    The other arguments are those of [`FaceModelConfig`].
    """

    model_type = "iresnet"

    depths: list[int] | tuple[int, ...] = (3, 13, 30, 3)
    widths: list[int] | tuple[int, ...] = (64, 128, 256, 512)
    mid_norm: bool = True
    shortcut: str = "conv"
    final_norm_affine: bool = True
    dropout: float = 0.0
    dropout_channels: bool = False

    def __post_init__(self, **kwargs):
        if len(self.depths) != len(self.widths):
            raise ValueError(f"depths and widths have an entry a stage, got {len(self.depths)} and {len(self.widths)}")
        if self.shortcut not in ("conv", "subsample"):
            raise ValueError(f"shortcut is 'conv' or 'subsample', not {self.shortcut!r}")
        super().__post_init__(**kwargs)


__all__ = ["IResNetConfig"]
