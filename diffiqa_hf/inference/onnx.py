# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Face quality models to ONNX, with what has to be done to an image beforehand written in the file."""

import importlib.util
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ..alignment import arcface_template
from ..calibration import weights_digest
from ..file_utils import replace_file
from ..fingerprints import fingerprint
from ..images.extraction import FaceExtractor
from ..models.clib_fiqa.modeling_clib_fiqa import good_probabilities
from ..models.modeling_face import FacePreTrainedModel
from ..version import __version__
from .folding import fold
from .network_views import for_inference
from .onnx_session import OnnxNetwork


if TYPE_CHECKING:
    import onnx

# What a runtime of 2024 reads: ONNX Runtime 1.17 and later.
OPSET = 18
NEEDED = ("onnx", "onnxscript")


class _GELU(nn.Module):
    """GELU in the order of operations that OpenCV's dnn knows; in that of torch's exporter it ends the process."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states * (1 + torch.erf(hidden_states / math.sqrt(2))) * 0.5


class _Scores(nn.Module):
    """What a file gives: the scores, and what else belongs to them."""

    def __init__(self, model: FacePreTrainedModel):
        super().__init__()
        self.model = model

    def named(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
        output = self.model(pixel_values, return_dict=True)
        if hasattr(output, "scores"):
            found = {"scores": output.scores}
        else:
            norms = output.norms
            found = {"scores": torch.linalg.vector_norm(output.embeddings, dim=1) if norms is None else norms}
        if getattr(output, "face_logits", None) is not None:
            found["face_logits"] = output.face_logits
        if getattr(output, "probabilities", None) is not None:
            found |= good_probabilities(output.probabilities)
        return found

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.named(pixel_values).values())


def export_onnx(
    model: FacePreTrainedModel, path: str | os.PathLike, *, norms: bool = False, source: str | None = None
) -> Path:
    """
    Writes a face quality model as ONNX: `pixel_values` (batch, 3, height, width) float32 to `scores` (batch,) float32,
    higher is better, for any batch; and to `face_logits` (batch,) where the model tells faces from what is none, and
    to CLIB-FIQA's terms. Normalisations are folded into the convolutions ([`~diffiqa_hf.inference.folding.fold`]);
    what the model itself does to canonical faces (crop, channel order, mean) is in the graph. ONNX Runtime and
    OpenCV's dnn read it.

    The metadata of the file says what the input is, so that a program without this package can make it: see
    [`onnx_metadata`].

    Args:
        model: One that [`AutoModelForFaceQuality`] loads; left as it is.
        path: The file; it is written beside and renamed.
        norms (*optional*, defaults to `False`): The model is an FR model, and the score the L2 norm of its embedding.
        source (*optional*): Digits that the weights are known by
            ([`~diffiqa_hf.scoring.onnx_forms.source_digest`]).

    Returns:
        `Path`: the file.

    Raises:
        ImportError: `onnx` or `onnxscript` is missing (`pip install "diffiqa_hf[onnx]"`).
        TypeError: The model is no face quality model.
    """
    check_exporter()
    if not isinstance(model, FacePreTrainedModel) or type(model).__name__.endswith("ForFaceQuality") == norms:
        raise TypeError(f"{type(model).__name__} is no {'FR' if norms else 'face quality'} model")
    import onnx

    path = Path(path)
    # In the plain order of memory: that of fold(), channels last, would leave transpositions in the graph.
    network = _Scores(fold(model).float().to("cpu", memory_format=torch.contiguous_format)).eval()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.GELU:
                setattr(module, name, _GELU())
    faces = torch.zeros(2, 3, *face_size(model))  # two: a batch of one would be taken for a constant
    with torch.no_grad():
        terms = {name: name.replace(" ", "_") for name in network.named(faces)}
    exported = to_graph(network, {"pixel_values": faces}, list(terms.values()))
    terms = {name: output for name, output in terms.items() if name not in ("scores", "face_logits")}
    metadata = onnx_metadata(model) | {"terms": json.dumps(terms)} | ({} if source is None else {"source": source})
    set_metadata(exported, metadata)
    onnx.checker.check_model(exported, full_check=True)
    return replace_file(path, lambda beside: beside.write_bytes(exported.SerializeToString()))


def to_graph(
    network: nn.Module, inputs: dict[str, torch.Tensor], outputs: list[str], optimize: bool = True
) -> "onnx.ModelProto":
    """
    What torch exports of a network in evaluation mode, without a word of where it was made.

    Args:
        network: Takes tensors in the order of `inputs`, whose first sides are one batch of any size.
        inputs: By the names that they are to have, batches of two.
        outputs: The names that they are to have.
        optimize: Whether what is constant is computed, and normalisations are taken into convolutions. Without, every
            large tensor of the graph is one of the network's, or its transpose.
    """
    program = torch.onnx.export(
        network,
        tuple(inputs.values()),
        dynamo=True,
        input_names=list(inputs),
        output_names=outputs,
        dynamic_shapes=tuple({0: torch.export.Dim("batch")} for _ in inputs),
        opset_version=OPSET,
        external_data=False,
        verbose=False,
        optimize=optimize,
    )
    if not optimize:
        from onnxscript import optimizer

        # Shapes and zeros, which would keep ONNX Runtime from taking the normalisations into the convolutions itself.
        optimizer.fold_constants(program.model)
        optimizer.remove_unused_nodes(program.model)
    exported = program.model_proto
    for entry in (*exported.graph.input, *exported.graph.output):
        # Where a network asks for the length of its input, and not for its shape, the exporter fixes that of these.
        if not entry.type.tensor_type.shape.dim[0].dim_param:
            raise ValueError(f"the batch of {entry.name} would be fixed in the ONNX form")
    # The exporter notes for each node where in the source it came from, with the paths of this machine.
    for entry in (*exported.graph.node, *exported.graph.value_info, *exported.graph.input, *exported.graph.output):
        entry.ClearField("metadata_props")
        entry.ClearField("doc_string")
    exported.graph.ClearField("metadata_props")
    exported.ClearField("metadata_props")
    return exported


def set_metadata(graph: "onnx.ModelProto", metadata: dict[str, str]) -> None:
    """Writes the metadata of a file, and what has made it."""
    import onnx

    onnx.helper.set_model_props(graph, metadata)
    graph.producer_name, graph.producer_version = "diffiqa_hf", __version__


def check_exporter() -> None:
    """Raises `ImportError` where a package that the exporter needs is missing."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise ImportError(f'export to ONNX needs {" and ".join(missing)}: pip install "diffiqa_hf[onnx]"')


