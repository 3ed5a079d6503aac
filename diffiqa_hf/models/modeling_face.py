# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What every face recognition (FR) model of the package shares: its input, its output and the base classes."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput, can_return_tuple

from .loading import check_loading


class FaceModelConfig(PreTrainedConfig):
    r"""
    Base of the configurations: how a network turns canonical faces into what it was trained on.

    Args:
        crop_size (`list[int]`, *optional*, defaults to `[112, 112]`):
            Height and width of the network's input in pixels, cut from the middle of the canonical face.
        channel_order (`str`, *optional*, defaults to `"rgb"`):
            `"rgb"` or `"bgr"`, the order that the weights were trained with. Canonical faces are RGB always.
        image_mean, image_std (`list[float]`, *optional*, default to `[0.5, 0.5, 0.5]`):
            Per channel (in the order of `channel_order`), on the [0, 1] scale.
        embedding_size (`int`, *optional*, defaults to 512):
            Dimension D of the embedding.
        normalize_embedding (`bool`, *optional*, defaults to `False`):
            Whether the embedding is scaled to unit length, where the original's is (AdaFace). The output then has the
            `norms` before.
        bn_eps (`float`, *optional*, defaults to 1e-5):
            Epsilon of the batch normalisations.
        quality_hidden_size (`int`, *optional*):
            Width of the hidden layer of a quality head, 1024 in eDifFIQA; a linear head where `None`. Only the
            `...ForFaceQuality` models read it.
        face_check (`bool`, *optional*, defaults to `False`):
            Whether a quality model has a second output, which says whether the picture is one of a face at all. Only
            the `...ForFaceQuality` models read it.
        quality_normalization (`dict`, *optional*):
            How the labels that a quality head learnt were made of raw qualities, with the constants (`"kind"` is
            `"minmax"`, `"rank"` or `"none"`, or, of several labels, `"weighted_mean"` with the `"columns"`). For
            people; nothing is computed from it.
        training_data, weights_license (`str`, *optional*):
            What the weights were trained on and how they may be used. For people; nothing is computed from them.
    """

    crop_size: list[int] | tuple[int, ...] = (112, 112)
    channel_order: str = "rgb"
    image_mean: list[float] | tuple[float, ...] = (0.5, 0.5, 0.5)
    image_std: list[float] | tuple[float, ...] = (0.5, 0.5, 0.5)
    embedding_size: int = 512
    normalize_embedding: bool = False
    bn_eps: float = 1e-5
    quality_hidden_size: int | None = None
    face_check: bool = False
    quality_normalization: dict | None = None
    training_data: str | None = None
    weights_license: str | None = None

    def __post_init__(self, **kwargs):
        if self.channel_order not in ("rgb", "bgr"):
            raise ValueError(f"channel_order is 'rgb' or 'bgr', not {self.channel_order!r}")
        self._check_plain_values()
        super().__post_init__(**kwargs)

    def _check_plain_values(self) -> None:
        """What stands in a file may be anything, and would be a riddle, or another network, when faces come."""
        for owner in type(self).__mro__[: type(self).__mro__.index(FaceModelConfig) + 1]:
            for name, kind in vars(owner).get("__annotations__", {}).items():
                if kind in (bool, int, float, str) and not _is_plain(value := getattr(self, name), kind):
                    raise ValueError(f"{name} has to be {kind.__name__}, not {str(value)[:80]!r}")
        for name, count, kind in (("crop_size", 2, int), ("image_mean", 3, float), ("image_std", 3, float)):
            values = getattr(self, name)
            if (
                not isinstance(values, list | tuple)
                or len(values) != count
                or not all(_is_plain(x, kind) for x in values)
            ):
                raise ValueError(f"{name} is {count} numbers, not {str(values)[:80]!r}")
        if self.bn_eps <= 0 or min(self.image_std) <= 0 or min(self.crop_size) < 1:
            raise ValueError("bn_eps, image_std and crop_size are positive")


