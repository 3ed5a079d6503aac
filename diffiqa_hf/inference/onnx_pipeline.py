# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The two networks of a DifFIQA pipeline to ONNX, with what else a program needs to score by them in their metadata. The
files hold the weights, or, beside the pipeline's own safetensors files, say where in these they lie.
"""

import json
import struct
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ..calibration import weights_digest
from ..file_utils import replace_file
from ..fingerprints import fingerprint
from ..schedulers import scheduler_settings
from .network_views import for_inference, output_of
from .onnx import check_exporter, set_metadata, to_graph
from .onnx_session import PIPELINE_FORMS, TIMESTEP, OnnxError, OnnxNetwork


if TYPE_CHECKING:
    import onnx

TOLERANCE = 1e-4  # of what a network gives, relative to the largest value
_TYPES = {"F16": "FLOAT16", "F32": "FLOAT"}  # of safetensors, and of ONNX
_SMALL = 64  # bytes of a tensor, up to which it stays in the graph


class _Denoiser(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return self.network(sample, timestep, return_dict=False)[0]


class _Embeddings(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return output_of(self.network, pixel_values, "embeddings")


def export_pipeline(pipe: Any, folder: Path, source: str, weights: dict[str, Path] | None = None) -> None:
    """
    Writes `unet.onnx` and `fr_model.onnx`, each whole or not at all.

    Args:
        pipe ([`DifFIQAPipeline`]): In float32 on the CPU; left as it is.
        folder: Where they come to.
        source: Digits that the pipeline is known by ([`~diffiqa_hf.scoring.onnx_forms.pipeline_digests`]).
        weights (*optional*): By the name of the component the safetensors file that its weights are read from, in
            the folder or below. Without, the graphs have them.

    Raises:
        ImportError: `onnx` or `onnxscript` is missing (`pip install "diffiqa_hf[onnx]"`).
        OnnxError: A file would not give what the network gives.
    """
    check_exporter()
    height, width = pipe.image_processor.size["height"], pipe.image_processor.size["width"]
    faces = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (3, 3, height, width)).astype(np.float32))
    times = torch.tensor([0, 5, 40])
    networks: dict[str, nn.Module] = {
        "unet": _Denoiser(for_inference(pipe.unet)),
        "fr_model": _Embeddings(for_inference(pipe.fr_model)),
    }
    inputs = {"unet": {"sample": faces, TIMESTEP: times}, "fr_model": {"pixel_values": faces}}
    # All that scores depend on besides the weights: the digits of the source stand for it as well.
    described = {
        "scheduler": json.dumps(scheduler_settings(pipe.scheduler)),
        "alphas_cumprod": json.dumps(pipe.scheduler.alphas_cumprod.double().tolist()),
        "fingerprint": fingerprint(pipe),
        "weights": json.dumps({name: weights_digest(getattr(pipe, name)) for name in networks}),
    }
    for name, network in networks.items():
        given = inputs[name]
        output = "restored" if name == "unet" else "embeddings"
        with torch.no_grad():
            graph = to_graph(network.eval(), {key: value[:2] for key, value in given.items()}, [output], not weights)
            expected = network(*given.values()).numpy()
        del graph.graph.value_info[:]  # shapes on the way, and names of steps: nobody needs them
        for node in graph.graph.node:
            node.ClearField("name")
        set_metadata(graph, {"source": source, "network": name} | (described if name == "unet" else {}))
        if weights:
            _take_from(graph, weights[name], folder)
        path = replace_file(folder / PIPELINE_FORMS[name], partial(_write, graph.SerializeToString()))
        further = {key: value.numpy() for key, value in given.items() if key == TIMESTEP}
        found = OnnxNetwork(path, further=tuple(further)).run(faces.numpy(), **further)[output]
        difference = float(np.abs(found - expected).max() / np.abs(expected).max())
        if not difference < TOLERANCE:
            path.unlink()
            raise OnnxError(f"what the ONNX form of the {name} gives differs by {difference:.1e}")


def _write(content: bytes, beside: Path) -> None:
    beside.write_bytes(content)


def _take_from(graph: "onnx.ModelProto", file: Path, folder: Path) -> None:
    """Leaves the large tensors of a graph to a safetensors file; those of half precision become single in it."""
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.numpy import load_file

    with open(file, "rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(length))
    known = {}
    for name, stored in load_file(file).items():
        for turned, tensor in ((False, stored), *(((True, stored.T),) if stored.ndim == 2 else ())):
            known[tensor.shape, tensor.astype(np.float32).tobytes()] = name, turned
    kept, first = [], []
    for tensor in graph.graph.initializer:
        value = numpy_helper.to_array(tensor)
        name, turned = known.get((value.shape, value.tobytes()), (None, False))
        if name is None or value.nbytes <= _SMALL or header[name]["dtype"] not in _TYPES:
            kept.append(tensor)
            continue
        begin, end = header[name]["data_offsets"]
        place = {
            "location": file.relative_to(folder).as_posix(),
            "offset": str(8 + length + begin),
            "length": str(end - begin),
        }
        outside = TensorProto(
            name=f"{tensor.name}.stored",
            data_type=getattr(TensorProto, _TYPES[header[name]["dtype"]]),
            dims=header[name]["shape"],
            data_location=TensorProto.EXTERNAL,
        )
        for key, text in place.items():
            outside.external_data.add(key=key, value=text)
        kept.append(outside)
        single = f"{tensor.name}.single" if turned else tensor.name
        first.append(helper.make_node("Cast", [outside.name], [single], to=TensorProto.FLOAT))
        if turned:
            first.append(helper.make_node("Transpose", [single], [tensor.name], perm=[1, 0]))
    nodes = [*first, *graph.graph.node]
    del graph.graph.initializer[:], graph.graph.node[:]
    graph.graph.initializer.extend(kept)
    graph.graph.node.extend(nodes)


__all__ = ["export_pipeline"]
