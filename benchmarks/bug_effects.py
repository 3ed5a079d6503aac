# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
What the known bugs of the authors' codes, which are not copied here, do to labels and scores.

    python benchmarks/bug_effects.py [--parquet faces.parquet] [--fr FOLDER] [--lightqnet lightqnet-dm100.pb] \
        [--effects cr-fiqa,grafiqs] [--output benchmarks/results/bug_effects.md]

Each effect is what an authors' code does beside what the package does in its place, on the same faces, the same FR
model and the same random numbers; no code of theirs is run. Without `--parquet` (columns `image` and `identity`,
aligned faces) it takes the example faces and leaves out what needs several faces of many people, and without `--fr`
it takes the FR model of the package. DifFIQA is measured on the
example faces always. The figures stand on the cards (`diffiqa methods NAME`).
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from measurement import machine, write_result
from PIL import Image
from scipy.stats import spearmanr
from torch import nn
from torch.nn.functional import normalize

from diffiqa_hf import FaceImageProcessor
from diffiqa_hf.conversion.networks import load_fr_model
from diffiqa_hf.losses import CRFIQALoss
from diffiqa_hf.methods import load_method
from diffiqa_hf.methods.froq import greedy_layers
from diffiqa_hf.training.data import load_face_dataset
from diffiqa_hf.training.recipes import centre_labels, wasserstein_distances


EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "faces"


@dataclass
class Faces:
    """
    Args:
        images (`list`): Aligned faces, as a method is called with them.
        pixels: The canonical faces of them, `(N, 3, 112, 112)`.
        people: `(N,)` whole numbers from 0.
        fr_model: The FR model, in evaluation mode.
        embeddings: `(N, D)` by it, of unit length.
        lightqnet: A published graph of LightQNet, where it was given.
    """

    images: list
    pixels: torch.Tensor
    people: torch.Tensor
    fr_model: nn.Module
    embeddings: torch.Tensor
    lightqnet: Path | None

    def __len__(self) -> int:
        return len(self.images)


def example_faces() -> tuple[list, list[str]]:
    records = json.loads((EXAMPLES / "faces.json").read_text(encoding="utf-8"))["faces"]
    return [Image.open(EXAMPLES / record["file"]) for record in records], [record["person"] for record in records]


def faces_of_people(path: Path, count: int, per_person: int) -> tuple[list, list[str]]:
    """Of the people with 3 faces or more, in the order of the file, the first `per_person` of each, up to `count`."""
    dataset = load_face_dataset(train_parquet=[str(path)])
    names = np.array(dataset["identity"])
    rows: list[int] = []
    for name in dict.fromkeys(names.tolist()):
        own = np.flatnonzero(names == name)[:per_person].tolist()
        rows += own if len(own) >= 3 and len(rows) < count else []
    rows = rows[:count]
    return [dataset[row]["image"] for row in rows], names[rows].tolist()


@torch.no_grad()
def read(args: argparse.Namespace) -> Faces:
    images, names = faces_of_people(args.parquet, args.count, 10) if args.parquet else example_faces()
    processor = FaceImageProcessor()
    pixels = torch.from_numpy(np.stack([processor.extract_faces(image)[0].pixel_values for image in images]))
    fr_model = load_fr_model(args.fr).eval()
    embeddings = torch.cat([fr_model(batch).embeddings.float() for batch in pixels.split(32)])
    people = torch.from_numpy(np.unique(names, return_inverse=True)[1])
    return Faces(images, pixels, people, fr_model, normalize(embeddings), args.lightqnet)


def compared(theirs, ours, digits: int = 3) -> str:
    """Rank correlation and differences of two arrays (N,)."""
    theirs, ours = (np.asarray(values, dtype=float) for values in (theirs, ours))
    difference = np.abs(theirs - ours)
    return (
        f"Spearman {spearmanr(theirs, ours).statistic:.4f}, difference {difference.mean():.{digits}g} on average and "
        f"{difference.max():.{digits}g} at most (standard deviation of ours {ours.std():.{digits}g})"
    )


# -- the effects ------------------------------------------------------------------------------------------------------
# Each gives pairs: what the authors' code does, and what comes of it.


