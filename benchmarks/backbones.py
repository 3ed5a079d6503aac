# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Images per second and memory of the face recognition backbones, ours and, in the same run, the originals.

    python benchmarks/backbones.py --insightface DIR --adaface DIR --curricularface DIR --magface DIR \
        [--models r18,r50] [--batches 1,32] [--dtypes fp32,bf16] [--routes plain,folded] [--device cpu] [--threads N] \
        [--rounds 5] [--output benchmarks/results/backbones.md]

Each DIR is a checkout of the public repository: https://github.com/deepinsight/insightface, mk-minchul/AdaFace,
HuangYG123/CurricularFace, IrvingMeng/MagFace. Its network is imported from there as it is. What has no checkout is
left out. The weights are filled by a rule, go through our converter, and the outputs are compared before anything is
timed: in float32 every route has to agree with the original to 1e-4 of its largest value.

The routes: `plain` is the model as `from_pretrained` gives it, `folded` is `diffiqa_hf.fold` of it and
`winograd` the same with `winograd=True`, in float32 alone. Where `--routes` names them, `channels-last` is the plain
one in that order of memory, and `compiled` is `torch.compile` of the folded one: on a CPU it takes a C++ compiler and,
for a deep network, minutes. The originals get their own input ready-made; ours prepare it from the canonical faces in
the timed call.
"""

import argparse
import copy
import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from measurement import (
    digest,
    fill,
    interleaved_times,
    load_file,
    machine,
    make_images,
    megabytes,
    peak_memory,
    write_result,
)
from torch import nn

from diffiqa_hf.conversion import get_dialect
from diffiqa_hf.inference.folding import fold


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
ROUTES = ("plain", "folded", "winograd", "channels-last", "compiled")


@dataclass
class Backbone:
    """
    One published network.

    Args:
        repository (`str`): The option that names its checkout.
        file (`str`): Of its definition in there.
        build (`Callable`): Builds it from the imported file.
        dialect (`str`): Of our converter.
        prepare (`Callable`): Canonical faces to its input.
    """

    repository: str
    file: str
    build: Callable
    dialect: str
    prepare: Callable[[torch.Tensor], torch.Tensor] = lambda faces: faces


def _insightface(depth: int) -> Backbone:
    file = "recognition/arcface_torch/backbones/iresnet.py"
    return Backbone("insightface", file, lambda module: getattr(module, f"iresnet{depth}")(), "insightface")


def _adaface(depth: int) -> Backbone:
    build = lambda module: module.build_model(f"ir_{depth}")  # noqa: E731
    return Backbone("adaface", "net.py", build, "adaface", lambda faces: faces.flip(1))


def _curricularface(depth: int) -> Backbone:
    build = lambda module: getattr(module, f"IR_{depth}")([112, 112])  # noqa: E731
    return Backbone("curricularface", "backbone/model_irse.py", build, "curricularface")


BACKBONES = {
    "insightface IResNet-18": _insightface(18),
    "insightface IResNet-50": _insightface(50),
    "insightface IResNet-100": _insightface(100),
    "insightface MobileFaceNet": Backbone(
        "insightface",
        "recognition/arcface_torch/backbones/mobilefacenet.py",
        lambda module: module.get_mbf(fp16=False, num_features=512),
        "insightface-mbf",
    ),
    "AdaFace IR-50": _adaface(50),
    "AdaFace IR-101": _adaface(101),
    "CurricularFace IR-50": _curricularface(50),
    "CurricularFace IR-101": _curricularface(101),
    "MagFace IResNet-100": Backbone(
        "magface",
        "models/iresnet.py",
        lambda module: module.iresnet100(),
        "magface",
        lambda faces: ((faces + 1) / 2).flip(1),
    ),
}


def convert(original: nn.Module, dialect_name: str) -> nn.Module:
    """Our model with the original's weights."""
    dialect = get_dialect(dialect_name)
    config, state_dict = dialect.load_converter()(original.state_dict())
    with torch.device("meta"):
        model = dialect.load_model_classes()[0](config).eval()
    model.load_state_dict({name: tensor.clone() for name, tensor in state_dict.items()}, strict=True, assign=True)
    return model


