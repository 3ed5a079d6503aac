# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Faces per second of every quality method of the package and, in the same run, of the originals that run here. Longer
than other files, for it has a route for each method and its original.

    python benchmarks/methods.py [--methods faceqan,ser-fiq] [--fr iresnet100] [--batches 1,32] [--threads N] \
        [--rounds 3] [--device cpu] [--faceqan DIR] [--ser-fiq DIR] [--grafiqs DIR] [--clib-fiqa DIR] \
        [--lightqnet DIR --tensorflow PYTHON] [--output benchmarks/results/methods.md] \
        [--cards diffiqa_hf/methods/cards/speeds.json]

A face is a 112x112 picture in memory, an example of this repository: decoding is left out, all that a method does
with it from there is in. The networks have the published sizes and weights by the rule of `tests/fixtures/fill.py`:
time does not depend on them. `--fr` is the face recognition (FR) model of the methods that probe one; the mean and
variance of its last normalisation are those over the example faces, or all embeddings would be nearly the same.

Each DIR is a checkout of the public repository: LSIbabnikz/FaceQAN, jankolf/ser-fiq-pytorch, jankolf/GraFIQs,
oufuzhao/CLIB-FIQA and KaenChan/lightqnet on GitHub. Its code is imported from there as it is (LightQNet's graphs run
in a Python of their own, see `tensorflow_graph.py`), gets our weights, and has to give our scores before anything is
timed. Routes take turns. `report()` says what is different for an original from what a user of it has.

