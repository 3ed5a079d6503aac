# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Folding for inference: layers that do the same to every input become part of their neighbours, which leaves fewer
passes over the feature maps and the same outputs to rounding.

- A batch normalisation (or dlib's scale and shift) after a convolution or linear layer becomes part of its weights
  (Jacob et al., CVPR 2018, section 3.2). One before a padded convolution can't, for the padding is not normalised: it
  becomes one multiply-add.
- The standardised weights of [`DifFIQAUNetModel`] are computed once and not at each call.
- In the UNets a nearest upsampling and the 3x3 convolution after it become one transposed convolution, with 4 in place
  of 9 multiplications for each output value: of the pixels under a filter most are copies of each other.
- A PReLU's slopes take no gradient, and that of the pixels, which FaceQAN goes by, takes less time.
- On request, the wide 3x3 convolutions are computed by Winograd's algorithm.
"""

import copy
from typing import TypeVar

import torch
from diffusers import UNet2DModel
from diffusers.models.upsampling import Upsample2D
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ..models.dlib_resnet.modeling_dlib_resnet import Affine, DlibResNetBlock, DlibResNetModel
from ..models.face_vit.modeling_face_vit import FaceViTModel
from ..models.iresnet.modeling_iresnet import IResNetBlock, IResNetModel
from ..models.lightqnet.modeling_lightqnet import LightQNetConv
from ..models.mobilefacenet.modeling_mobilefacenet import MobileFaceNetConv, MobileFaceNetModel
from ..models.modeling_face_quality import SDDFIQAForFaceQuality
from ..models.pfe.modeling_pfe import PFEForFaceQuality
from ..models.unet_diffiqa.modeling_unet_diffiqa import Block, DifFIQAUNetModel, StandardizedConv2d
from .network_views import is_offloaded, uncompiled
from .winograd import WinogradConv2d


Model = TypeVar("Model", bound=nn.Module)

# With fewer channels than this PyTorch's convolution is as fast as Winograd's algorithm in matrix products.
_WINOGRAD_CHANNELS = 128


class ScaleShift(nn.Module):
    """What a batch normalisation does in evaluation: a scale and a shift of each channel."""

    def __init__(self, norm: _BatchNorm):
        super().__init__()
        scale, shift = _scale_and_shift(norm)
        self.scale = _parameter(scale[:, None, None], norm.running_var)
        self.shift = _parameter(shift[:, None, None], norm.running_var)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(self.shift, hidden_states, self.scale)


class _FrozenPReLU(torch.autograd.Function):
    """The gradient of PyTorch's takes that of the slopes along, which nothing asks for, and five times as long."""

    @staticmethod
    def forward(ctx, hidden_states: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(hidden_states, slopes)
        return F.prelu(hidden_states, slopes)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        hidden_states, slopes = ctx.saved_tensors
        positive = torch.ops.aten.threshold_backward(gradient, hidden_states, 0)  # zero elsewhere
        slopes = slopes.view(-1, *[1] * (gradient.ndim - 2))
        return torch.addcmul(positive, gradient - positive, slopes), None


class FrozenPReLU(nn.Module):
    """A PReLU whose slopes take no gradient."""

    def __init__(self, prelu: nn.PReLU):
        super().__init__()
        self.weight = prelu.weight

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() and hidden_states.requires_grad:
            return _FrozenPReLU.apply(hidden_states, self.weight)
        return F.prelu(hidden_states, self.weight)


def fold(model: Model, winograd: bool = False) -> Model:
    """
    A copy of a model for inference alone: the outputs are the same to rounding, and it is faster.

    It folds the face recognition and face quality models of this package, [`DifFIQAUNetModel`], and the upsampling of
    diffusers' `UNet2DModel`; of any other module it gives a copy in evaluation mode. The copy's weights are in
    channels-last order and take no gradient (the pixels do), `train()` changes nothing that it computes, it says so by
    `is_folded`, and it refuses to be saved. The model itself is left as it is.

    A folded model folds to a copy of itself. For half precision fold first and convert then, which rounds once:
    `fold(model).to(torch.bfloat16)`.

    Args:
        model (`nn.Module`): The model, in whatever mode; the copy does what it does in evaluation mode.
        winograd (`bool`, *optional*, defaults to `False`): Also compute the 3x3 convolutions of 128 channels and more
            by [`WinogradConv2d`], which takes about half the time of a convolution on a CPU and five times the memory
            of its weights. In float32 alone, and not for gradients; in another dtype they are convolutions again.

    Returns:
        `nn.Module`: Of the same class, with the same inputs, outputs and `config`, but not the same weights.

    Example:

    ```python
    >>> import torch
    >>> from diffiqa_hf import MobileFaceNetConfig, MobileFaceNetModel
    >>> from diffiqa_hf.inference.folding import fold

    >>> model = MobileFaceNetModel(MobileFaceNetConfig()).eval()
    >>> folded = fold(model)
    >>> faces = torch.zeros(2, 3, 112, 112)
    >>> torch.allclose(folded(faces).embeddings, model(faces).embeddings, atol=1e-4)
    True

    ```
    """
    model = uncompiled(model)
    if is_offloaded(model):
        raise ValueError(f"the {type(model).__name__} is offloaded: fold it first, and offload what it was folded to")
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    with torch.no_grad():
        if not getattr(model, "is_folded", False):
            for module in list(folded.modules()):
                _fold_layers(module)
                for name, child in list(module.named_children()):
                    if type(child) is nn.PReLU:
                        setattr(module, name, FrozenPReLU(child))
        if winograd:
            _use_winograd(folded)
    folded.to(memory_format=torch.channels_last)
    folded.is_folded = True
    for name in ("save_pretrained", "push_to_hub"):
        if hasattr(folded, name):
            setattr(folded, name, _refuse_to_save)
    return folded


def _refuse_to_save(*args, **kwargs):
    raise RuntimeError("a folded model is for inference alone: save the model that it was made of")


def _use_winograd(module: nn.Module) -> None:
    for name, child in module.named_children():
        if WinogradConv2d.accepts(child) and min(child.in_channels, child.out_channels) >= _WINOGRAD_CHANNELS:
            setattr(module, name, WinogradConv2d(child))
        else:
            _use_winograd(child)


def _fold_layers(module: nn.Module) -> None:
    """Folds what belongs to this very module, and leaves its submodules to their own turn."""
    if isinstance(module, IResNetBlock):
        module.bn1 = ScaleShift(module.bn1)
        if isinstance(module.bn2, _BatchNorm):
            module.bn2 = _fold_into(module.conv1, module.bn2)
        module.bn3 = _fold_into(module.conv2, module.bn3)
        if module.downsample is not None:
            module.downsample[1] = _fold_into(*module.downsample)
    elif isinstance(module, IResNetModel):
        module.bn1 = _fold_into(module.conv1, module.bn1)
        module.bn2 = _fold_before(module.bn2, module.fc)
        module.dropout = nn.Identity()
        module.features = _fold_into(module.fc, module.features)
    elif isinstance(module, PFEForFaceQuality) and isinstance(module.backbone, IResNetModel):
        # It reads what the backbone's last layer reads, into which the backbone's normalisation goes.
        _fold_before(module.backbone.bn2, module.uncertainty.fc1)
    elif isinstance(module, SDDFIQAForFaceQuality):
        module.bn1 = _fold_into(module.conv1, module.bn1)
        module.dropout = nn.Identity()
    elif isinstance(module, MobileFaceNetConv | LightQNetConv):
        module.norm = _fold_into(module.conv, module.norm)
    elif isinstance(module, DlibResNetModel):
        module.norm = _fold_into(module.conv, module.norm)
    elif isinstance(module, DlibResNetBlock):
        module.norm1 = _fold_into(module.conv1, module.norm1)
        module.norm2 = _fold_into(module.conv2, module.norm2)
    elif isinstance(module, MobileFaceNetModel):
        module.norm = _fold_into(module.embed, module.norm)
    elif isinstance(module, FaceViTModel):
        module.pool_norm = _fold_into(module.pool, module.pool_norm)
        module.embed_norm = _fold_into(module.embed, module.embed_norm)
    elif isinstance(module, Block):
        module.proj = _fold_standardization(module.proj)
    elif isinstance(module, DifFIQAUNetModel):
        for level in module.ups:
            if isinstance(level[3], nn.Sequential):
                level[3] = _fold_upsampling(level[3][1])
    elif isinstance(module, UNet2DModel):  # others may ask for another size than twice the one that there is
        for part in module.modules():
            if isinstance(part, Upsample2D) and _is_nearest_and_3x3(part):
                part.interpolate, part.conv = False, _fold_upsampling(part.conv)


def _parameter(value: torch.Tensor, like: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(value.to(like.dtype).contiguous(), requires_grad=False)


def _scale_and_shift(norm: _BatchNorm | Affine) -> tuple[torch.Tensor, torch.Tensor]:
    if isinstance(norm, Affine):
        return norm.weight.float(), norm.bias.float()
    scale = torch.rsqrt(norm.running_var.float() + norm.eps)
    if norm.affine:
        scale = scale * norm.weight.float()
    shift = -norm.running_mean.float() * scale
    if norm.affine:
        shift = shift + norm.bias.float()
    return scale, shift


def _fold_into(layer: nn.Conv2d | nn.Linear, norm: _BatchNorm | Affine) -> nn.Identity:
    """Makes a normalisation part of the layer before it, and returns what takes its place."""
    scale, shift = _scale_and_shift(norm)
    weight = layer.weight.float()
    if layer.bias is not None:
        shift = shift + layer.bias.float() * scale
    layer.bias = _parameter(shift, layer.weight)
    layer.weight = _parameter(weight * scale.view(-1, *[1] * (weight.ndim - 1)), layer.weight)
    return nn.Identity()


def _fold_before(norm: _BatchNorm, linear: nn.Linear) -> nn.Identity:
    """Makes a normalisation of feature maps part of the linear layer that reads them, flattened."""
    scale, shift = _scale_and_shift(norm)
    weight = linear.weight.float().unflatten(1, (len(scale), -1))  # (outputs, channels, pixels)
    bias = weight.sum(2) @ shift
    if linear.bias is not None:
        bias = bias + linear.bias.float()
    linear.bias = _parameter(bias, linear.weight)
    linear.weight = _parameter((weight * scale[:, None]).flatten(1), linear.weight)
    return nn.Identity()


def _fold_standardization(conv: StandardizedConv2d) -> nn.Conv2d:
    folded = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, device="meta"
    ).requires_grad_(False)
    folded.weight = _parameter(conv.standardized_weight(), conv.weight)
    folded.bias = conv.bias
    return folded


def _is_nearest_and_3x3(module: Upsample2D) -> bool:
    if not (module.use_conv and module.interpolate and module.name == "conv") or module.use_conv_transpose:
        return False
    return module.conv.kernel_size == (3, 3) and module.conv.padding == (1, 1)


def _fold_upsampling(conv: nn.Conv2d) -> nn.ConvTranspose2d:
    """
    A nearest upsampling by 2 and the 3x3 convolution after it, in one. The first is a transposed convolution of stride
    2 with 2x2 ones, so its filters are those of the second, convolved with ones.
    """
    folded = nn.ConvTranspose2d(conv.in_channels, conv.out_channels, 4, stride=2, padding=1, device="meta")
    filters = conv.weight.float().flip(-2, -1).flatten(0, 1)[:, None]
    filters = F.conv2d(filters, filters.new_ones(1, 1, 2, 2), padding=1)[:, 0]
    folded.requires_grad_(False)
    folded.weight = _parameter(filters.unflatten(0, conv.weight.shape[:2]).transpose(0, 1), conv.weight)
    folded.bias = conv.bias
    return folded


__all__ = ["fold"]