def build_route(name: str, model: nn.Module, dtype: torch.dtype) -> nn.Module:
    if name == "plain":
        return copy.deepcopy(model).to(dtype)
    if name == "channels-last":
        return copy.deepcopy(model).to(dtype).to(memory_format=torch.channels_last)
    folded = fold(model, winograd=name == "winograd").to(dtype)
    # Frozen weights, which folded ones are, may be brought into the order that the convolutions want beforehand.
    return torch.compile(folded, options={"freezing": True}) if name == "compiled" else folded


def routes_of(dtype: str, args: argparse.Namespace) -> list[str]:
    return [name for name in args.routes if name != "winograd" or dtype == "fp32"]


def measure(backbone: Backbone, checkout: Path, args: argparse.Namespace) -> tuple[list[dict], dict[str, float]]:
    """Rows of (dtype, batch, route, images per second, MiB), and the difference of each route from the original."""
    device = torch.device(args.device)
    original = backbone.build(load_file(checkout / backbone.file, f"original_{backbone.dialect}".replace("-", "_")))
    original.eval()
    fill(original)
    model = convert(original, backbone.dialect).to(device)
    original.to(device)
    rows, differences, reference = [], {}, None
    for dtype_name in args.dtypes:
        dtype = DTYPES[dtype_name]
        routes = {"original": copy.deepcopy(original).to(dtype)}
        routes |= {name: build_route(name, model, dtype) for name in routes_of(dtype_name, args)}
        for batch in args.batches:
            faces = make_images(0, batch).contiguous().to(device)
            calls = {}
            for name, network in routes.items():
                if name == "original":
                    inputs = backbone.prepare(faces).to(dtype)
                    calls[name] = lambda network=network, inputs=inputs: _first(network(inputs))
                else:
                    calls[name] = lambda network=network, faces=faces: network(faces).embeddings
            if reference is None or len(reference) != batch:
                reference = _first(original(backbone.prepare(faces))).float()
            for name, call in calls.items():
                difference = _difference(call().float(), reference, dtype)
                key = f"{name}, {dtype_name}"
                differences[key] = max(difference, differences.get(key, 0.0))
                if dtype is torch.float32 and not difference < 1e-4:
                    raise SystemExit(f"{name} is not the original: the outputs differ by {difference:.1e}")
            times = interleaved_times(calls, device, args.rounds)
            for name, call in calls.items():
                memory = peak_memory(call, device)
                rows.append({"dtype": dtype_name, "batch": batch, "route": name})
                rows[-1] |= {"rate": batch / times[name], "memory": memory, "weights": megabytes(routes[name])}
                print(f"  {rows[-1]}", file=sys.stderr)
        del routes, calls
        torch.compiler.reset()
        gc.collect()
    return rows, differences


def _first(output: torch.Tensor | tuple) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