`--cards` writes the figures to where `diffiqa methods NAME` reads them; those of other methods there stay.
`--fr iresnet18 --methods grafiqs --rounds 1 --threads 1` is a quick check.
"""

import argparse
import functools
import importlib
import itertools
import json
import math
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffiqa_end_to_end import FACES, set_last_statistics
from measurement import digest, fill, interleaved_times, load_file, machine, write_result
from PIL import Image
from tensorflow_graph import FrozenGraph
from torch import nn

from diffiqa_hf import (
    FaceViTConfig,
    FaceViTForFaceQuality,
    FaceViTModel,
    IResNetConfig,
    IResNetForFaceQuality,
    IResNetModel,
    LightQNetConfig,
    LightQNetForFaceQuality,
    MobileFaceNetConfig,
    MobileFaceNetForFaceQuality,
    SDDFIQAConfig,
    SDDFIQAForFaceQuality,
)
from diffiqa_hf.conversion.dialects import clib_fiqa
from diffiqa_hf.methods import FaceQualityMethod, get_card, load_method
from diffiqa_hf.models.clib_fiqa import CLIBFIQAConfig, CLIBFIQAForFaceQuality
from diffiqa_hf.models.faceqgen import FaceQgenConfig, FaceQgenForFaceQuality
from diffiqa_hf.models.faceqnet import FaceQnetConfig, FaceQnetForFaceQuality
from diffiqa_hf.models.pcnet import PCNetConfig, PCNetForFaceQuality
from diffiqa_hf.models.pfe import PFEConfig, PFEForFaceQuality


DEPTHS = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 14, 3], 100: [3, 13, 30, 3]}
SLOW = 20.0  # seconds of a call from which on one round has to do
# Of the scores, relative to the largest; 1e-4 for the others. FaceQAN steps along the sign of a gradient, which
# rounding can turn where it is next to nothing, and the original of SER-FIQ gets distances by matrix products.
TOLERANCE = {"faceqan": 1e-3, "ser-fiq": 1e-3}


@dataclass
class Entry:
    """
    What is measured.

    Args:
        method (`str`): As `load_method` calls it.
        network (`str`): In words, `{fr}` being the FR model.
        build (`Callable`): The parsed arguments and the FR model to the network.
        options (`dict`, *optional*): Of the method.
        folds (`bool`): Whether `diffiqa_hf.fold` of the network gives the same scores: not where what is folded away
            is looked at.
    """

    method: str
    network: str
    build: Callable[[argparse.Namespace, nn.Module], Any]
    options: dict | None = None
    folds: bool = False


def _filled(make: Callable[[], nn.Module]) -> Callable[[argparse.Namespace, nn.Module], nn.Module]:
    def build(args: argparse.Namespace, fr_model: nn.Module) -> nn.Module:
        model = make()
        fill(model)
        return model

    return build


def _on_iresnet(depth: int, hidden: int | None = None) -> Callable:
    return _filled(lambda: IResNetForFaceQuality(IResNetConfig(depths=DEPTHS[depth], quality_hidden_size=hidden)))


def _the_fr_model(args: argparse.Namespace, fr_model: nn.Module) -> nn.Module:
    return fr_model


def _lightqnet(size: str) -> Callable:
    def build(args: argparse.Namespace, fr_model: nn.Module) -> Any:
        if args.lightqnet is not None:
            return args.lightqnet / f"lightqnet-{size}.pb"
        if size != "dm100":
            return None  # its widths are read off the file
        return _filled(lambda: LightQNetForFaceQuality(LightQNetConfig()))(args, fr_model)

    return build


def _clib_fiqa(args: argparse.Namespace, fr_model: nn.Module) -> nn.Module:
    if args.clib_fiqa is None:
        return _filled(lambda: CLIBFIQAForFaceQuality(CLIBFIQAConfig()))(args, fr_model)
    config, state_dict = clib_fiqa.convert_clib_fiqa(_original_clip(args.clib_fiqa).state_dict())
    model = CLIBFIQAForFaceQuality(config)
    model.load_state_dict(state_dict, strict=True)
    return model


def _mobilefacenet() -> nn.Module:
    return MobileFaceNetForFaceQuality(MobileFaceNetConfig(quality_hidden_size=1024, normalize_embedding=True))


def _vit_fiqa() -> nn.Module:
    return FaceViTForFaceQuality(FaceViTConfig(**_VIT_S, quality_token=True))


_VIT_S = {"patch_size": 9, "num_hidden_layers": 12, "num_attention_heads": 8, "intermediate_size": 2048}
_MAGFACE = {"channel_order": "bgr", "image_mean": [0, 0, 0], "image_std": [1, 1, 1], "bn_eps": 2e-5}
ENTRIES = (
    Entry("diffiqa", "the pipeline in the package, its settings", lambda args, fr_model: "default", folds=True),
    Entry("diffiqa-r", "IResNet-100", _on_iresnet(100), folds=True),
    Entry("diffiqa-r", "the network in the package", lambda args, fr_model: "default", folds=True),
    Entry("ediffiqa", "T: MobileFaceNet", _filled(_mobilefacenet), folds=True),
    Entry("ediffiqa", "L: IResNet-100", _on_iresnet(100, 1024), folds=True),
    Entry("cr-fiqa", "S: IResNet-50", _on_iresnet(50), folds=True),
    Entry("cr-fiqa", "L: IResNet-100", _on_iresnet(100), folds=True),
    Entry("sdd-fiqa", "IR-50", _filled(lambda: SDDFIQAForFaceQuality(SDDFIQAConfig())), folds=True),
    Entry("lightqnet", "dm100", _lightqnet("dm100"), folds=True),
    Entry("lightqnet", "dm025", _lightqnet("dm025"), folds=True),
    Entry("pfe", "SphereNet-64", _filled(lambda: PFEForFaceQuality(PFEConfig()))),
    Entry("pcnet", "light ResNet", _filled(lambda: PCNetForFaceQuality(PCNetConfig()))),
    Entry("faceqnet", "ResNet-50, 224x224", _filled(lambda: FaceQnetForFaceQuality(FaceQnetConfig()))),
    Entry("faceqgen", "pix2pix", _filled(lambda: FaceQgenForFaceQuality(FaceQgenConfig()))),
    Entry("clib-fiqa", "CLIP ResNet-50, 224x224", _clib_fiqa),
    Entry("magface", "IResNet-100", _filled(lambda: IResNetModel(IResNetConfig(**_MAGFACE))), folds=True),
    # The original's way to clip.
    Entry("faceqan", "{fr}; l = 5, k = 10", _the_fr_model, {"clip": (-1.0, 1.0)}, folds=True),
    Entry("ser-fiq", "{fr}; T = 100", _the_fr_model),
    Entry("grafiqs", "{fr}; at the pixels", _the_fr_model),
    Entry("froq", "{fr}; four layers", _the_fr_model, {"layers": ["layer1", "layer2", "layer3", "layer4"]}),
    Entry("prefiqs", "{fr}", _the_fr_model),
    Entry("vit-fiqa", "insightface's ViT-S with a quality token", _filled(_vit_fiqa)),
    Entry("vitnt-fiqa", "insightface's ViT-S", _filled(lambda: FaceViTModel(FaceViTConfig(**_VIT_S)))),
    Entry("embedding-norm", "{fr}", _the_fr_model, folds=True),
)


def build_fr_model(name: str) -> nn.Module:
    model = IResNetModel(IResNetConfig(depths=DEPTHS[int(name.removeprefix("iresnet"))])).eval()
    fill(model)
    with torch.no_grad():
        set_last_statistics(model)
    return model


def load(entry: Entry, network: Any, device: str) -> FaceQualityMethod:
    argument = "weights" if "weights" in get_card(entry.method).takes else "fr_model"
    return load_method(entry.method, device=device, **{argument: network}, **(entry.options or {}))


def folded(entry: Entry, network: Any, device: str) -> FaceQualityMethod:
    """The method on a folded copy; with Winograd's convolutions where they serve: on a CPU, and not for gradients."""
    method = load(entry, network, device)
    method.enable_folding(winograd=device == "cpu")
    return method


