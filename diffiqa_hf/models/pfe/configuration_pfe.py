# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""PFE configuration."""

from transformers import AutoConfig, PreTrainedConfig

from ..modeling_face import FaceModelConfig


class SphereNetConfig(FaceModelConfig):
    r"""
    Configuration of a [`SphereNetModel`]. The defaults are the 64-layer network of PFE's authors.

    Args:
        depths (`list[int]`, *optional*, defaults to `[3, 8, 16, 3]`):
            Residual blocks of each stage, after the convolution that halves the resolution. `[1, 2, 4, 1]` is the
            20-layer network, `[2, 4, 8, 2]` that of 36 layers.
        widths (`list[int]`, *optional*, defaults to `[64, 128, 256, 512]`):
            Channels of each stage.
        crop_size (`list[int]`, *optional*, defaults to `[112, 96]`):
            Height and width of the network's input: the middle of the canonical face. Both are multiples of two to
            the power of the number of stages.

    The other arguments are those of [`FaceModelConfig`].
    """

    model_type = "spherenet"

    crop_size: list[int] | tuple[int, ...] = (112, 96)
    image_std: list[float] | tuple[float, ...] = (128 / 255, 128 / 255, 128 / 255)
    normalize_embedding: bool = True
    bn_eps: float = 1e-3
    depths: list[int] | tuple[int, ...] = (3, 8, 16, 3)
    widths: list[int] | tuple[int, ...] = (64, 128, 256, 512)

    def __post_init__(self, **kwargs):
        if len(self.depths) != len(self.widths):
            raise ValueError(f"depths and widths have an entry a stage, got {len(self.depths)} and {len(self.widths)}")
        if any(side % 2 ** len(self.depths) for side in self.crop_size):
            raise ValueError(f"crop_size has to be in multiples of {2 ** len(self.depths)}: {list(self.crop_size)}")
        super().__post_init__(**kwargs)


class PFEConfig(FaceModelConfig):
    r"""
    Configuration of a [`PFEForFaceQuality`].

    Args:
        backbone_config (`dict` or `PreTrainedConfig`, *optional*):
            Of the FR model that the uncertainty belongs to: a [`SphereNetConfig`] (the default, as in the original),
            an [`IResNetConfig`] or a [`MobileFaceNetConfig`].
        uncertainty_eps (`float`, *optional*, defaults to 1e-6):
            Added to the variances.

    What the network's input is made of (`crop_size`, `channel_order`, `image_mean`, `image_std`) and `embedding_size`
    are the backbone's. `bn_eps` is that of the uncertainty module, 1e-3 in the original.
    """

    model_type = "pfe"
    sub_configs = {"backbone_config": AutoConfig}

    bn_eps: float = 1e-3
    backbone_config: dict | PreTrainedConfig | None = None
    uncertainty_eps: float = 1e-6

    def __post_init__(self, **kwargs):
        backbone = self.backbone_config
        if backbone is None:
            backbone = SphereNetConfig()
        elif isinstance(backbone, dict):
            backbone = AutoConfig.for_model(**backbone)
        self.backbone_config = backbone
        for name in ("crop_size", "channel_order", "image_mean", "image_std", "embedding_size"):
            setattr(self, name, getattr(backbone, name))
        super().__post_init__(**kwargs)


__all__ = ["PFEConfig", "SphereNetConfig"]
