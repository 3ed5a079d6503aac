# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
PCNet: Xie, Byrne and Zisserman, "Inducing Predictive Uncertainty Estimation for Face Recognition", BMVC 2020. A light
ResNet to one confidence, trained so that the lower one of two faces of a person is their similarity. Neither code nor
weights are public; the trunk is that of https://github.com/KaenChan/lightqnet-train, which compares with it.
"""

import torch
from torch import nn
from torch.nn.functional import cosine_similarity
from transformers import (
    AutoConfig,
    PreTrainedModel,  # noqa: F401 - diffusers looks for this name here to load a saved component
)

from ..modeling_face import in_float32
from ..modeling_face_quality import AutoModelForFaceQuality, FaceQualityModel
from ..pfe.modeling_pfe import mated_pairs, sphere_stages
from .configuration_pcnet import PCNetConfig


class PCNetForFaceQuality(FaceQualityModel):
    """
    PCNet from canonical faces to quality.

    Example:

    ```python
    >>> import torch
    >>> from diffiqa_hf.models.pcnet import PCNetConfig, PCNetForFaceQuality

    >>> model = PCNetForFaceQuality(PCNetConfig(depths=[0, 1], widths=[8, 8])).eval()
    >>> model(torch.zeros(2, 3, 112, 112)).scores.shape
    torch.Size([2])

    ```
    """

    config_class = PCNetConfig
    resizes_faces = True

    def __init__(self, config: PCNetConfig):
        super().__init__(config)
        self.stages = sphere_stages(config.depths, config.widths, config.bn_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.score = nn.Linear(config.embedding_size, 1)
        self.post_init()

    def score_faces(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor | None]:
        """`scores` in (0, 1) and, as `embeddings`, the features that they are made of."""
        features = self.stages(self.prepare_faces(pixel_values)).mean((2, 3))
        scores = in_float32(self.score, self.dropout(features)).squeeze(-1).sigmoid()
        return {"scores": scores, "embeddings": features}


def pair_loss(scores: torch.Tensor, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    r"""
    PCNet's loss, the mean over the mated pairs of a batch (each pair once: see `mated_pairs`) of

    $$(\cos(f_i, f_j) - \min(q_i, q_j))^2$$

    Args:
        scores: `(N,)`, the q of [`PCNetForFaceQuality`].
        embeddings: `(N, D)`, the f of an FR model, of any length. No gradient goes into them.
        labels: `(N,)`, which person each face is of.

    Raises:
        ValueError: No two faces are of one person.
    """
    first, second = mated_pairs(labels)
    embeddings = embeddings.detach()
    similarity = cosine_similarity(embeddings[first], embeddings[second])
    return ((similarity - torch.minimum(scores[first], scores[second])) ** 2).mean()


AutoConfig.register(PCNetConfig.model_type, PCNetConfig, exist_ok=True)
AutoModelForFaceQuality.register(PCNetConfig, PCNetForFaceQuality, exist_ok=True)


__all__ = ["PCNetForFaceQuality", "pair_loss"]