# -- the originals ----------------------------------------------------------------------------------------------------
# Each function gets the arguments, our method, what it was loaded from, and pictures. It gives the original on them as
# a call, which gives what is to be compared, and ours of that, both (N,).

Scores = Callable[[], torch.Tensor]


def faces_of(method: FaceQualityMethod, images: list[np.ndarray]) -> torch.Tensor:
    """The canonical faces that our method makes of them, `(N, 3, H, W)`."""
    crops = [method.image_processor.extract_faces(image)[0].pixel_values for image in images]
    return torch.from_numpy(np.stack(crops))


def original_faceqan(
    args: argparse.Namespace, method: FaceQualityMethod, source: Any, images: list[np.ndarray]
) -> tuple[Scores, torch.Tensor]:
    _file_fault_torchvision()
    torch.Tensor.cuda = nn.Module.cuda = lambda self, *args, **kwargs: self
    sys.path.insert(0, str(args.faceqan / "src"))
    bim, symmetry, util = (importlib.import_module(name) for name in ("bim_attack", "symmetry", "util"))
    network = getattr(importlib.import_module("models.iresnet"), args.fr)()
    network.load_state_dict(source.state_dict(), strict=True)
    model = util.add_norm_to_model(network.eval(), mean=[0.5] * 3, std=[0.5] * 3)
    noises = [method._noise(face, 0) for face in faces_of(method, images)]
    pictures = [Image.fromarray(image) for image in images]

    def to_tensor(picture: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float() / 255

    def score(picture: Image.Image, noise: torch.Tensor) -> float:
        bim.attack_initialization = lambda image, eps, count: (image + eps * noise).clamp(-1.0, 1.0)
        similarities = bim.basic_iterative_method(model, to_tensor(picture))
        return float(util.F(similarities, symmetry.symmetry_estimation(model, to_tensor, picture)))

    def call() -> torch.Tensor:
        return torch.tensor([score(*pair) for pair in zip(pictures, noises, strict=True)])

    return call, method(images).scores


def _file_fault_torchvision() -> None:
    """FaceQAN normalises by it, and names a class of it in signatures. The mean and deviation come in float64."""
    try:
        import torchvision  # noqa: F401
    except ImportError:

        def normalize(mean: torch.Tensor, std: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
            return lambda image: (image - mean.view(3, 1, 1).to(image)) / std.view(3, 1, 1).to(image)

        for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.transforms"):
            sys.modules[name] = types.ModuleType(name)
        inner = sys.modules[name]
        inner.Normalize, inner.Compose = normalize, Callable
        sys.modules["torchvision.transforms"].transforms = inner


class _Replay(nn.Module):
    """Dropout of what we drop."""

    def __init__(self, kept: torch.Tensor, probability: float):
        super().__init__()
        self.factors = kept / (1 - probability)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states * self.factors


def original_ser_fiq(
    args: argparse.Namespace, method: FaceQualityMethod, source: Any, images: list[np.ndarray]
) -> tuple[Scores, torch.Tensor]:
    module = load_file(args.ser_fiq / "backbones" / "iresnet.py", "original_ser_fiq")
    network = getattr(module, args.fr)(dropout=method.dropout, num_features=512, use_se=False).eval()
    network.load_state_dict(source.state_dict(), strict=True)
    faces, passes, scaling = faces_of(method, images), method.num_passes, 1.0
    kept = torch.cat([method._kept(face, 0, (network.fc.in_features,)) for face in faces])
    dropout, network.dropout = network.dropout, _Replay(kept, method.dropout)
    # It averages over all T^2 places of the matrix, of which the T (T - 1) / 2 above the diagonal are not zero.
    theirs = torch.log(2 / network.calculate_serfiq(faces, passes, scaling) - 1) / scaling * 2 * passes / (passes - 1)
    network.dropout = dropout

    def call() -> torch.Tensor:
        inputs = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        network.calculate_serfiq(inputs, passes, scaling)
        return theirs

    return call, -torch.logit(method(images).scores.double() / 2)  # the mean distance of the embeddings


def original_grafiqs(
    args: argparse.Namespace, method: FaceQualityMethod, source: Any, images: list[np.ndarray]
) -> tuple[Scores, torch.Tensor]:
    folder = args.grafiqs / "backbones"
    network = getattr(load_file(folder / "iresnet.py", "original_grafiqs"), args.fr)(num_features=512, use_se=False)
    network.load_state_dict(source.state_dict(), strict=True)
    network.return_intermediate = True
    model = load_file(folder / "bn.py", "original_grafiqs_bn").BN_Model(network, torch.device("cpu"))

    def score(image: np.ndarray) -> torch.Tensor:
        face = ((torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5).requires_grad_()
        loss, (_, *blocks, _) = model.get_BN(face)
        return torch.stack([gradient.abs().sum() for gradient in torch.autograd.grad(loss, [face, *blocks])])[0]

    return lambda: torch.stack([score(image) for image in images]), method(images).terms["raw"]


def _original_clip(checkout: Path) -> nn.Module:
    module = load_file(checkout / "model" / "models.py", "original_clib_fiqa")
    model = module.CLIP(1024, 224, (3, 4, 6, 3), 64, None, 77, 49408, 512, 8, 12).eval()
    fill(model)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(100))  # CLIP's largest, or all sentences would be as likely
    return model


def original_clib_fiqa(
    args: argparse.Namespace, method: FaceQualityMethod, source: Any, images: list[np.ndarray]
) -> tuple[Scores, torch.Tensor]:
    model = _original_clip(args.clib_fiqa)
    tokens = torch.zeros(360, model.context_length, dtype=torch.int64)
    for row, sentence in zip(tokens, clib_fiqa.sentences(), strict=True):
        words = [clib_fiqa._TOKENS[word] for word in sentence.replace(",", " ,").split()]
        values = [clib_fiqa._START, *itertools.chain.from_iterable(words), clib_fiqa._END]
        row[: len(values)] = torch.tensor(values)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    levels = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])

    @torch.no_grad()
    def score(image: np.ndarray) -> torch.Tensor:
        resized = Image.fromarray(image).resize((224, 224), Image.Resampling.BILINEAR)
        face = (torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255 - mean) / std
        logits, _ = model(face[None], tokens)
        return logits.softmax(1).view(-1, len(levels)).sum(0) @ levels

    return lambda: torch.stack([score(image) for image in images]), method(images).scores