def _is_plain(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return type(value) is kind


@dataclass
class FaceEmbeddingOutput(ModelOutput):
    """
    Output of a face recognition model.

    Args:
        embeddings (`torch.FloatTensor` of shape `(batch_size, embedding_size)`):
            Face embeddings, compared by cosine similarity. Of unit length only where `config.normalize_embedding`.
        norms (`torch.FloatTensor` of shape `(batch_size,)`, given where `config.normalize_embedding`):
            L2 norms of the embeddings before they were scaled to unit length.
    """

    embeddings: torch.FloatTensor | None = None
    norms: torch.FloatTensor | None = None


def at_least_float32(values: torch.Tensor) -> torch.Tensor:
    """Half precision as single; single and double as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def in_float32(layer: torch.nn.Module, hidden_states: torch.Tensor) -> torch.Tensor:
    """
    What a layer makes of its input in single precision (in double precision where the layer has that), also under
    autocast and with weights in half precision. Scores are made so: bfloat16 has steps of .004 below 1 and of .5 below
    100, and its sigmoid is 1, without a gradient, from a logit of 6.5 on.
    """
    weight = next(layer.parameters())
    dtype = torch.promote_types(weight.dtype, torch.float32)
    if weight.dtype != dtype and weight.device != hidden_states.device:  # its hooks move it when it is called
        return layer(hidden_states.to(weight.dtype)).to(dtype)
    hidden_states = hidden_states.to(dtype)
    kind = hidden_states.device.type
    # Not always, for it would be an operator of its own in an exported graph.
    with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
        if weight.dtype == dtype:
            return layer(hidden_states)
        tensors = {name: value.to(dtype) for name, value in layer.state_dict(keep_vars=True).items()}
        return torch.func.functional_call(layer, tensors, (hidden_states,))


@contextmanager
def _kept_running_statistics(model: torch.nn.Module) -> Iterator[None]:
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, num_batches_tracked) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, num_batches_tracked


def _checkpoint_contexts(model: torch.nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """The contexts of a block's first run and of its second, in the backward pass."""
    return nullcontext(), _kept_running_statistics(model)


def _checkpoint_block(model: torch.nn.Module, checkpoint_function: Callable, block: Callable, *args: torch.Tensor):
    # A compiler takes no such contexts, and needs none: it has each update once in its graph.
    if not torch.compiler.is_compiling():
        checkpoint_function = partial(checkpoint_function, context_fn=partial(_checkpoint_contexts, model))
    return checkpoint_function(block, *args)


def resize_faces(pixel_values: torch.Tensor, size: list[int] | tuple[int, ...]) -> torch.Tensor:
    """Canonical faces `(B, 3, H, W)` at another size (height, width), bilinear with antialiasing."""
    if tuple(pixel_values.shape[2:]) == tuple(size):
        return pixel_values
    return torch.nn.functional.interpolate(
        pixel_values.float(), size=tuple(size), mode="bilinear", align_corners=False, antialias=True
    )


class FacePreTrainedModel(PreTrainedModel):
    """Base of all face models: weight initialisation, and canonical faces to the network's own input."""

    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    # Whether the whole face is resized to `config.crop_size`, of which otherwise the middle is cut.
    resizes_faces = False

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, **kwargs) -> "FacePreTrainedModel":
        """
        As in transformers, which makes up weights that are not in the files: here that is for a new head on the
        backbone of another model alone, to be trained. `output_loading_info=True` and `state_dict=...` are as there.

        Raises:
            LoadingError: Weights are missing.
        """
        if kwargs.get("output_loading_info") or pretrained_model_name_or_path is None or "state_dict" in kwargs:
            return super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)
        model, info = super().from_pretrained(
            pretrained_model_name_or_path, *model_args, **kwargs, output_loading_info=True
        )
        missing = info["missing_keys"]
        if hasattr(model, cls.base_model_prefix) and (model.config.architectures or [""])[0] != cls.__name__:
            missing = [name for name in missing if name.startswith(f"{cls.base_model_prefix}.")]
        if missing:
            # What is there beyond them is of no harm, but may say why they are missing.
            info = {"missing_keys": missing, "unexpected_keys": info["unexpected_keys"], "mismatched_keys": ()}
            check_loading(pretrained_model_name_or_path, cls.__name__, info)
        return model

    def _set_gradient_checkpointing(self, enable: bool = True, gradient_checkpointing_func=checkpoint, **kwargs):
        # A block's second run, in the backward pass, must leave the running statistics of the batch normalisations
        # alone, which its first has updated. (There is no telling the runs apart with `use_reentrant=True`, and who
        # brings contexts of their own keeps them.)
        keywords = getattr(gradient_checkpointing_func, "keywords", {})
        if not keywords.get("use_reentrant", False) and "context_fn" not in keywords:
            gradient_checkpointing_func = partial(_checkpoint_block, self, gradient_checkpointing_func)
        super()._set_gradient_checkpointing(enable, gradient_checkpointing_func, **kwargs)

    def _init_weights(self, module: torch.nn.Module):
        super()._init_weights(module)
        if isinstance(module, torch.nn.Conv2d):
            self._init_convolution(module.weight)
        elif isinstance(module, torch.nn.PReLU):
            torch.nn.init.constant_(module.weight, 0.25)

    def _init_convolution(self, weight: torch.Tensor):
        torch.nn.init.kaiming_normal_(weight, mode="fan_out")

    def prepare_faces(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """
        Canonical faces to the input that the weights were trained on: size, channel order, mean, standard deviation.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, height, width)`):
                Canonical faces: RGB in [-1, 1], at least as large as `config.crop_size` unless they are resized to it.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, 3, *config.crop_size)`, differentiable in the pixels.
        """
        config = self.config
        height, width = config.crop_size
        if pixel_values.ndim != 4 or pixel_values.shape[1] != 3:
            raise ValueError(f"faces have the shape (batch, 3, height, width), got {tuple(pixel_values.shape)}")
        if self.resizes_faces:
            pixel_values = resize_faces(pixel_values, config.crop_size)
        if pixel_values.shape[2] < height or pixel_values.shape[3] < width:
            got = "x".join(map(str, pixel_values.shape[2:]))
            raise ValueError(f"this model takes faces of at least {height}x{width}, got {got}")
        top = (pixel_values.shape[2] - height) // 2
        left = (pixel_values.shape[3] - width) // 2
        faces = pixel_values[:, :, top : top + height, left : left + width].to(self.dtype)
        # The order in memory that the network computes in is that of its weights and never that of the image (a NumPy
        # image after `permute` is in channels-last order), so that a face has one embedding whoever prepared it.
        faces = faces.contiguous()
        if config.channel_order == "bgr":
            faces = faces.flip(1)
        mean, std = tuple(config.image_mean), tuple(config.image_std)
        if mean == std == (0.5, 0.5, 0.5):  # the canonical scale itself
            return faces
        mean = faces.new_tensor(mean).view(1, 3, 1, 1)
        std = faces.new_tensor(std).view(1, 3, 1, 1)
        return ((faces + 1) / 2 - mean) / std

    def embedding_output(self, embeddings: torch.Tensor) -> FaceEmbeddingOutput:
        """Embeddings as the configuration has them: with `normalize_embedding` of unit length, and their norms."""
        norms = None
        if self.config.normalize_embedding:
            norms = torch.linalg.vector_norm(embeddings, dim=1)
            embeddings = torch.nn.functional.normalize(embeddings)
        return FaceEmbeddingOutput(embeddings=embeddings, norms=norms)


class FaceRecognitionModel(FacePreTrainedModel):
    """Base of the FR models: canonical faces to embeddings, by [`pool_features`] and [`embed_features`]."""

    @can_return_tuple
    def forward(self, pixel_values: torch.FloatTensor) -> FaceEmbeddingOutput | tuple[torch.FloatTensor]:
        r"""
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, 112, 112)`):
                Canonical faces: RGB in [-1, 1].
            return_dict (`bool`, *optional*, defaults to `config.return_dict`):
                `False` gives a plain tuple.

        Returns:
            [`FaceEmbeddingOutput`] with `embeddings` of shape `(batch_size, config.embedding_size)`.
        """
        return self.embedding_output(self.embed_features(self.pool_features(pixel_values)))

    def pool_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Canonical faces to what the last layer reads, `(batch_size, in_features)`."""
        raise NotImplementedError

    def embed_features(self, pooled: torch.Tensor) -> torch.Tensor:
        """What the last layer reads to embeddings `(batch_size, config.embedding_size)`, not normalised."""
        raise NotImplementedError
