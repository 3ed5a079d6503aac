# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
CLIB-FIQA: Ou, Li, Wang and Kwong, "CLIB-FIQA: Face Image Quality Assessment with Confidence Calibration", CVPR 2024
(https://github.com/oufuzhao/CLIB-FIQA). CLIP (Radford et al., "Learning Transferable Visual Models From Natural
Language Supervision", ICML 2021) compares the face with 360 sentences, each of which names its blur, occlusion, pose,
expression, illumination and quality. The sentences are always the same, so of the text encoder only what it gives for
them is kept. The image encoder is CLIP's ResNet: a stem of three convolutions, average pooling in place of strides,
and attention in place of the last pooling.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, normalize, scaled_dot_product_attention
from transformers import (
    AutoConfig,
    PreTrainedModel,  # noqa: F401 - diffusers looks for this name here to load a saved component
)
from transformers.modeling_layers import GradientCheckpointingLayer

from ..modeling_face import at_least_float32
from ..modeling_face_quality import AutoModelForFaceQuality, FaceQualityModel, FaceQualityModelOutput
from .configuration_clib_fiqa import NUM_PROMPTS, PROMPT_WORDS, CLIBFIQAConfig


def good_probabilities(probabilities: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of the probabilities of all sentences, those of what is good in a face, by its name, each `(B,)` float32."""
    good = {}
    for axis, words in enumerate(list(PROMPT_WORDS.values())[:-1], start=1):
        # The last word of each is the good one.
        good[words[-1]] = probabilities.select(axis, -1).flatten(1).sum(1).float()
    return good


class CLIBFIQABlock(GradientCheckpointingLayer):
    """Bottleneck of CLIP's ResNet: the resolution is halved by pooling."""

    def __init__(self, config: CLIBFIQAConfig, in_channels: int, width: int, stride: int):
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width, eps=config.bn_eps)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width, eps=config.bn_eps)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width, eps=config.bn_eps)
        self.downsample = None
        if stride > 1 or in_channels != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width, eps=config.bn_eps)
            )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        residual = hidden_states if self.stride == 1 else avg_pool2d(hidden_states, self.stride)
        if self.downsample is not None:
            residual = self.downsample(residual)
        hidden_states = self.bn2(self.conv2(self.bn1(self.conv1(hidden_states)).relu())).relu()
        if self.stride > 1:
            hidden_states = avg_pool2d(hidden_states, self.stride)
        return (self.bn3(self.conv3(hidden_states)) + residual).relu()


class CLIBFIQAAttentionPool(nn.Module):
    """The last feature map, `(B, C, H, W)`, to `(B, embedding_size)`: its mean attends to it and to itself."""

    def __init__(self, config: CLIBFIQAConfig, channels: int):
        super().__init__()
        self.num_heads = max(1, channels // 64)
        places = math.prod(side // (2 << len(config.depths)) for side in config.crop_size)
        self.positional_embedding = nn.Parameter(torch.zeros(places + 1, channels))
        self.q_proj = nn.Linear(channels, channels)
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.c_proj = nn.Linear(channels, config.embedding_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = hidden_states.flatten(2).transpose(1, 2)
        hidden_states = torch.cat([hidden_states.mean(1, keepdim=True), hidden_states], 1) + self.positional_embedding
        query, key, value = (
            proj(states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for proj, states in (
                (self.q_proj, hidden_states[:, :1]),
                (self.k_proj, hidden_states),
                (self.v_proj, hidden_states),
            )
        )
        return self.c_proj(scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(1))


@dataclass
class CLIBFIQAModelOutput(FaceQualityModelOutput):
    """
    Output of a [`CLIBFIQAForFaceQuality`].

    Args:
        scores (`torch.FloatTensor` of shape `(batch_size,)`):
            Expected quality, in [.1, .9].
        embeddings (`torch.FloatTensor` of shape `(batch_size, embedding_size)`):
            What the image encoder gives, of unit length. It is not meant to tell faces apart.
        probabilities (`torch.FloatTensor` of shape `(batch_size, 3, 2, 3, 2, 2, 5)`):
            Of each sentence, by blur, occlusion, pose, expression, illumination and quality; they sum to 1. Those of
            one of these alone are the sums over the others.
    """

    probabilities: torch.FloatTensor | None = None


class CLIBFIQAForFaceQuality(FaceQualityModel):
    """
    CLIB-FIQA from canonical faces to quality.

    Example:

    ```python
    >>> import torch
    >>> from diffiqa_hf.models.clib_fiqa import CLIBFIQAConfig, CLIBFIQAForFaceQuality

    >>> model = CLIBFIQAForFaceQuality(CLIBFIQAConfig(depths=[1, 1, 1, 1], width=4, embedding_size=8)).eval()
    >>> model(torch.zeros(2, 3, 112, 112)).scores.shape
    torch.Size([2])

    ```
    """

    config_class = CLIBFIQAConfig
    resizes_faces = True
    output_class = CLIBFIQAModelOutput

    def __init__(self, config: CLIBFIQAConfig):
        super().__init__(config)
        width = config.width
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2, eps=config.bn_eps)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2, eps=config.bn_eps)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width, eps=config.bn_eps)
        channels = width
        for i, depth in enumerate(config.depths):
            blocks = []
            for j in range(depth):
                blocks.append(CLIBFIQABlock(config, channels, width << i, stride=2 if i > 0 and j == 0 else 1))
                channels = 4 * (width << i)
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.attnpool = CLIBFIQAAttentionPool(config, channels)
        # What the text encoder, which is not trained, gives for the sentences.
        self.register_buffer("prompts", torch.zeros(NUM_PROMPTS, config.embedding_size))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.post_init()

    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, CLIBFIQAAttentionPool):
            nn.init.normal_(module.positional_embedding, std=module.positional_embedding.shape[1] ** -0.5)
        elif isinstance(module, CLIBFIQAForFaceQuality):
            nn.init.normal_(module.prompts)
            nn.init.constant_(module.logit_scale, math.log(1 / 0.07))

    def score_faces(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor | None]:
        hidden_states = self.bn1(self.conv1(self.prepare_faces(pixel_values))).relu()
        hidden_states = self.bn2(self.conv2(hidden_states)).relu()
        hidden_states = avg_pool2d(self.bn3(self.conv3(hidden_states)).relu(), 2)
        for i in range(1, len(self.config.depths) + 1):
            hidden_states = getattr(self, f"layer{i}")(hidden_states)
        embeddings = normalize(self.attnpool(hidden_states))
        prompts = at_least_float32(normalize(self.prompts))
        logits = self.logit_scale.exp() * at_least_float32(embeddings) @ prompts.t()
        probabilities = logits.softmax(1).unflatten(1, [len(words) for words in PROMPT_WORDS.values()])
        levels = probabilities.flatten(1, -2).sum(1)
        middles = (torch.arange(levels.shape[1], dtype=levels.dtype, device=levels.device) + 0.5) / levels.shape[1]
        scores = (levels * middles).sum(1)
        return {"scores": scores, "embeddings": embeddings, "probabilities": probabilities}


AutoConfig.register(CLIBFIQAConfig.model_type, CLIBFIQAConfig, exist_ok=True)
AutoModelForFaceQuality.register(CLIBFIQAConfig, CLIBFIQAForFaceQuality, exist_ok=True)


__all__ = ["CLIBFIQAForFaceQuality", "CLIBFIQAModelOutput"]