def original_lightqnet(
    args: argparse.Namespace, method: FaceQualityMethod, source: Any, images: list[np.ndarray]
) -> tuple[Scores, torch.Tensor]:
    graph = _start_graph(args.tensorflow, source, torch.get_num_threads())
    pixels = (faces_of(method, images) + 1) * 127.5
    graph.feed(((pixels - 128) / 128).permute(0, 2, 3, 1).contiguous().numpy())
    graph.run()
    theirs = torch.from_numpy(graph.scores())

    def call() -> torch.Tensor:
        graph.run()
        return theirs

    return call, method(images).scores


@functools.cache
def _start_graph(python: Path, file: Path, threads: int) -> FrozenGraph:
    return FrozenGraph(python, file, threads)


@dataclass
class Original:
    """Where it is from, the files of it that count, whether it takes one image at a time, and how it is made."""

    repository: str
    files: tuple[str, ...]
    single: bool
    make: Callable[..., tuple[Scores, torch.Tensor]]


ORIGINALS = {
    "faceqan": Original(
        "LSIbabnikz/FaceQAN", ("src/bim_attack.py", "src/symmetry.py", "src/util.py"), True, original_faceqan
    ),
    "ser-fiq": Original("jankolf/ser-fiq-pytorch", ("backbones/iresnet.py",), False, original_ser_fiq),
    "grafiqs": Original("jankolf/GraFIQs", ("backbones/bn.py", "backbones/iresnet.py"), True, original_grafiqs),
    "clib-fiqa": Original("oufuzhao/CLIB-FIQA", ("model/models.py",), True, original_clib_fiqa),
    "lightqnet": Original(
        "KaenChan/lightqnet", ("lightqnet-dm100.pb", "lightqnet-dm025.pb"), False, original_lightqnet
    ),
}


