# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
PFE: Shi and Jain, "Probabilistic Face Embeddings", ICCV 2019 (https://github.com/seasonSH/Probabilistic-Face-Embeddings).
A face is a normal distribution: its mean is the embedding of a trained FR model, its variance, one number a dimension,
comes from a small module that reads what the FR model's last layer reads.

SphereNet, the authors' FR model: Liu et al., "SphereFace", CVPR 2017: convolutions and PReLU without normalisation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import normalize, pad, softplus
from transformers import (
    AutoConfig,
    AutoModel,
    PreTrainedModel,  # noqa: F401 - diffusers looks for this name here to load a saved component
)
from transformers.modeling_layers import GradientCheckpointingLayer

from ..modeling_face import FacePreTrainedModel, FaceRecognitionModel, in_float32
from ..modeling_face_quality import AutoModelForFaceQuality, FaceQualityModel, FaceQualityModelOutput
from .configuration_pfe import PFEConfig, SphereNetConfig


class SphereNetConv(nn.Module):
    """
    3x3 convolution and PReLU or, with `bn_eps`, batch normalisation and ReLU. Even sides are padded as TensorFlow's
    SAME does it: at stride 2 below and to the right alone.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, bn_eps: float | None = None):
        super().__init__()
        self.stride = stride
        bias = stride == 2 and bn_eps is None  # in the originals the convolutions of the blocks have none
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=2 - stride, bias=bias)
        self.norm = nn.Identity() if bn_eps is None else nn.BatchNorm2d(out_channels, eps=bn_eps)
        self.act = nn.PReLU(out_channels) if bn_eps is None else nn.ReLU()

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.stride == 2:
            hidden_states = pad(hidden_states, (0, 1, 0, 1))
        return self.act(self.norm(self.conv(hidden_states)))


class SphereNetBlock(GradientCheckpointingLayer):
    """Two convolutions; their activated result is added to the input."""

    def __init__(self, channels: int, bn_eps: float | None = None):
        super().__init__()
        self.conv1 = SphereNetConv(channels, channels, bn_eps=bn_eps)
        self.conv2 = SphereNetConv(channels, channels, bn_eps=bn_eps)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states + self.conv2(self.conv1(hidden_states))


class SphereNetStage(nn.Module):
    """A convolution that halves the resolution, and residual blocks."""

    def __init__(self, in_channels: int, channels: int, depth: int, bn_eps: float | None = None):
        super().__init__()
        self.down = SphereNetConv(in_channels, channels, stride=2, bn_eps=bn_eps)
        self.blocks = nn.Sequential(*(SphereNetBlock(channels, bn_eps) for _ in range(depth)))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.down(hidden_states))


def sphere_stages(depths: Sequence[int], widths: Sequence[int], bn_eps: float | None = None) -> nn.Sequential:
    """The trunk: `(B, 3, H, W)` to `(B, widths[-1], H / 2^S, W / 2^S)`, S being the number of stages."""
    return nn.Sequential(
        *(
            SphereNetStage(width_before, width, depth, bn_eps)
            for width_before, width, depth in zip([3, *widths[:-1]], widths, depths, strict=True)
        )
    )


class SphereNetModel(FaceRecognitionModel):
    """
    SphereNet from canonical faces to embeddings.

    Example:

    ```python
    >>> import torch
    >>> from diffiqa_hf.models.pfe import SphereNetConfig, SphereNetModel

    >>> model = SphereNetModel(SphereNetConfig(depths=[0, 1, 0, 0], widths=[8, 8, 8, 8])).eval()
    >>> model(torch.zeros(2, 3, 112, 112)).embeddings.shape
    torch.Size([2, 512])

    ```
    """

    config_class = SphereNetConfig

    def __init__(self, config: SphereNetConfig):
        super().__init__(config)
        self.stages = sphere_stages(config.depths, config.widths)
        height, width = (side >> len(config.depths) for side in config.crop_size)
        self.fc = nn.Linear(config.widths[-1] * height * width, config.embedding_size, bias=False)
        self.features = nn.BatchNorm1d(config.embedding_size, eps=config.bn_eps)
        # The original has no scale there.
        self.features.weight.requires_grad = False
        self.post_init()

    def pool_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.stages(self.prepare_faces(pixel_values)).flatten(1)

    def embed_features(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.features(self.fc(pooled))


class PFEUncertaintyModule(nn.Module):
    """
    What the FR model's last layer reads, `(B, in_features)`, to log variances `(B, D)`. One scale and one shift serve
    all dimensions; they begin at 1e-4 and -7, so that at first all variances are nearly the same, exp(-7).
    """

    def __init__(self, config: PFEConfig, in_features: int):
        super().__init__()
        size = config.embedding_size
        self.fc1 = nn.Linear(in_features, size, bias=False)
        self.norm1 = nn.BatchNorm1d(size, eps=config.bn_eps)
        self.fc2 = nn.Linear(size, size, bias=False)
        self.norm2 = nn.BatchNorm1d(size, eps=config.bn_eps, affine=False)
        self.scale = nn.Parameter(torch.tensor(1e-4))
        self.shift = nn.Parameter(torch.tensor(-7.0))
        self.eps = config.uncertainty_eps

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = self.norm2(self.fc2(self.norm1(self.fc1(hidden_states)).relu()))
        log_variances = self.scale * hidden_states + self.shift
        if not self.eps:
            return log_variances
        # log(eps + exp(x)) by the softplus: OpenCV 5.0.0 takes what is written out for log(1 + exp(x)), in an exported
        # graph.
        least = math.log(self.eps)
        return least + softplus(log_variances - least)


@dataclass
class PFEModelOutput(FaceQualityModelOutput):
    """
    Output of a [`PFEForFaceQuality`].

    Args:
        scores (`torch.FloatTensor` of shape `(batch_size,)`):
            Minus the harmonic mean of the variances, below 0; higher is better.
        embeddings (`torch.FloatTensor` of shape `(batch_size, embedding_size)`):
            The means, of unit length.
        log_variances (`torch.FloatTensor` of shape `(batch_size, embedding_size)`):
            Natural logarithms of the variances.
    """

    log_variances: torch.FloatTensor | None = None


class PFEForFaceQuality(FaceQualityModel):
    """
    Probabilistic face embeddings: an FR model and its uncertainty.

    The authors train the uncertainty module alone, with [`mutual_likelihood_loss`], and keep the FR model as it is, in
    evaluation mode.

    Example:

    ```python
    >>> import torch
    >>> from diffiqa_hf import IResNetConfig, IResNetModel
    >>> from diffiqa_hf.models.pfe import PFEForFaceQuality

    >>> fr_model = IResNetModel(IResNetConfig(depths=[1, 1, 1, 1], widths=[8, 8, 8, 8]))
    >>> model = PFEForFaceQuality.from_fr_model(fr_model).eval()
    >>> model(torch.zeros(2, 3, 112, 112)).log_variances.shape
    torch.Size([2, 512])

    ```
    """

    config_class = PFEConfig
    output_class = PFEModelOutput

    def __init__(self, config: PFEConfig):
        super().__init__(config)
        self.backbone = AutoModel.from_config(config.backbone_config)
        self.uncertainty = PFEUncertaintyModule(config, self._last_layer().in_features)
        self.post_init()

    @classmethod
    def from_fr_model(cls, fr_model: FacePreTrainedModel) -> "PFEForFaceQuality":
        """
        A new uncertainty module on a copy of a trained FR model.

        Args:
            fr_model: A [`SphereNetModel`], [`IResNetModel`] or [`MobileFaceNetModel`].
        """
        model = cls(PFEConfig(backbone_config=fr_model.config.to_dict()))
        model.backbone.load_state_dict(fr_model.state_dict())
        return model

    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, PFEUncertaintyModule):
            nn.init.constant_(module.scale, 1e-4)
            nn.init.constant_(module.shift, -7.0)

    def _last_layer(self) -> nn.Linear:
        """The FR model's, which makes the embedding."""
        return self.backbone.fc if hasattr(self.backbone, "fc") else self.backbone.embed

    def score_faces(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor | None]:
        pooled = self.backbone.pool_features(pixel_values)
        embeddings = normalize(self.backbone.embed_features(pooled))
        log_variances = in_float32(self.uncertainty, pooled)
        scores = -harmonic_mean_of_variances(log_variances)
        return {"scores": scores, "embeddings": embeddings, "log_variances": log_variances}


def harmonic_mean_of_variances(log_variances: torch.Tensor) -> torch.Tensor:
    r"""
    $D / \sum_d \sigma_d^{-2}$, `(B,)`, of `log_variances` `(B, D)`; in logarithms, where no sum can overflow.
    """
    log_size = torch.tensor(log_variances.shape[-1], dtype=log_variances.dtype, device=log_variances.device).log()
    return (log_size - (-log_variances).logsumexp(-1)).exp()


def mutual_likelihood_score(
    embeddings_a: torch.Tensor,
    log_variances_a: torch.Tensor,
    embeddings_b: torch.Tensor,
    log_variances_b: torch.Tensor,
) -> torch.Tensor:
    r"""
    How likely two faces are of one point of the embedding space (the paper's Eq. 3, less its constant), to compare
    them by in place of the cosine similarity:

    $$-\frac{1}{2} \sum_d \frac{(\mu_d^a - \mu_d^b)^2}{\sigma_d^{2 a} + \sigma_d^{2 b}}
    + \log(\sigma_d^{2 a} + \sigma_d^{2 b})$$

    Args:
        embeddings_a, embeddings_b: `(..., D)`, of unit length.
        log_variances_a, log_variances_b: `(..., D)`.

    Returns:
        `(...)`, higher for faces that are more alike.
    """
    variances = log_variances_a.exp() + log_variances_b.exp()
    return -((embeddings_a - embeddings_b) ** 2 / variances + variances.log()).sum(-1) / 2


def mutual_likelihood_loss(
    embeddings: torch.Tensor, log_variances: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """
    PFE's loss: minus the mutual likelihood score, averaged over the mated pairs of a batch. The authors' code has
    twice that (it leaves out the half); a learning rate of theirs is to be doubled here.

    Args:
        embeddings, log_variances: `(N, D)`, as [`PFEForFaceQuality`] gives them.
        labels: `(N,)`, which person each face is of.

    Raises:
        ValueError: No two faces are of one person.
    """
    first, second = mated_pairs(labels)
    scores = mutual_likelihood_score(
        embeddings[first], log_variances[first], embeddings[second], log_variances[second]
    )
    return -scores.mean()


def mated_pairs(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The positions `(P,)`, `(P,)` of the pairs of equal labels, each pair once.

    A mean over them, as the losses on pairs take it and their authors' code does, gives a person with n faces in the
    batch the weight n (n - 1) / 2; the training script limits n (`--faces_per_person`), and with it how unlike these
    weights can be.

    Raises:
        ValueError: There are none.
    """
    first, second = (labels[:, None] == labels[None, :]).triu(1).nonzero(as_tuple=True)
    if len(first) == 0:
        raise ValueError("no two faces of the batch are of one person: a mated pair is needed")
    return first, second


AutoConfig.register(SphereNetConfig.model_type, SphereNetConfig, exist_ok=True)
AutoModel.register(SphereNetConfig, SphereNetModel, exist_ok=True)
AutoConfig.register(PFEConfig.model_type, PFEConfig, exist_ok=True)
AutoModelForFaceQuality.register(PFEConfig, PFEForFaceQuality, exist_ok=True)


__all__ = [
    "PFEForFaceQuality",
    "PFEModelOutput",
    "SphereNetModel",
    "mutual_likelihood_loss",
    "mutual_likelihood_score",
]
