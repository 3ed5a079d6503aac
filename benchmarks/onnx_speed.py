# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Faces per second of a face quality model in torch, folded, and in ONNX Runtime, from faces in memory and from JPEG
files, and, in the same run, of LightQNet's networks under TensorFlow.

    python benchmarks/onnx_speed.py [MODEL ...] [--batches 1,64] [--threads N] [--rounds 5] \
        [--lightqnet DIR --tensorflow PYTHON] [--output benchmarks/results/onnx.md]

MODEL is a folder or Hub id that AutoModelForFaceQuality loads; without one, the networks of eDifFIQA(T) and DifFIQA(R)
with weights by rule: the speed does not depend on them. Before anything is timed, the scores of all routes are
compared. The files are the aligned example faces, again and again; what makes faces of them is FaceImageProcessor.

DIR has `lightqnet-dm100.pb` and `lightqnet-dm025.pb` (of https://github.com/KaenChan/lightqnet); they run in PYTHON,
see `tensorflow_graph.py`: the bare networks, on pixels that are ready.
"""

import argparse
import copy
import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from measurement import digest, fill, interleaved_times, machine, write_result
from tensorflow_graph import FrozenGraph

from diffiqa_hf import (
    FaceImageProcessor,
    IResNetConfig,
    IResNetForFaceQuality,
    MobileFaceNetConfig,
    MobileFaceNetForFaceQuality,
)
from diffiqa_hf.conversion.networks import load_quality_model
from diffiqa_hf.inference.folding import fold
from diffiqa_hf.inference.onnx import export_onnx, face_size, largest_difference
from diffiqa_hf.methods import load_method


FILES = sorted((Path(__file__).resolve().parents[1] / "examples" / "faces").glob("*.jpg"))
ROUTES = ("torch", "torch, folded", "ONNX Runtime", "torch, folded, from JPEG", "ONNX Runtime, from JPEG")
LIGHTQNET = ("dm100", "dm025")
ELSEWHERE = (
    "There is no int8 form: measured on a network of .16 M parameters, dynamic quantisation was 4.2 to 4.5 times "
    "slower, static (QDQ) 1.09 and 1.25 times faster, for other scores. Two threads of Python on one session of one "
    "thread each gave 1.8 to 1.95 times one of them; OpenCV's dnn took 2.5 times ONNX Runtime's time."
)


def by_rule() -> dict[str, torch.nn.Module]:
    models = {
        "eDifFIQA(T): MobileFaceNet": MobileFaceNetForFaceQuality(MobileFaceNetConfig(quality_hidden_size=1024)),
        "DifFIQA(R): IResNet-100": IResNetForFaceQuality(IResNetConfig(depths=[3, 13, 30, 3])),
    }
    for model in models.values():
        fill(model)
    return models


def make_faces(batch: int, size: tuple[int, int]) -> torch.Tensor:
    return torch.empty(batch, 3, *size).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))


def start_lightqnet(args: argparse.Namespace) -> dict[str, FrozenGraph]:
    """LightQNet's graphs by the name of their column, after a comparison with our port of them."""
    if args.lightqnet is None:
        return {}
    graphs = {}
    pixels = make_faces(3, (96, 96))
    for size, file in zip(LIGHTQNET, lightqnet_files(args), strict=True):
        graph = FrozenGraph(args.tensorflow, file, torch.get_num_threads())
        graph.feed(lightqnet_input(pixels))
        graph.run()
        difference = np.abs(graph.scores() - load_method("lightqnet", weights=file).model(pixels).scores.numpy()).max()
        if not difference < 1e-4:
            raise SystemExit(f"{file}: TensorFlow and our port of it differ by {difference:.1e}")
        graphs[f"LightQNet {size}, TensorFlow"] = graph
    return graphs


def lightqnet_files(args: argparse.Namespace) -> list[Path]:
    return [args.lightqnet / f"lightqnet-{size}.pb" for size in LIGHTQNET]


def lightqnet_input(faces: torch.Tensor) -> np.ndarray:
    """Canonical faces as the graphs take them: pixels of 0 to 255, (x - 128) / 128, channels last."""
    return (((faces + 1) * 127.5 - 128) / 128).permute(0, 2, 3, 1).contiguous().numpy()


def measure(
    model: torch.nn.Module, graphs: dict[str, FrozenGraph], args: argparse.Namespace, folder: Path
) -> tuple[list[dict], dict[str, float]]:
    """Rows of batch and faces per second by route; the differences from torch, and the size of the file in MiB."""
    path = export_onnx(model, folder / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    folded = fold(model)
    size = face_size(model)
    processor = FaceImageProcessor(size={"height": size[0], "width": size[1]})
    rows = []
    facts = {"ONNX Runtime": largest_difference(model, path), "MiB": path.stat().st_size / 2**20}
    probe = make_faces(3, size)
    expected = model(probe).scores
    scale = max(1.0, float(expected.abs().max()))
    facts["torch, folded"] = float((folded(probe).scores - expected).abs().max() / scale)
    if not max(facts["ONNX Runtime"], facts["torch, folded"]) < 1e-4:
        raise SystemExit(f"the scores differ: {facts}")

    def read(files: list[Path]) -> np.ndarray:
        return np.stack([processor.extract_faces(file)[0].pixel_values for file in files])

    for batch in args.batches:
        faces = make_faces(batch, size)
        inputs = {"pixel_values": faces.numpy()}
        files = list(itertools.islice(itertools.cycle(FILES), batch))
        calls = {
            "torch": lambda faces=faces: model(faces).scores,
            "torch, folded": lambda faces=faces: folded(faces).scores,
            "ONNX Runtime": lambda inputs=inputs: session.run(["scores"], inputs),
            "torch, folded, from JPEG": lambda files=files: folded(torch.from_numpy(read(files))).scores,
            "ONNX Runtime, from JPEG": lambda files=files: session.run(["scores"], {"pixel_values": read(files)}),
        }
        for name, graph in graphs.items():
            graph.feed(lightqnet_input(make_faces(batch, (96, 96))))
            calls[name] = graph.run
        times = interleaved_times(calls, torch.device("cpu"), args.rounds)
        rows.append({"batch": batch} | {route: batch / seconds for route, seconds in times.items()})
        print(f"  {rows[-1]}", file=sys.stderr)
    return rows, facts


def report(
    results: dict[str, tuple[list[dict], dict[str, float]]], graphs: dict[str, FrozenGraph], args: argparse.Namespace
) -> str:
    versions = [f"ONNX Runtime {onnxruntime.__version__}"]
    versions += sorted({f"TensorFlow {graph.version}" for graph in graphs.values()})
    routes = [*ROUTES, *graphs]
    lines = ["# Face quality models in ONNX Runtime", ""]
    lines += [f"{machine(torch.device('cpu'))}, {', '.join(versions)}.", ""]
    lines += [
        f"Faces per second, the median of {args.rounds} rounds in which all routes take turns. `torch` is the model "
        "as `from_pretrained` gives it, `folded` what `diffiqa_hf.fold` makes of it. `from JPEG` begins with "
        "files of aligned 112x112 faces, the others with faces in memory.",
    ]
    if graphs:
        sources = ", ".join(f"`{file.name}` {digest(file)}" for file in lightqnet_files(args))
        lines[-1] += f" LightQNet's are the bare networks on pixels that are ready (SHA-256 begins with: {sources})."
    lines += ["", f"| network | batch | {' | '.join(routes)} |", "|---" * (len(routes) + 2) + "|"]
    for name, (rows, _) in results.items():
        for row in rows:
            lines.append(f"| {name} | {row['batch']} | {' | '.join(f'{row[route]:.1f}' for route in routes)} |")
    lines += ["", "The largest difference of the scores from those of torch, and the size of the file:", ""]
    lines += ["| network | difference, folded | difference, ONNX Runtime | file, MiB |", "|---" * 4 + "|"]
    for name, (_, facts) in results.items():
        differences = f"{facts['torch, folded']:.1e} | {facts['ONNX Runtime']:.1e}"
        lines.append(f"| {name} | {differences} | {facts['MiB']:.1f} |")
    return "\n".join([*lines, "", ELSEWHERE, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="folders or Hub ids")
    parser.add_argument("--batches", type=lambda text: [int(part) for part in text.split(",")], default=[1, 64])
    parser.add_argument("--threads", type=int, help="of torch, ONNX Runtime and TensorFlow (default: those of torch)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lightqnet", type=Path, metavar="DIR", help="where LightQNet's graphs are")
    parser.add_argument("--tensorflow", type=Path, metavar="PYTHON", help="of an environment with TensorFlow")
    parser.add_argument("--output", type=Path, help="a Markdown file for the result")
    args = parser.parse_args()
    if (args.lightqnet is None) != (args.tensorflow is None):
        parser.error("--lightqnet and --tensorflow go together")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    models = {name: load_quality_model(name) for name in args.models} or by_rule()
    results = {}
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        graphs = start_lightqnet(args)
        for name, model in models.items():
            print(name, file=sys.stderr)
            results[name] = measure(copy.deepcopy(model).eval(), graphs, args, Path(folder))
    write_result(args.output, report(results, graphs, args))


if __name__ == "__main__":
    main()