# -- the run ----------------------------------------------------------------------------------------------------------


def measure(entry: Entry, args: argparse.Namespace, fr_model: nn.Module, images: list[np.ndarray]) -> list[dict]:
    """Rows of batch, faces at a time, faces per second by route, and the differences from ours."""
    network = entry.build(args, fr_model)
    if network is None:
        return []
    device = torch.device(args.device)
    methods = {"ours": load(entry, network, args.device)}
    if entry.folds:
        methods["folded"] = folded(entry, network, args.device)
    method = methods["ours"]
    given = getattr(args, entry.method.replace("-", "_"), None) is not None
    original = ORIGINALS[entry.method] if given else None
    limit = method.cpu_batch_size if device.type == "cpu" else method.accelerator_batch_size
    rows, theirs = [], None
    # DifFIQA's batches are of noisy copies, however many images there are.
    for batch in args.batches if entry.method != "diffiqa" else args.batches[:1]:
        count = min(batch, limit) if entry.method != "diffiqa" else 1
        faces, calls, counts, differences = images[:count], {}, {}, {}
        for name, route in methods.items():
            size = None if entry.method == "diffiqa" else count
            calls[name] = lambda route=route, faces=faces, size=size: route(faces, batch_size=size, on_error="raise")
            counts[name] = count
        start = time.perf_counter()
        expected = calls["ours"]().scores
        rounds = args.rounds if time.perf_counter() - start < SLOW else 1
        if entry.folds:
            differences["folded"] = _difference(calls["folded"]().scores, expected)
        if original is not None:
            counts["original"] = 1 if original.single else count
            if theirs is None or not original.single:
                theirs, ours = original.make(args, method, network, faces[: counts["original"]])
                original_difference = _difference(theirs(), ours)
            calls["original"], differences["original"] = theirs, original_difference
        for name, difference in differences.items():
            if not difference < TOLERANCE.get(entry.method, 1e-4):
                raise SystemExit(f"{entry.method}: the scores of ours and {name} differ by {difference:.1e}")
        times = interleaved_times(calls, device, rounds)
        rows.append({"batch": batch, "count": count, "differences": differences})
        rows[-1]["rates"] = {name: counts[name] / seconds for name, seconds in times.items()}
        print(f"  {rows[-1]}", file=sys.stderr)
    return rows