def face_size(model: FacePreTrainedModel) -> tuple[int, int]:
    """Height and width of the canonical faces that the exported model takes: 112x112, or more where it needs more."""
    height, width = model.config.crop_size
    if model.config.model_type in ("faceqnet", "lightqnet", "pcnet"):  # which would resize: faces are made at its size
        return height, width
    return max(height, 112), max(width, 112)


def onnx_metadata(model: FacePreTrainedModel) -> dict[str, str]:
    """
    What stands in the metadata of the exported file: from a picture to the input of the graph. Points are x, y in
    pixels; all values are strings, those of `alignment_template` and `config` JSON.
    """
    height, width = face_size(model)
    config = model.config.to_diff_dict()
    crop_height, crop_width = model.config.crop_size
    return {
        "task": "face-image-quality-assessment",
        "model": type(model).__name__,
        "input": "pixel_values",
        "input_layout": "NCHW: batch (any), 3, height, width",
        "input_type": "float32",
        "input_size": f"{height}x{width} (height x width)",
        "input_range": "[-1, 1]: value of 0 to 255 / 127.5 - 1",
        "color_order": "RGB",
        "alignment": "the rotation, scale and shift that bring the five points closest to the template in the "
        "least-squares sense (Umeyama 1991, no reflection)",
        "alignment_points": "in the order of the picture from left to right: left eye, right eye, tip of the nose, "
        "left and right corner of the mouth",
        "alignment_template": json.dumps(arcface_template((height, width)).round(4).tolist()),
        "crop": f"none is needed: the graph takes the middle {crop_height}x{crop_width} pixels itself, and does the "
        "channel order, mean and standard deviation that the weights were trained with",
        "unaligned_crops": "a crop that is aligned already is resized to the size of the input, bilinear with "
        "antialiasing (Pillow)",
        "output": "scores: (batch,), higher is better",
        "license": model.config.weights_license or "not recorded",
        "training_data": model.config.training_data or "not recorded",
        "config": json.dumps(config, sort_keys=True),
        "weights": weights_digest(model) or "not in single precision",
        # Of a method with this network, and faces of this size.
        "fingerprint": fingerprint(SimpleNamespace(model=model, image_processor=FaceExtractor((height, width)))),
        "diffiqa_hf": __version__,
    }


def largest_difference(model: FacePreTrainedModel, path: str | os.PathLike, batch: int = 3) -> float:
    """
    The largest difference between the scores of an exported file in ONNX Runtime and those of the model in torch, on
    random faces, relative to the largest score where that is above 1.

    Raises:
        ImportError: ONNX Runtime is missing (`pip install "diffiqa_hf[onnx]"`).
    """
    faces = np.random.default_rng(0).uniform(-1, 1, (batch, 3, *face_size(model))).astype(np.float32)
    ours = OnnxNetwork(path).run(faces)["scores"]
    faces = torch.from_numpy(faces).to(model.device, model.dtype)
    with torch.no_grad():
        theirs = _Scores(for_inference(model))(faces)[0].float().cpu().numpy()
    return float(np.abs(ours - theirs).max() / max(1.0, np.abs(theirs).max()))


__all__ = [
    "check_exporter",
    "export_onnx",
    "face_size",
    "largest_difference",
    "onnx_metadata",
    "set_metadata",
    "to_graph",
]
