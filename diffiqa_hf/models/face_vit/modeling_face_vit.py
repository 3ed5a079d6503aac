# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Vision transformers for faces: the ViT of insightface's arcface_torch, whose embedding is made of all patches by two
linear layers, and what others made of it. CVLface (Kim et al., "KeyPoint Relative Position Encoding for Face
Recognition", CVPR 2024) has KP-RPE in its attention; ViT-FIQA (Atzori, Boutros and Damer, ICCVW 2025) a token that the
quality is read from.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, PreTrainedModel  # noqa: F401 - diffusers looks for PreTrainedModel here
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import can_return_tuple

from ...alignment import ARCFACE_TEMPLATE, TEMPLATE_SIZE
from ..modeling_face import FaceEmbeddingOutput, FacePreTrainedModel, in_float32
from ..modeling_face_quality import AutoModelForFaceQuality, FaceQualityModelOutput, quality_loss
from .configuration_face_vit import FaceViTConfig


# Of the relative positions of iRPE (Wu et al., ICCV 2021), with KP-RPE's ratio of 1.9: offsets up to the first go each
# by itself, farther ones by their logarithm, and none beyond the last. So 7 classes of rows and as many of columns.
_NEAR, _FAR, _LOG_SCALE, _LAST = 1.9, 3.8, 8 * 1.9, 3


@dataclass
class FaceViTOutput(FaceEmbeddingOutput):
    """
    Output of [`FaceViTModel`].

    Args:
        embeddings (`torch.FloatTensor` of shape `(batch_size, embedding_size)`):
            Face embeddings, compared by cosine similarity. Of unit length only where `config.normalize_embedding`.
        norms (`torch.FloatTensor` of shape `(batch_size,)`, given where `config.normalize_embedding`):
            L2 norms of the embeddings before they were scaled to unit length.
        quality_tokens (`torch.FloatTensor` of shape `(batch_size, hidden_size)`, given where `config.quality_token`
            and it is no part of the embedding):
            What has become of the quality token.
    """

    quality_tokens: torch.FloatTensor | None = None


class FaceViTEmbeddings(nn.Module):
    """Faces to tokens `(batch, tokens, hidden_size)`: patches with their places, the quality token before them."""

    def __init__(self, config: FaceViTConfig):
        super().__init__()
        width, size = config.hidden_size, config.patch_size
        self.projection = nn.Conv2d(3, width, size, stride=size)
        self.quality_token = nn.Parameter(torch.zeros(1, 1, width)) if config.quality_token else None
        self.positions = nn.Parameter(torch.zeros(1, config.num_patches + config.quality_token, width))

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        tokens = self.projection(faces).flatten(2).transpose(1, 2)
        if self.quality_token is not None:
            tokens = torch.cat([self.quality_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        return tokens + self.positions


class FaceViTAttention(nn.Module):
    """Attention of all tokens to all."""

    def __init__(self, config: FaceViTConfig):
        super().__init__()
        self.heads = config.num_attention_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def _heads(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Queries, keys and values, each (batch, heads, tokens, head_dim)."""
        return self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    def weights(self, tokens: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """How much each token takes of each, `(batch, heads, tokens, tokens)`; the last dimension adds up to 1."""
        query, key, _ = self._heads(tokens)
        logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        return (logits if bias is None else logits + bias).softmax(dim=-1)

    def forward(self, tokens: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        out = F.scaled_dot_product_attention(*self._heads(tokens), attn_mask=bias)
        return self.proj(out.transpose(1, 2).flatten(2))


class FaceViTBlock(GradientCheckpointingLayer):
    """Attention and two linear layers, each on normalised tokens and with a residual."""

    def __init__(self, config: FaceViTConfig, drop_path: float):
        super().__init__()
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(config.hidden_size)
        self.attention = FaceViTAttention(config)
        self.norm2 = nn.LayerNorm(config.hidden_size)
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.act = nn.ReLU6()
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, tokens: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        tokens = tokens + self._dropped(self.attention(self.norm1(tokens), bias))
        return tokens + self._dropped(self.fc2(self.act(self.fc1(self.norm2(tokens)))))

    def _dropped(self, change: torch.Tensor) -> torch.Tensor:
        """Stochastic depth (Huang et al., ECCV 2016): some faces of a batch go past."""
        if not self.training or not self.drop_path:
            return change
        kept = torch.rand(len(change), 1, 1, device=change.device) >= self.drop_path
        return change * kept / (1 - self.drop_path)


class RelativeKeypoints(nn.Module):
    """
    KP-RPE: what attention gets added for each pair of patches, by their offset in rows and columns (a class of 49) and
    by where the first of them lies from the five points; for each head of each block.
    """

    def __init__(self, config: FaceViTConfig):
        super().__init__()
        self.blocks, self.heads = config.num_hidden_layers, config.num_attention_heads
        self.rows, self.columns = (side // config.patch_size for side in config.crop_size)
        self.linear = nn.Linear(2 * len(ARCFACE_TEMPLATE), (2 * _LAST + 1) ** 2 * self.heads * self.blocks)

    def _classes(self) -> torch.Tensor:
        """Of each pair of patches, `(patches, patches)`, on the CPU, for not every device has float64."""
        rows, columns = torch.meshgrid(torch.arange(self.rows), torch.arange(self.columns), indexing="ij")
        first, second = (_offset_class(x.flatten()[:, None] - x.flatten()) for x in (rows, columns))
        return first * (2 * _LAST + 1) + second

    def forward(self, keypoints: torch.Tensor) -> torch.Tensor:
        """
        Args:
            keypoints: Five points `(batch, 5, 2)`, x and y, as parts of the width and height of the face.

        Returns:
            `torch.Tensor` of shape `(blocks, batch, heads, patches, patches)`.
        """
        y, x = (
            (torch.arange(count, device=keypoints.device, dtype=keypoints.dtype) + 0.5) / count
            for count in (self.rows, self.columns)
        )
        centres = torch.stack([x.repeat(self.rows), y.repeat_interleave(self.columns)], dim=-1)
        offsets = (centres[:, None] - keypoints[:, None]).flatten(2)  # (batch, patches, 10)
        values = self.linear(offsets.to(self.linear.weight.dtype))
        values = values.unflatten(2, (self.blocks, self.heads, -1)).permute(2, 0, 3, 1, 4)
        classes = self._classes().to(values.device).expand(*values.shape[:3], -1, -1)
        return values.gather(-1, classes)


def _offset_class(offsets: torch.Tensor) -> torch.Tensor:
    """Whole numbers to 0 to 6, 3 for 0."""
    distances = offsets.abs().double().clamp(min=_NEAR)
    far = _NEAR + torch.log(distances / _NEAR) / math.log(_LOG_SCALE / _NEAR) * (_FAR - _NEAR)
    far = far.round().clamp(max=_LAST).long() * offsets.sign()
    return torch.where(offsets.abs() <= _NEAR, offsets, far) + _LAST


class FaceViTModel(FacePreTrainedModel):
    """
    A vision transformer from canonical faces to embeddings.

    Example:

    ```python
    >>> import torch
    >>> from diffiqa_hf import FaceViTConfig, FaceViTModel

    >>> config = FaceViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    >>> FaceViTModel(config).eval()(torch.zeros(2, 3, 112, 112)).embeddings.shape
    torch.Size([2, 512])

    ```
    """

    config_class = FaceViTConfig

    def __init__(self, config: FaceViTConfig):
        super().__init__(config)
        width = config.hidden_size
        self.embeddings = FaceViTEmbeddings(config)
        self.keypoints = RelativeKeypoints(config) if config.relative_keypoints else None
        self.mask_token = None if config.mask_ratio is None else nn.Parameter(torch.zeros(1, 1, width))
        last = max(config.num_hidden_layers - 1, 1)
        rates = (config.drop_path_rate * i / last for i in range(config.num_hidden_layers))
        self.blocks = nn.ModuleList(FaceViTBlock(config, rate) for rate in rates)
        self.norm = nn.LayerNorm(width)
        embedded = config.num_patches + config.embed_quality_token
        self.pool = nn.Linear(width * embedded, width, bias=False)
        self.pool_norm = nn.BatchNorm1d(width, eps=config.bn_eps)
        self.embed = nn.Linear(width, config.embedding_size, bias=False)
        self.embed_norm = nn.BatchNorm1d(config.embedding_size, eps=config.bn_eps)
        self.post_init()

    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, FaceViTEmbeddings):
            nn.init.trunc_normal_(module.positions, std=0.02)
            if module.quality_token is not None:
                nn.init.normal_(module.quality_token, std=1e-6)
        elif isinstance(module, FaceViTModel) and module.mask_token is not None:
            nn.init.normal_(module.mask_token, std=0.02)
        if isinstance(module, RelativeKeypoints):  # at first the points say nothing
            nn.init.zeros_(module.linear.weight)

    @can_return_tuple
    def forward(
        self, pixel_values: torch.FloatTensor, keypoints: torch.FloatTensor | None = None
    ) -> FaceViTOutput | tuple[torch.FloatTensor, ...]:
        r"""
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, 112, 112)`):
                Canonical faces: RGB in [-1, 1].
            keypoints (`torch.FloatTensor` of shape `(batch_size, 5, 2)`, *optional*):
                With `config.relative_keypoints`: eyes, tip of the nose and corners of the mouth, in the order of the
                picture from left to right; x and y as parts of the width and height of the network's input. The points
                that canonical faces are aligned to when not given.
            return_dict (`bool`, *optional*, defaults to `config.return_dict`):
                `False` gives a plain tuple.

        Returns:
            [`FaceViTOutput`] with `embeddings` of shape `(batch_size, config.embedding_size)`.
        """
        tokens = self.encode(pixel_values, keypoints)
        output = self.embedding_output(self.embed_features(self._pool(tokens)))
        apart = self.config.quality_token and not self.config.embed_quality_token
        return FaceViTOutput(**output, quality_tokens=tokens[:, 0] if apart else None)

    def encode(self, pixel_values: torch.Tensor, keypoints: torch.Tensor | None = None) -> torch.Tensor:
        """Canonical faces to the normalised tokens after the last block, `(batch_size, tokens, hidden_size)`."""
        tokens = self.embeddings(self.prepare_faces(pixel_values))
        biases = self._attention_biases(keypoints, tokens)
        places = None
        if self.training and self.config.mask_ratio:
            tokens, places = self._without_some(tokens)
        for i, block in enumerate(self.blocks):
            tokens = block(tokens, None if biases is None else biases[i])
        tokens = self.norm(tokens)
        if places is not None and self.mask_token is not None:
            masked = self.mask_token.to(tokens).expand(tokens.shape[0], places.shape[1] - tokens.shape[1], -1)
            tokens = torch.cat([tokens, masked], dim=1)
            tokens = tokens.gather(1, places[:, :, None].expand_as(tokens))
        return tokens

    def _attention_biases(self, keypoints: torch.Tensor | None, tokens: torch.Tensor) -> torch.Tensor | None:
        if self.keypoints is None:
            if keypoints is not None:
                raise ValueError("this model takes no keypoints: its configuration has relative_keypoints=False")
            return None
        if keypoints is None:
            height, width = self.config.crop_size  # the middle of the canonical face
            template = torch.tensor(ARCFACE_TEMPLATE, dtype=torch.float32, device=tokens.device)
            corner = template.new_tensor([(TEMPLATE_SIZE - width) / 2, (TEMPLATE_SIZE - height) / 2])
            keypoints = ((template - corner) / template.new_tensor([width, height])).expand(tokens.shape[0], -1, -1)
        return self.keypoints(keypoints.to(tokens))

    def _without_some(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        A part of the tokens of each face, drawn at random, and where each token is found once the others follow them.
        The quality token always stays.
        """
        count = tokens.shape[1]
        noise = torch.rand(tokens.shape[:2], device=tokens.device)
        if self.config.quality_token:
            noise[:, 0] = -1
        order = noise.argsort(dim=1)
        kept = order[:, : int(count * (1 - self.config.mask_ratio)), None]
        return tokens.gather(1, kept.expand(-1, -1, tokens.shape[2])), order.argsort(dim=1)

    def _pool(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.config.quality_token and not self.config.embed_quality_token:
            tokens = tokens[:, 1:]
        return self.pool_norm(self.pool(tokens.flatten(1)))

    def pool_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Canonical faces to what the last layer reads, `(batch_size, hidden_size)`."""
        return self._pool(self.encode(pixel_values))

    def embed_features(self, pooled: torch.Tensor) -> torch.Tensor:
        """What the last layer reads to embeddings `(batch_size, config.embedding_size)`, not normalised."""
        return self.embed_norm(self.embed(pooled))


class FaceViTQualityHead(nn.Module):
    """ViT-FIQA's: a normalisation and a linear layer without a bias, from the quality token or the embedding."""

    def __init__(self, config: FaceViTConfig):
        super().__init__()
        apart = config.quality_token and not config.embed_quality_token
        width = config.hidden_size if apart else config.embedding_size
        self.norm = nn.BatchNorm1d(width, eps=config.bn_eps)
        self.score = nn.Linear(width, 1, bias=False)
        self.face = nn.Linear(config.embedding_size, 1) if config.face_check else None

    def face_logits(self, embeddings: torch.Tensor) -> torch.Tensor | None:
        return None if self.face is None else in_float32(self.face, embeddings).squeeze(-1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return in_float32(self.score, in_float32(self.norm, features)).squeeze(-1)


class FaceViTForFaceQuality(FacePreTrainedModel):
    """
    [`FaceViTModel`] with a quality head: ViT-FIQA.

    Example:

    ```python
    >>> import torch
    >>> from diffiqa_hf import FaceViTConfig, FaceViTForFaceQuality

    >>> sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    >>> model = FaceViTForFaceQuality(FaceViTConfig(**sizes, quality_token=True)).eval()
    >>> model(torch.zeros(2, 3, 112, 112)).scores.shape
    torch.Size([2])

    ```
    """

    config_class = FaceViTConfig

    def __init__(self, config: FaceViTConfig):
        super().__init__(config)
        self.backbone = FaceViTModel(config)
        self.head = FaceViTQualityHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.FloatTensor,
        labels: torch.FloatTensor | None = None,
        keypoints: torch.FloatTensor | None = None,
    ) -> FaceQualityModelOutput | tuple[torch.FloatTensor, ...]:
        r"""
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, 112, 112)`):
                Canonical faces: RGB in [-1, 1].
            labels (`torch.FloatTensor` of shape `(batch_size,)`, *optional*):
                Qualities that the scores are to come to, for `loss`; a NaN is a face without one.
            keypoints (`torch.FloatTensor` of shape `(batch_size, 5, 2)`, *optional*):
                As [`FaceViTModel`] takes them.
            return_dict (`bool`, *optional*, defaults to `config.return_dict`):
                `False` gives a plain tuple.

        Returns:
            [`FaceQualityModelOutput`] with `scores` of shape `(batch_size,)` and `embeddings` of shape
            `(batch_size, config.embedding_size)`; where `config.face_check`, `face_logits` as well.
        """
        output = self.backbone(pixel_values, keypoints, return_dict=True)
        scores = self.head(output.embeddings if output.quality_tokens is None else output.quality_tokens)
        return FaceQualityModelOutput(
            loss=quality_loss(scores, labels),
            scores=scores,
            embeddings=output.embeddings,
            face_logits=self.head.face_logits(output.embeddings),
        )


AutoConfig.register(FaceViTConfig.model_type, FaceViTConfig, exist_ok=True)
AutoModelForFaceQuality.register(FaceViTConfig, FaceViTForFaceQuality, exist_ok=True)


__all__ = ["FaceViTForFaceQuality", "FaceViTModel", "FaceViTOutput"]