def _difference(actual: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> float:
    """In float32 the largest relative to the largest value; below, what the cosine similarity loses at most."""
    if dtype is torch.float32:
        return float((actual - expected).abs().max() / expected.abs().max())
    return float(1 - torch.nn.functional.cosine_similarity(actual, expected).min())


def report(results: dict[str, tuple[list[dict], dict[str, float]]], args: argparse.Namespace, sources: dict) -> str:
    lines = ["# Speed and memory of the face recognition backbones", "", f"{machine(torch.device(args.device))}.", ""]
    lines += [
        f"Images per second, the median of {args.rounds} rounds in which all routes take turns; in brackets MiB of "
        "memory at the peak of a call over what stood before it (feature maps and workspace). `plain` is the model as "
        "`from_pretrained` gives it, `folded` what `diffiqa_hf.fold` makes of it, `winograd` the same with "
        "`winograd=True`"
        + (", `compiled` is `torch.compile` of the folded one" if "compiled" in args.routes else "")
        + ". The last column: the fastest of ours over the original.",
        "",
    ]
    for dtype in args.dtypes:
        routes = ["original", *routes_of(dtype, args)]
        for batch in args.batches:
            lines += [f"## Batch {batch}, {dtype}", ""]
            lines += [f"| network | {' | '.join(routes)} | ratio |", "|---" * (len(routes) + 2) + "|"]
            for name, (rows, _) in results.items():
                cells = {row["route"]: row for row in rows if row["dtype"] == dtype and row["batch"] == batch}
                ratio = max(cells[route]["rate"] for route in routes[1:]) / cells["original"]["rate"]
                shown = [_cell(cells[route]) for route in routes]
                lines.append(f"| {name} | {' | '.join(shown)} | {ratio:.2f} |")
            lines.append("")
    lines += ["## The same outputs", ""]
    lines += [
        "Against the original in float32, with the same weights by rule. In float32 the largest difference relative "
        "to the largest value of the embeddings; in bf16 what the cosine similarity to them loses, at most.",
        "",
    ]
    columns = [f"{route}, {dtype}" for dtype in args.dtypes for route in ["original", *routes_of(dtype, args)]]
    lines += [f"| network | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, (_, differences) in results.items():
        lines.append(f"| {name} | {' | '.join(f'{differences[column]:.1e}' for column in columns)} |")
    lines += ["", "Weights in MiB (" + ", ".join(args.dtypes) + "): " + _weights(results, args.dtypes) + ".", ""]
    lines += ["The originals (SHA-256 of the file begins with): " + "; ".join(sources.values()) + ".", ""]
    return "\n".join(lines)


def _cell(row: dict) -> str:
    memory = "" if row["memory"] is None else f" ({row['memory']:.0f})"
    return f"{row['rate']:.1f}{memory}"


def _weights(results: dict, dtypes: list[str]) -> str:
    parts = []
    for name, (rows, _) in results.items():
        weights = {row["dtype"]: row["weights"] for row in rows if row["route"] == "original"}
        parts.append(f"{name} {' and '.join(f'{weights[dtype]:.0f}' for dtype in dtypes)}")
    return ", ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for repository in ("insightface", "adaface", "curricularface", "magface"):
        parser.add_argument(f"--{repository}", type=Path, metavar="DIR", help="checkout of the original")
    parser.add_argument("--models", type=_names, metavar="PARTS", help="only those whose name has one of these parts")
    parser.add_argument("--batches", type=lambda text: [int(part) for part in text.split(",")], default=[1, 32])
    parser.add_argument("--dtypes", type=_names, default=list(DTYPES))
    parser.add_argument("--routes", type=_names, default=list(ROUTES[:3]), help="also channels-last and compiled")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of torch (default: its own)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="a Markdown file for the result")
    args = parser.parse_args()
    for name, known in (("dtypes", DTYPES), ("routes", ROUTES)):
        if unknown := [value for value in getattr(args, name) if value not in known]:
            parser.error(f"--{name}: unknown {', '.join(unknown)}; there are {', '.join(known)}")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    chosen = {
        name: backbone
        for name, backbone in BACKBONES.items()
        if getattr(args, backbone.repository)
        and (args.models is None or any(part.lower() in name.lower() for part in args.models))
    }
    if not chosen:
        parser.error("nothing to measure: name a checkout, and models that it has")

    results, sources = {}, {}
    with torch.no_grad():
        for name, backbone in chosen.items():
            print(name, file=sys.stderr)
            checkout = getattr(args, backbone.repository)
            results[name] = measure(backbone, checkout, args)
            file = checkout / backbone.file
            sources[file] = f"{backbone.repository} `{backbone.file}` {digest(file)}"
            # After each, so that a run that is stopped has left something.
            write_result(args.output, report(results, args, sources))


def _names(text: str) -> list[str]:
    return text.split(",")


if __name__ == "__main__":
    main()