def cr_fiqa(faces: Faces) -> list[tuple[str, str]]:
    centres = torch.zeros(int(faces.people.max()) + 1, faces.embeddings.shape[1])
    centres = normalize(centres.index_add(0, faces.people, faces.embeddings))
    cosine = faces.embeddings @ centres.T
    targets = {}
    for kind in ("paper", "official"):
        loss = CRFIQALoss(len(centres), centres.shape[1], certainty_ratio=kind)
        targets[kind] = loss.targets(cosine, faces.people).numpy()
    ours, theirs = targets["paper"], targets["official"]
    return [
        (
            f"training targets are CCS / NNCCS, not CCS / (NNCCS + 1 + eps); here with the mean embeddings of "
            f"{len(centres)} people as class centres",
            f"Spearman {spearmanr(theirs, ours).statistic:.3f}; theirs from {theirs.min():.2f} to {theirs.max():.2f} "
            f"(median {np.median(theirs):.2f}), the paper's from {ours.min():.2f} to {ours.max():.2f} (median "
            f"{np.median(ours):.2f})",
        )
    ]


def sdd_fiqa(faces: Faces, num_pairs: int = 24, num_rounds: int = 12) -> list[tuple[str, str]]:
    similarity = (faces.embeddings @ faces.embeddings.T).double().numpy()
    people = faces.people.numpy()
    mated = (people[:, None] == people) & ~np.eye(len(people), dtype=bool)
    rng = np.random.default_rng(0)
    rounds = np.empty((num_rounds, len(people)))
    for distances in rounds:
        for i in range(len(people)):
            own, others = np.flatnonzero(mated[i]), np.flatnonzero(people != people[i])
            own, others = rng.permutation(own)[:num_pairs], rng.choice(others, num_pairs, replace=False)
            distances[i] = wasserstein_distances(similarity[i, own][None], similarity[i, others][None])[0]

    def scaled(values: np.ndarray) -> np.ndarray:
        low, high = values.min(-1, keepdims=True), values.max(-1, keepdims=True)
        return 100 * (values - low) / (high - low)

    return [
        (
            "labels are scaled to 0 .. 100 in each of the 12 rounds and then averaged",
            compared(scaled(rounds).mean(0), scaled(rounds.mean(0))),
        )
    ]


def _free_scores(loss: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor) -> torch.Tensor:
    """Scores (N,), one free number for each face, of the least loss that gradient descent finds from `start`."""
    logits = start.clamp(0.01, 0.99).logit().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.02)
    for _ in range(1500):
        optimizer.zero_grad()
        loss(logits.sigmoid()).backward()
        optimizer.step()
    return logits.detach().sigmoid()


def _pairs(faces: Faces, wanted: Callable, cost: Callable) -> list[tuple[str, str]]:
    first, second = torch.triu(faces.people[:, None] == faces.people, 1).nonzero(as_tuple=True)
    target = wanted((faces.embeddings[first] * faces.embeddings[second]).sum(1))

    def ours(scores: torch.Tensor) -> torch.Tensor:
        return cost(torch.minimum(scores[first], scores[second]), target).mean()

    # Of the pairs in both orders each takes its first face: both costs are least at the mean of a face's targets.
    zeros = torch.zeros(len(faces))
    count = zeros.index_add(0, first, torch.ones_like(target)).index_add(0, second, torch.ones_like(target))
    theirs = zeros.index_add(0, first, target).index_add(0, second, target) / count
    least = _free_scores(ours, theirs)
    return [
        (
            "the minimum is of two columns, the second not transposed: each pair has its first face's score, in half "
            f"of the {2 * len(first):,} ordered pairs the higher one; here the scores, one free number for each face, "
            "that minimise theirs and the paper's",
            f"{compared(theirs, least)}; the paper's loss is {ours(theirs.clamp(0.01, 0.99)):.4f} at theirs and "
            f"{ours(least):.4f} at its own",
        )
    ]


