# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Face image quality from a single pass: a face recognition (FR) backbone and a small head on its embedding.

- DifFIQA(R) (Babnik et al., "DifFIQA", IJCB 2023) and CR-FIQA (Boutros et al., CVPR 2023): one linear layer.
- eDifFIQA (Babnik et al., TBIOM 2024): two linear layers with GELU between.

A backbone's configuration says which of the two by `quality_hidden_size`, so that a folder of an FR model loads here
with a new head, and a folder of a quality model loads as the FR model in it.

SDD-FIQA (Ou et al., CVPR 2021) has no embedding: its head reads the last feature map. So it is a class of its own.
"""

import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    PreTrainedModel,  # noqa: F401 - diffusers looks for this name here to load a saved component
)
from transformers.models.auto.auto_factory import _BaseAutoModelClass, _LazyAutoMapping
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.utils import ModelOutput, can_return_tuple

from ..default_weights import QUALITY_MODEL
from .iresnet import IResNetConfig, IResNetModel
from .iresnet.modeling_iresnet import IResNetBlock
from .loading import load_pretrained
from .mobilefacenet import MobileFaceNetConfig, MobileFaceNetModel
from .modeling_face import FaceModelConfig, FacePreTrainedModel, in_float32


@dataclass
class FaceQualityModelOutput(ModelOutput):
    """
    Output of a face quality model.

    Args:
        loss (`torch.FloatTensor` of shape `()`, given where there are labels):
            Mean squared difference of scores and labels.
        scores (`torch.FloatTensor` of shape `(batch_size,)`):
            Quality, higher is better. What the head gives: neither bounded nor comparable between models.
        embeddings (`torch.FloatTensor` of shape `(batch_size, embedding_size)`):
            What the head reads, the embeddings of the backbone.
        face_logits (`torch.FloatTensor` of shape `(batch_size,)`, given where `config.face_check`):
            Whether it is a face: above 0, more likely than not.
    """

    loss: torch.FloatTensor | None = None
    scores: torch.FloatTensor | None = None
    embeddings: torch.FloatTensor | None = None
    face_logits: torch.FloatTensor | None = None


def quality_loss(scores: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor | None:
    """
    The mean squared difference of scores and labels, both `(batch_size,)`, in float32, which `transformers.Trainer`
    trains a quality model by. A label that is NaN, of a face that could not be scored, counts for nothing. `None`
    without labels.

    Raises:
        ValueError: There is not one label for each score.
    """
    if labels is None:
        return None
    if labels.numel() != scores.numel():
        raise ValueError(
            f"there are {scores.numel()} scores and labels of shape {tuple(labels.shape)}; one each is needed"
        )
    labels = labels.to(scores.device, torch.float32).reshape(scores.shape)
    known = ~labels.isnan()
    difference = torch.where(known, scores.float() - labels, 0.0)
    return difference.square().sum() / known.sum().clamp(min=1)


class FaceQualityHead(nn.Module):
    """Embeddings `(batch_size, embedding_size)` to scores `(batch_size,)`; linear unless there is a hidden layer."""

    def __init__(self, config: FaceModelConfig):
        super().__init__()
        width = config.embedding_size
        self.hidden = None
        if config.quality_hidden_size is not None:
            self.hidden = nn.Linear(width, config.quality_hidden_size)
            self.act = nn.GELU()
            width = config.quality_hidden_size
        self.score = nn.Linear(width, 1)
        self.face = nn.Linear(config.embedding_size, 1) if config.face_check else None

    def face_logits(self, embeddings: torch.Tensor) -> torch.Tensor | None:
        return None if self.face is None else in_float32(self.face, embeddings).squeeze(-1)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        if self.hidden is not None:
            embeddings = self.act(in_float32(self.hidden, embeddings))
        return in_float32(self.score, embeddings).squeeze(-1)


class FaceQualityModel(FacePreTrainedModel):
    """Base of the face quality models: canonical faces to scores, by [`score_faces`], and a loss."""

    output_class: type[FaceQualityModelOutput] = FaceQualityModelOutput

    @can_return_tuple
    def forward(
        self, pixel_values: torch.FloatTensor, labels: torch.FloatTensor | None = None
    ) -> FaceQualityModelOutput | tuple[torch.FloatTensor, ...]:
        r"""
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, 112, 112)`):
                Canonical faces: RGB in [-1, 1].
            labels (`torch.FloatTensor` of shape `(batch_size,)`, *optional*):
                Qualities that the scores are to come to, for `loss`; a NaN is a face without one.
            return_dict (`bool`, *optional*, defaults to `config.return_dict`):
                `False` gives a plain tuple.

        Returns:
            [`FaceQualityModelOutput`], or a model's own kind of it, with `scores` of shape `(batch_size,)`.
        """
        found = self.score_faces(pixel_values)
        return self.output_class(loss=quality_loss(found["scores"], labels), **found)

    def score_faces(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor | None]:
        """What the output has besides the loss, by name: `scores` `(batch_size,)` and what a model has with them."""
        raise NotImplementedError


class FacePreTrainedModelForFaceQuality(FaceQualityModel):
    """What the quality models on an FR model share: `backbone`, of `backbone_class`, and `head`."""

    backbone_class: type[FacePreTrainedModel]

    def __init__(self, config: FaceModelConfig):
        super().__init__(config)
        self.backbone = self.backbone_class(config)
        self.head = FaceQualityHead(config)
        self.post_init()

    def score_faces(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor | None]:
        """By the head, of the `embeddings` of the backbone; where `config.face_check`, `face_logits` as well."""
        embeddings = self.backbone(pixel_values, return_dict=True).embeddings
        logits = self.head.face_logits(embeddings)
        return {"scores": self.head(embeddings), "embeddings": embeddings, "face_logits": logits}


class IResNetForFaceQuality(FacePreTrainedModelForFaceQuality):
    """
    [`IResNetModel`] with a quality head: DifFIQA(R), CR-FIQA, and the S, M and L of eDifFIQA.

    Example:

    ```python
    >>> import torch
    >>> from diffiqa_hf import IResNetConfig, IResNetForFaceQuality

    >>> model = IResNetForFaceQuality(IResNetConfig(depths=[1, 1, 1, 1], widths=[8, 8, 8, 8])).eval()
    >>> model(torch.zeros(2, 3, 112, 112)).scores.shape
    torch.Size([2])

    ```
    """

    config_class = IResNetConfig
    backbone_class = IResNetModel


class MobileFaceNetForFaceQuality(FacePreTrainedModelForFaceQuality):
    """
    [`MobileFaceNetModel`] with a quality head: the T of eDifFIQA.

    Example:

    ```python
    >>> import torch
    >>> from diffiqa_hf import MobileFaceNetConfig, MobileFaceNetForFaceQuality

    >>> model = MobileFaceNetForFaceQuality(MobileFaceNetConfig(quality_hidden_size=64)).eval()
    >>> model(torch.zeros(2, 3, 112, 112)).scores.shape
    torch.Size([2])

    ```
    """

    config_class = MobileFaceNetConfig
    backbone_class = MobileFaceNetModel


class SDDFIQAConfig(IResNetConfig):
    r"""
    Configuration of an [`SDDFIQAForFaceQuality`]. The defaults are the published network, of 50 layers; the arguments
    are those of [`IResNetConfig`], less `final_norm_affine` and `dropout_channels`, which mean nothing here.
    `embedding_size` follows from the others: the length of the last feature map.
    """

    model_type = "sdd_fiqa"

    depths: list[int] | tuple[int, ...] = (3, 4, 14, 3)
    mid_norm: bool = False
    shortcut: str = "subsample"
    dropout: float = 0.5

    def __post_init__(self, **kwargs):
        shrink = 2 ** len(self.depths)
        height, width = (-(-side // shrink) for side in self.crop_size)
        self.embedding_size = self.widths[-1] * height * width
        super().__post_init__(**kwargs)


class SDDFIQAForFaceQuality(FaceQualityModel):
    """
    SDD-FIQA: Ou et al., "SDD-FIQA: Unsupervised Face Image Quality Assessment with Similarity Distribution Distance",
    CVPR 2021 (https://github.com/Tencent/TFace, branch quality, `R50`). An IResNet with CurricularFace's blocks; its
    last feature map goes through PReLU, dropout and one linear layer. The published weights score from about 0 to 100.

    Example:

    ```python
    >>> import torch
    >>> from diffiqa_hf import SDDFIQAConfig, SDDFIQAForFaceQuality

    >>> model = SDDFIQAForFaceQuality(SDDFIQAConfig(depths=[1, 1, 1, 1], widths=[8, 8, 8, 8])).eval()
    >>> model(torch.zeros(2, 3, 112, 112)).scores.shape
    torch.Size([2])

    ```
    """

    config_class = SDDFIQAConfig

    def __init__(self, config: SDDFIQAConfig):
        super().__init__(config)
        width = config.widths[0]
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width, eps=config.bn_eps)
        self.prelu = nn.PReLU(width)
        blocks = []
        for depth, channels in zip(config.depths, config.widths, strict=True):
            for i in range(depth):
                blocks.append(IResNetBlock(config, width, channels, stride=2 if i == 0 else 1))
                width = channels
        self.blocks = nn.Sequential(*blocks)
        self.head_prelu = nn.PReLU(config.embedding_size)
        self.dropout = nn.Dropout(config.dropout)
        self.score = nn.Linear(config.embedding_size, 1)
        self.post_init()

    def score_faces(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor | None]:
        """Of the last feature map, flattened: the `embeddings`, which are not meant to tell faces apart."""
        hidden_states = self.prelu(self.bn1(self.conv1(self.prepare_faces(pixel_values))))
        embeddings = self.blocks(hidden_states).flatten(1)
        scores = in_float32(self.score, self.dropout(self.head_prelu(embeddings))).squeeze(-1)
        return {"scores": scores, "embeddings": embeddings}


class AutoModelForFaceQuality(_BaseAutoModelClass):
    """
    The face quality model that a folder or a Hub repository holds, by the `model_type` of its configuration:
    `AutoModelForFaceQuality.from_pretrained(...)`. From an FR model it takes the weights of the backbone; the head is
    new, and transformers says so.
    """

    _model_mapping = _LazyAutoMapping(CONFIG_MAPPING_NAMES, OrderedDict())


class DifFIQARModel(AutoModelForFaceQuality):
    """
    The small DifFIQA(R) that comes with the package: a [`MobileFaceNetForFaceQuality`] for research only, which has
    learnt how well FR models still know a face, and what is none (see its card). Anything else it loads as
    [`AutoModelForFaceQuality`].

    Faces `pixel_values` of shape `(batch_size, 3, 112, 112)`, RGB in [-1, 1], as [`FaceImageProcessor`] makes them,
    become [`FaceQualityModelOutput`] with `scores` of shape `(batch_size,)`, higher is better.
    `load_method("diffiqa-r")` takes images, and gives percentiles as well.

    Example:

    ```python
    >>> import torch
    >>> from diffiqa_hf import DifFIQARModel, FaceImageProcessor

    >>> model = DifFIQARModel.from_pretrained("default")
    >>> faces = FaceImageProcessor()(["examples/faces/astronaut.jpg"], return_tensors="pt")
    >>> with torch.no_grad():
    ...     model(**faces).scores.shape
    torch.Size([1])

    ```
    """

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike = "default", *model_args: Any, **kwargs: Any
    ) -> FacePreTrainedModel:
        """
        As [`AutoModelForFaceQuality`], from a folder or Hub id, in float32 unless a `dtype` is given; `"default"` is
        the one of the package. It is there to score: an FR model, whose head would be new, is refused.
        """
        if pretrained_model_name_or_path == "default":
            pretrained_model_name_or_path = QUALITY_MODEL
        if model_args or kwargs.get("output_loading_info"):
            return super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)
        what = "face quality model"
        return load_pretrained(AutoModelForFaceQuality, pretrained_model_name_or_path, what=what, **kwargs)


class CompleteModel(AutoModelForFaceQuality):
    """What `transformers.pipeline` loads: a model whose head is trained, all of whose weights are in the files."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any) -> Any:
        kwargs = {"what": "face quality model", **kwargs, "dtype": kwargs.get("dtype") or "auto"}
        return load_pretrained(AutoModelForFaceQuality, pretrained_model_name_or_path, **kwargs)


AutoConfig.register(SDDFIQAConfig.model_type, SDDFIQAConfig, exist_ok=True)
for _model in (IResNetForFaceQuality, MobileFaceNetForFaceQuality, SDDFIQAForFaceQuality):
    AutoModelForFaceQuality.register(_model.config_class, _model, exist_ok=True)


__all__ = [
    "AutoModelForFaceQuality",
    "CompleteModel",
    "DifFIQARModel",
    "FaceQualityModelOutput",
    "IResNetForFaceQuality",
    "MobileFaceNetForFaceQuality",
    "SDDFIQAConfig",
    "SDDFIQAForFaceQuality",
]