def _difference(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual.double() - expected.double()).abs().max() / expected.double().abs().max())


def report(results: list[tuple[Entry, str, list[dict]]], args: argparse.Namespace) -> str:
    lines = ["# Speed of the quality methods", "", f"{machine(torch.device(args.device))}.", ""]
    lines += [
        "Faces per second: the example faces as 112x112 pictures in memory, decoding left out and each method's own "
        f"preparation in. The median of {args.rounds} rounds in which all routes take turns, of one where a call "
        f"takes more than {SLOW:.0f} seconds. Networks of the published sizes with weights by rule. `ours` is the "
        "method as `load_method` gives it, `folded` the same on `diffiqa_hf.fold` of its network (on a CPU with "
        "Winograd's convolutions, but for FaceQAN, which takes gradients), where that gives the same scores. `at a "
        "time` is how many faces go through at once: some methods make copies of each, and take fewer by default. "
        "DifFIQA's batches are of such copies, so that its figure for one face is that for many.",
        "",
    ]
    for batch in args.batches:
        lines += [f"## {'One face' if batch == 1 else f'{batch} faces'}", ""]
        lines += ["| method | network | at a time | ours | folded | original | ours to original |", "|---" * 7 + "|"]
        for entry, network, rows in results:
            for row in (row for row in rows if row["batch"] == batch):
                rates = row["rates"]
                cells = [_figure(rates.get(name)) for name in ("ours", "folded", "original")]
                best = max(rates["ours"], rates.get("folded", 0))
                ratio = f"{best / rates['original']:.2f}" if "original" in rates else ""
                lines.append(f"| {entry.method} | {network} | {row['count']} | {' | '.join(cells)} | {ratio} |")
        lines.append("")
    lines += ["The last column: the faster of ours over the original.", "", "## The same scores", ""]
    lines += [
        "The largest difference of the scores from those of `ours`, over the largest score.",
        "",
        "| method | network | folded | original |",
        "|---" * 4 + "|",
    ]
    for entry, network, rows in results:
        found = [row["differences"] for row in rows]
        cells = [max((row[name] for row in found if name in row), default=None) for name in ("folded", "original")]
        if any(cell is not None for cell in cells):
            shown = ["" if cell is None else f"{cell:.1e}" for cell in cells]
            lines.append(f"| {entry.method} | {network} | {' | '.join(shown)} |")
    lines += ["", "## The originals", ""]
    for name, original in ORIGINALS.items():
        if (checkout := getattr(args, name.replace("-", "_"))) is not None:
            files = ", ".join(f"`{file}` {digest(checkout / file)}" for file in original.files)
            lines.append(f"- {name}: {original.repository} (SHA-256 begins with: {files}). {_ABOUT[name]}")
    lines += [*_NOT_HERE, ""]
    return "\n".join(lines)