def lightqnet_loss(faces: Faces) -> list[tuple[str, str]]:
    def cross_entropy(lower: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return -(target * lower.log() + (1 - target) * (1 - lower).log())

    return _pairs(faces, lambda cosine: (16 * (cosine - 0.4)).sigmoid(), cross_entropy)


def pcnet_loss(faces: Faces) -> list[tuple[str, str]]:
    return _pairs(faces, lambda cosine: cosine, lambda lower, target: (target - lower) ** 2)


def lightqnet_colour(faces: Faces) -> list[tuple[str, str]]:
    if faces.lightqnet is None:
        return []
    method = load_method("lightqnet", weights=faces.lightqnet)
    images = [np.asarray(image.convert("RGB")) for image in faces.images[:200]]
    theirs = method([image[:, :, ::-1].copy() for image in images]).scores
    what = f"the demo gives the network ({faces.lightqnet.name}) BGR; {len(images)} faces"
    return [(what, compared(theirs, method(images).scores))]


def grafiqs(faces: Faces) -> list[tuple[str, str]]:
    method = load_method("grafiqs", fr_model=faces.fr_model)
    pixels = faces.pixels[:50]
    ours, theirs = (
        torch.cat([method.raw_scores(batch, 0)[0] for batch in part.split(10)]) for part in (pixels, pixels.flip(1))
    )
    return [
        (
            f"BGR where the script runs without --bgr2rgb; {len(pixels)} faces, at the pixels",
            f"{compared(theirs, ours)}; the mean goes from {ours.mean():.4g} to {theirs.mean():.4g}",
        )
    ]


@torch.no_grad()
def froq(faces: Faces, seeds: int = 200) -> list[tuple[str, str]]:
    pixels = faces.pixels[:200]
    # In the place of the pseudo quality, which takes 76 embeddings of a face.
    quality = centre_labels(faces.embeddings, faces.people)[: len(pixels)]
    names = [name for name, _ in faces.fr_model.named_modules() if name]
    method = load_method("froq", fr_model=faces.fr_model, layers=names[:1])
    parts = [method._norms(batch, names) for batch in pixels.split(25)]
    norms = {name: torch.cat([part[name] for part in parts]).double().numpy() for name in parts[0]}
    method.layers = greedy_layers(norms, quality)
    tenth = sorted((spearmanr(values, quality).statistic for values in norms.values()), reverse=True)[9]
    rng = np.random.default_rng(0)
    drawn = np.array([spearmanr(rng.standard_normal(len(quality)), quality).statistic for _ in range(seeds)])

    # AdaFace reads blue, green, red: as blue, red, green it has red and green exchanged.
    ours = np.mean([norms[name] for name in method.layers], 0)
    theirs = torch.cat([method.raw_scores(batch[:, [1, 0, 2]], 0)[0] for batch in pixels.split(25)])
    what = f"{len(pixels)} faces, layers chosen by the similarity to the mean of the person's other faces"
    return [
        (
            f"random numbers for a module that is not run, as the `body` of AdaFace's IR-101; {what}",
            f"their rank correlation with the quality is {drawn.max():.2f} at most in {seeds} draws, the tenth "
            f"candidate's {tenth:.2f}: {(drawn > tenth).sum()} of them win a place, where the authors' "
            "second pass, which finds no output of the module, ends with an error",
        ),
        (
            "red and green exchanged (channels [2, 0, 1] for a network that reads BGR); the same faces and layers, "
            f"{', '.join(method.layers)}",
            compared(theirs, ours),
        ),
    ]


@torch.no_grad()
def ser_fiq(faces: Faces) -> list[tuple[str, str]]:
    method = load_method("ser-fiq", fr_model=faces.fr_model)
    embed, kept = method.embed, []

    def keep(pixels: torch.Tensor) -> torch.Tensor:
        kept.append(embed(pixels))
        return kept[-1]

    method.embed = keep
    pixels = faces.pixels[:100]
    ours = torch.cat([method.raw_scores(batch, 0)[0] for batch in pixels.split(10)])
    passes = method.num_passes
    first, second = torch.triu_indices(passes, passes, 1)
    distances: dict[str, list[torch.Tensor]] = {"double": [], "single": [], "all places": []}
    for unit in normalize(torch.cat(kept)).unflatten(0, (len(pixels), passes)):
        wide = unit.double()
        square = (wide.square().sum(1)[:, None] + wide.square().sum(1) - 2 * wide @ wide.T).clamp(min=0)
        distances["double"].append(square.sqrt().float()[first, second].mean())
        by_product = torch.cdist(unit, unit, compute_mode="use_mm_for_euclid_dist")
        distances["single"].append(by_product[first, second].mean())
        distances["all places"].append(by_product.triu().mean())
    double, single, places = (2 * torch.sigmoid(-torch.stack(values).double()) for values in distances.values())
    what = f"{len(pixels)} faces, T = {passes}"
    return [
        (
            f"distances by a matrix product in float64 (scikit-learn 0.24, the original); {what}",
            compared(double, ours),
        ),
        (f"distances by a matrix product in float32 (ser-fiq-pytorch); {what}", compared(single, ours)),
        (
            f"their mean over all T^2 places, of which the T(T-1)/2 above the diagonal are filled (ser-fiq-pytorch, "
            f"without its factor 8); {what}",
            f"{compared(places, ours)}; ours from {ours.min():.3f} to {ours.max():.3f}, theirs from "
            f"{places.min():.3f} to {places.max():.3f}",
        ),
    ]


def faceqan(faces: Faces) -> list[tuple[str, str]]:
    images = faces.images[:: max(len(faces) // 16, 1)][:16]
    ours, theirs = (
        load_method("faceqan", fr_model=faces.fr_model, clip=clip)(images).scores for clip in ((0.0, 1.0), (-1.0, 1.0))
    )
    return [(f"noisy pixels in [0, 1] are clipped to [-1, 1]; {len(images)} faces", compared(theirs, ours))]


def diffiqa(faces: Faces) -> list[tuple[str, str]]:
    images, rows = example_faces()[0], []
    method = load_method("diffiqa")
    method.enable_folding(winograd=True)
    pipeline = method.pipeline
    default = {name: pipeline.config[name] for name in ("num_timesteps", "num_inference_steps", "num_repeats")}
    authors = {"num_timesteps": 5, "num_inference_steps": None, "num_repeats": 1}
    for settings, part in ((default, images[::2]), (authors, images[::4])):
        what = f"{len(part)} example faces, t = {settings['num_timesteps']}, n = {settings['num_repeats']}"
        pipeline.register_to_config(**settings, off_by_one=False)
        ours = method(part).scores
        pipeline.register_to_config(off_by_one=True)
        rows.append((f"noise of index t, restored as t - 1; {what}", compared(method(part).scores, ours)))
        if settings is default:
            pipeline.register_to_config(off_by_one=False)
            rows.append(
                (f"for comparison: another seed, nothing else; {what}", compared(method(part, seed=1).scores, ours))
            )
    return rows


EFFECTS: dict[str, tuple[str, Callable[[Faces], list[tuple[str, str]]]]] = {
    "diffiqa": ("diffiqa", diffiqa),
    "cr-fiqa": ("cr-fiqa", cr_fiqa),
    "sdd-fiqa": ("sdd-fiqa", sdd_fiqa),
    "lightqnet-colour": ("lightqnet", lightqnet_colour),
    "lightqnet-loss": ("lightqnet", lightqnet_loss),
    "pcnet-loss": ("pcnet", pcnet_loss),
    "faceqan": ("faceqan", faceqan),
    "ser-fiq": ("ser-fiq", ser_fiq),
    "grafiqs": ("grafiqs", grafiqs),
    "froq": ("froq", froq),
}

OF_PEOPLE = {"cr-fiqa", "sdd-fiqa", "lightqnet-loss", "pcnet-loss", "froq"}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parquet", type=Path, help="aligned faces of people (default: the example faces)")
    parser.add_argument("--count", type=int, default=400, help="how many of them, at most 10 a person (default: 400)")
    parser.add_argument("--fr", default="default", help="FR model (default: the small one of the package)")
    parser.add_argument("--lightqnet", type=Path, help="a published graph of LightQNet, .pb")
    parser.add_argument("--effects", help="which, by commas (default: all that can be measured)")
    parser.add_argument("--output", type=Path, help="markdown file to write to")
    args = parser.parse_args(argv)
    possible = [name for name in EFFECTS if args.parquet or name not in OF_PEOPLE]
    names = args.effects.split(",") if args.effects else possible
    if unknown := {*names} - {*EFFECTS}:
        parser.error(f"unknown effects {', '.join(sorted(unknown))}; there are {', '.join(EFFECTS)}")
    if missing := {*names} - {*possible}:
        parser.error(f"{', '.join(sorted(missing))} take --parquet")
    faces = read(args)
    source = args.parquet.name if args.parquet else "examples/faces"
    lines = [
        "# What the known bugs of the authors' codes do",
        "",
        machine(torch.device("cpu")) + ".",
        "",
        f"{len(faces)} faces of {int(faces.people.max()) + 1} people from {source}, FR model {Path(args.fr).name} "
        f'({type(faces.fr_model).__name__}), where nothing else is said. "Ours" is what the package does.',
        "",
        "| method | what the authors' code does | what comes of it |",
        "|---|---|---|",
    ]
    for name in names:
        method, measure = EFFECTS[name]
        rows = [f"| {method} | {what} | {effect} |" for what, effect in measure(faces)]
        print(*rows, sep="\n", file=sys.stderr, flush=True)
        lines += rows
    lines += [
        "",
        "Not measured: that DifFIQA's authors score with the raw and not with the averaged (EMA) weights of their "
        "UNet (it takes their file, which was not at hand). That their UNet runs at time 0 twice changes nothing but "
        "rounding: the second call gets what the first one implies, and in `diffiqa_end_to_end.md` their scores with "
        "it and ours without are the same to 8e-6.",
    ]
    write_result(args.output, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
