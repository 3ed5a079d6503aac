# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Crops per second of a face quality model in torch, folded, and in ONNX Runtime, in the same run.

    python benchmarks/onnx_speed.py [MODEL ...] [--batches 1,64] [--threads N] [--rounds 5] \
        [--output benchmarks/results/onnx.md]

MODEL is a folder or Hub id that AutoModelForFaceQuality loads; without one, the networks of eDifFIQA(T) and DifFIQA(R)
with weights by rule: the speed does not depend on them. Before anything is timed, the scores of all routes are
compared. The input is ready-made: decoding and alignment are the same for all.
"""

import argparse
import copy
import sys
import tempfile
from pathlib import Path

import onnxruntime
import torch
from measurement import fill, interleaved_times, machine, write_result

from diffiqa_hf import (
    AutoModelForFaceQuality,
    IResNetConfig,
    IResNetForFaceQuality,
    MobileFaceNetConfig,
    MobileFaceNetForFaceQuality,
)
from diffiqa_hf.folding import fold
from diffiqa_hf.onnx import export_onnx, face_size, largest_difference


ROUTES = ("torch", "torch, folded", "ONNX Runtime")


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


def measure(model: torch.nn.Module, args: argparse.Namespace, folder: Path) -> tuple[list[dict], dict[str, float]]:
    """Rows of batch and crops per second by route; the differences from torch, and the size of the file in MiB."""
    path = export_onnx(model, folder / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    folded = fold(model)
    size = face_size(model)
    rows = []
    facts = {"ONNX Runtime": largest_difference(model, path), "MiB": path.stat().st_size / 2**20}
    probe = make_faces(3, size)
    expected = model(probe).scores
    scale = max(1.0, float(expected.abs().max()))
    facts["torch, folded"] = float((folded(probe).scores - expected).abs().max() / scale)
    if not max(facts["ONNX Runtime"], facts["torch, folded"]) < 1e-4:
        raise SystemExit(f"the scores differ: {facts}")
    for batch in args.batches:
        faces = make_faces(batch, size)
        inputs = {"pixel_values": faces.numpy()}
        calls = {
            "torch": lambda faces=faces: model(faces).scores,
            "torch, folded": lambda faces=faces: folded(faces).scores,
            "ONNX Runtime": lambda inputs=inputs: session.run(["scores"], inputs),
        }
        times = interleaved_times(calls, torch.device("cpu"), args.rounds)
        rows.append({"batch": batch} | {route: batch / seconds for route, seconds in times.items()})
        print(f"  {rows[-1]}", file=sys.stderr)
    return rows, facts


def report(results: dict[str, tuple[list[dict], dict[str, float]]], args: argparse.Namespace) -> str:
    lines = ["# Face quality models in ONNX Runtime", ""]
    lines += [f"{machine(torch.device('cpu'))}, ONNX Runtime {onnxruntime.__version__}.", ""]
    lines += [
        f"Crops per second, the median of {args.rounds} rounds in which all routes take turns. `torch` is the model "
        "as `from_pretrained` gives it, `folded` what `diffiqa_hf.folding.fold` makes of it. Differences are the "
        "largest of the scores from those of torch.",
        "",
        f"| network | batch | {' | '.join(ROUTES)} | difference, folded | difference, ONNX | file, MiB |",
        "|---" * (len(ROUTES) + 5) + "|",
    ]
    for name, (rows, facts) in results.items():
        for row in rows:
            rates = " | ".join(f"{row[route]:.1f}" for route in ROUTES)
            differences = f"{facts['torch, folded']:.1e} | {facts['ONNX Runtime']:.1e}"
            lines.append(f"| {name} | {row['batch']} | {rates} | {differences} | {facts['MiB']:.1f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="folders or Hub ids")
    parser.add_argument("--batches", type=lambda text: [int(part) for part in text.split(",")], default=[1, 64])
    parser.add_argument("--threads", type=int, help="of torch and of ONNX Runtime (default: those of torch)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="a Markdown file for the result")
    args = parser.parse_args()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    models = {name: AutoModelForFaceQuality.from_pretrained(name) for name in args.models} or by_rule()
    results = {}
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        for name, model in models.items():
            print(name, file=sys.stderr)
            results[name] = measure(copy.deepcopy(model).eval(), args, Path(folder))
    write_result(args.output, report(results, args))


if __name__ == "__main__":
    main()