_ABOUT = {
    "faceqan": "Its functions as its script calls them, one image at a time; the noise of its random starts is handed "
    "to it ready-made, that of ours, and `cuda()` does nothing.",
    "ser-fiq": "The authors' own network is for MXNet, which does not run here; this is the PyTorch form by one of "
    "them. What is compared is the mean distance of the embeddings, with the same values dropped; it then runs with "
    "its own dropout. It takes images together.",
    "grafiqs": "One image at a time; its script's gradients of all five outputs, which cost no more than that at the "
    "pixels.",
    "clib-fiqa": "In float32, one image at a time, and as in its script the text encoder reads the 360 sentences for "
    "each.",
    "lightqnet": "The published graphs under TensorFlow in a process of its own, the network alone: its input is "
    "ready-made, ours is made of the picture in the timed call.",
}
_NOT_HERE = (
    "- DifFIQA with its authors' UNet, beside their code: [diffiqa_end_to_end.md](diffiqa_end_to_end.md).",
    "- DifFIQA(R), eDifFIQA, MagFace, CR-FIQA and SDD-FIQA: the originals run an FR network and one or two linear "
    "layers, once a face; the networks are measured beside the originals in [backbones.md](backbones.md).",
    "- PFE: needs `tensorflow.contrib`, which ended with TensorFlow 1. FaceQnet: the network is in the weights' file, "
    "which was not at hand. FROQ: a script with nothing to call. PCNet, FaceQgen and PreFIQs: nothing is published. "
    "ViT-FIQA and ViTNT-FIQA: the original's network and ours are made of the same layers of torch.",
)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def card_texts(results: list[tuple[Entry, str, list[dict]]], args: argparse.Namespace) -> dict[str, str]:
    """A line for the card of each method."""
    where = "; ".join(machine(torch.device(args.device)).split("; ")[:3])
    texts: dict[str, list[str]] = {}
    for entry, network, rows in results:
        parts = []
        for row in rows:
            rates = row["rates"]
            also = f" ({_figure(rates['folded'])} folded)" if "folded" in rates else ""
            how = "one at a time" if row["count"] == 1 else f"{row['count']} at a time"
            parts.append(f"{_figure(rates['ours'])}{also} {how}")
        texts.setdefault(entry.method, []).append(f"{network}: {', '.join(parts)}")
    return {name: f"faces a second: {'; '.join(parts)}. On {where}" for name, parts in texts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", type=lambda text: text.split(","), help="only these")
    parser.add_argument("--fr", default="iresnet100", choices=[f"iresnet{depth}" for depth in DEPTHS])
    parser.add_argument("--batches", type=lambda text: [int(part) for part in text.split(",")], default=[1, 32])
    for name, original in ORIGINALS.items():
        parser.add_argument(f"--{name}", type=Path, metavar="DIR", help=f"checkout of {original.repository}")
    parser.add_argument("--tensorflow", type=Path, metavar="PYTHON", help="of an environment with TensorFlow")
    parser.add_argument("--device", default="cpu", help="of ours; the originals run on the CPU")
    parser.add_argument("--threads", type=int, help="of torch and TensorFlow (default: those of torch)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="a Markdown file for the result")
    parser.add_argument("--cards", type=Path, help="the JSON file that the methods' cards read")
    args = parser.parse_args()
    if unknown := set(args.methods or ()) - {entry.method for entry in ENTRIES}:
        parser.error(f"--methods: unknown {', '.join(sorted(unknown))}")
    if (args.lightqnet is None) != (args.tensorflow is None):
        parser.error("--lightqnet and --tensorflow go together")
    if args.device != "cpu" and any(getattr(args, name.replace("-", "_")) for name in ORIGINALS):
        parser.error("the originals run on the CPU: give their checkouts without --device")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    pictures = itertools.cycle([np.array(Image.open(path).convert("RGB")) for path in sorted(FACES.glob("*.jpg"))])
    images = list(itertools.islice(pictures, max(args.batches)))
    fr_model = build_fr_model(args.fr)
    fr_name = args.fr.replace("iresnet", "IResNet-")

    results = []
    for entry in ENTRIES:
        if args.methods is not None and entry.method not in args.methods:
            continue
        network = entry.network.format(fr=fr_name)
        print(f"{entry.method}, {network}", file=sys.stderr)
        if rows := measure(entry, args, fr_model, images):
            results.append((entry, network, rows))
            # After each, so that a run that is stopped has left something.
            write_result(args.output, report(results, args))
    if args.cards is not None:
        there = json.loads(args.cards.read_text(encoding="utf-8")) if args.cards.exists() else {}
        texts = there | card_texts(results, args)
        write_result(args.cards, json.dumps(texts, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
