# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
FaceQnet's Keras files (`FaceQnet.h5`, `FaceQnet_v1.h5`) and, to train on, the trunk that it began as, a ResNet-50 of
keras-vggface: a file of weights alone (`rcmalli_vggface_tf_notop_resnet50.h5`).
"""

import os

import torch

from ...models.faceqnet import FaceQnetConfig, FaceQnetForFaceQuality
from ..errors import CheckpointError
from ..readers.keras import ACTIVATIONS, TRUNK, TRUNK_PARTS, read_keras_file


_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def convert_faceqnet(tensors: dict[str, torch.Tensor]) -> tuple[FaceQnetConfig, dict[str, torch.Tensor]]:
    """
    Args:
        tensors: What [`read_keras_file`] gives of a published file (BGR, 0 to 255, 224x224): the 265 tensors of the
            53 convolutions of a ResNet-50 and their normalisations, and two a dense layer.

    Returns:
        The configuration and the state dict of a [`FaceQnetForFaceQuality`].

    Raises:
        ValueError: A tensor is not expected; it is named.
        KeyError: One that the sizes are read off is missing.
    """
    config, converted = _convert(tensors)
    if "dense.0.weight" not in converted:
        raise ValueError(
            "a trunk alone, which gives no scores: training/train_quality.py --recipe faceqnet trains on it"
        )
    return config, converted


def load_faceqnet(path: str | os.PathLike) -> FaceQnetForFaceQuality:
    """
    The network of a Keras file, to train on: FaceQnet's own, or a trunk of keras-vggface with the default head, whose
    weights are drawn by torch's generator. Pixels go in as into FaceQnet, BGR from 0 to 255, without VGGFace2's mean
    taken off, which keras-vggface does for its trunk and the script of FaceQnet's authors does not.

    Raises:
        CheckpointError: The file can't be read or holds another network; the message is the reason.
    """
    try:
        config, weights = _convert(read_keras_file(path))
        model = FaceQnetForFaceQuality(config)
        if "dense.0.weight" not in weights:
            weights |= {name: tensor for name, tensor in model.state_dict().items() if name.startswith("dense.")}
        model.load_state_dict(weights)
    except CheckpointError:
        raise
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"not the tensors of faceqnet: {' '.join(str(error).split())}") from error
    return model.eval()


def _convert(tensors: dict[str, torch.Tensor]) -> tuple[FaceQnetConfig, dict[str, torch.Tensor]]:
    """The same as [`convert_faceqnet`]; of a trunk the configuration has the default head, which has no tensors."""
    epsilons = {round(value.item(), 9) for name, value in tensors.items() if name.endswith("/epsilon")}
    if len(epsilons) > 1:
        raise ValueError(f"batch normalisations with several epsilons: {sorted(epsilons)}")
    blocks = sorted({(int(m[1]), int(m[2])) for m in map(TRUNK.match, tensors) if m and m[1]})
    position = {block: i for i, block in enumerate(blocks)}
    converted, dense, acts = {}, [], []
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition("/")
        if kind == "epsilon":
            continue
        if m := TRUNK.fullmatch(layer):
            ours = f"blocks.{position[int(m[1]), int(m[2])]}.{TRUNK_PARTS[m[3]]}" if m[1] else "stem"
            if m[4] and kind in _NORM:
                converted[f"{ours}.norm.{_NORM[kind]}"] = tensor
                converted[f"{ours}.norm.num_batches_tracked"] = torch.tensor(0)
                continue
            if not m[4] and kind == "kernel":
                converted[f"{ours}.conv.weight"] = tensor.permute(3, 2, 0, 1)  # from height, width, in, out
                continue
        elif f"{layer}/activation" in tensors and kind in ("kernel", "bias", "activation"):
            if layer not in dense:
                dense.append(layer)
            if kind == "activation":
                acts.append(ACTIVATIONS[int(tensor)])
            else:
                ours = f"dense.{dense.index(layer)}"
                converted[f"{ours}.{'weight' if kind == 'kernel' else 'bias'}"] = tensor.t()
            continue
        raise ValueError(f"unexpected tensors: {name}")
    # Keras counts the stages from 2 on, the first being the stem.
    depths = [sum(stage == number for stage, _ in blocks) for number in sorted({stage for stage, _ in blocks})]
    starts = [sum(depths[:i]) for i in range(len(depths))]
    head = {}
    if dense:
        if converted[f"dense.{len(dense) - 1}.weight"].shape[0] != 1:
            raise ValueError("no dense layer with one output at the end")
        widths = [converted[f"dense.{i}.weight"].shape[0] for i in range(len(dense) - 1)]
        head = {"head_widths": widths, "head_acts": acts}
    config = FaceQnetConfig(
        depths=depths,
        widths=[converted[f"blocks.{start}.reduce.conv.weight"].shape[0] for start in starts],
        stem_width=converted["stem.conv.weight"].shape[0],
        **head,
        **({"bn_eps": epsilons.pop()} if epsilons else {}),
    )
    return config, converted


__all__ = ["convert_faceqnet", "load_faceqnet"]
