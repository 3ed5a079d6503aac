# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Trains a small quality network, DifFIQA(R), on a pool of damaged faces that make_pool.py has made: the package's own.

    accelerate launch training/train_on_pool.py --pool pool --fr_model foamliu dlib \\
        --model_name_or_path diffiqa_r --max_train_steps 1000 --output_dir runs/diffiqa_r

The label of a face says how well FR models still know it, and may have a part of the score of a published quality
network, and of how little the embeddings move when the picture is mirrored (diffiqa_hf/training/pool.py). A batch has
whole series: a face and the same damage at three strengths, whose order is a term of the loss; faces; and pictures
that are no face, whose label is 0, and which a second output of the network learns to tell from faces. Each image is
mirrored, moved by a pixel and compressed a little by chance, which leaves its label; some are there twice, and must
score the same.

A run that was stopped goes on with `--resume_from_checkpoint latest`.
"""

import argparse
import json
import logging
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.stats import spearmanr
from torch.nn import functional as F
from transformers import AutoConfig

from diffiqa_hf import FaceImageProcessor
from diffiqa_hf.conversion.networks import load_quality_model
from diffiqa_hf.degradations.bsrgan import compress_jpeg
from diffiqa_hf.image_processing_face import pixels_to_face
from diffiqa_hf.models import AutoModelForFaceQuality
from diffiqa_hf.training.batches import seed_batch
from diffiqa_hf.training.deepening import deepen
from diffiqa_hf.training.distillation import pairwise_rank_loss
from diffiqa_hf.training.embedding_hints import WithEmbeddings, embedding_targets, embedding_weights
from diffiqa_hf.training.pool import MIRRORED, Pool, quality_labels
from diffiqa_hf.training.pool_run import PoolRun, add_pool_run_arguments
from diffiqa_hf.training.run import full_disk_in_one_line, make_accelerator


logger = logging.getLogger(__name__)

FACE_TEMPERATURE = 0.04  # of clean faces, whose labels lie close together
SURE_FACE = 0.15  # a copy with a lower label may be past recognition: it says nothing of what a face is


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", required=True, help="folder that make_pool.py has made")
    parser.add_argument("--fr_model", nargs="+", required=True, help="names of those in the pool that make the labels")
    parser.add_argument(
        "--norm_of", nargs="+", default=[], help="those of them whose embeddings' norm is a part of the faces' labels"
    )
    parser.add_argument(
        "--norm_weight",
        type=float,
        default=0.15,
        help="of each norm, and of the score, in the order of the faces; how alike a person's faces are has the rest "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--scores_of", help="name of a quality network in the pool whose scores are a part of the labels"
    )
    parser.add_argument("--scores_weight", type=float, default=0.4, help="of these (default: 0.4)")
    parser.add_argument(
        "--mirrored_weight",
        type=float,
        default=0.0,
        help="of how little the FR models' embeddings move when the picture is mirrored, in the labels (default: 0)",
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model_name_or_path", help="quality or FR model to start from")
    model.add_argument("--model_config", help="JSON file of the configuration of a new one")
    parser.add_argument(
        "--added_blocks", type=int, nargs="+", help="for each stage of the model to start from, how many more it gets"
    )
    train = parser.add_argument_group("training")
    train.add_argument("--series_per_batch", type=int, default=13, help="a face and its copies (default: 13)")
    train.add_argument("--faces_per_batch", type=int, default=8, help="faces alone (default: 8)")
    train.add_argument("--non_faces_per_batch", type=int, default=5, help="default: 5")
    train.add_argument("--twice_per_batch", type=int, default=10, help="images that are there twice (default: 10)")
    train.add_argument("--rank_loss_weight", type=float, default=0.3, help="over all pairs (default: 0.3)")
    train.add_argument(
        "--face_rank_loss_weight", type=float, default=0.0, help="over the pairs of clean faces, sharper (default: 0)"
    )
    train.add_argument("--order_loss_weight", type=float, default=0.5, help="within a series (default: 0.5)")
    train.add_argument("--twice_loss_weight", type=float, default=1.0, help="of those twice there (default: 1)")
    train.add_argument(
        "--embedding_loss_weight",
        type=float,
        default=0.0,
        help="of telling the FR models' embeddings of the picture, by a linear layer that is left out at the end, "
        "from what the score is read from: of few faces a network learns more so; the pool has those of the mirrored "
        "images (make_pool.py --mirrored) (default: 0)",
    )
    train.add_argument("--face_loss_weight", type=float, default=0.1, help="of telling faces (default: 0.1)")
    train.add_argument(
        "--only_face_check", action="store_true", help="train the output that tells faces; the scores stay as they are"
    )
    train.add_argument(
        "--scale_face_logits",
        type=float,
        default=1.0,
        help="what the output that tells faces is multiplied by at the end, before it is lowered: how sure it is "
        "(default: 1)",
    )
    train.add_argument(
        "--lower_face_logits",
        type=float,
        default=0.0,
        help="what the output that tells faces is lowered by at the end: faces may lie far above 0 and other pictures "
        "close below (default: 0)",
    )
    add_pool_run_arguments(parser, train)
    parser.set_defaults(learning_rate=2e-3, warmup_steps=50)
    parser.set_defaults(checkpointing_steps=100, validation_steps=200, logging_steps=20)
    return parser.parse_args(argv)


def slightly_changed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What leaves the quality of a face: its mirror image, a pixel to a side, a JPEG file of a quality from 85 on."""
    if rng.random() < 0.5:
        image = image[:, ::-1]
    dx, dy = rng.integers(-1, 2, 2)
    if rng.random() < 0.5:
        moved = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
        image = moved[1 + dy : 1 + dy + image.shape[0], 1 + dx : 1 + dx + image.shape[1]]
    if rng.random() < 0.3:
        return compress_jpeg(np.ascontiguousarray(image), int(rng.integers(85, 100)))
    return image


class Batches:
    """Batches of rows and images, by the seed and the step alone."""

    def __init__(self, pool: Pool, labels: np.ndarray, args: argparse.Namespace):
        self.pool, self.labels, self.args = pool, labels, args
        table = pool.table
        trained_on = ~table["heldout"].to_numpy()
        self.faces = np.flatnonzero((table["kind"] == "face") & trained_on)
        self.non_faces = np.flatnonzero(table["kind"] == "non-face")
        copies = np.flatnonzero((table["series"] >= 0) & trained_on)
        self.copies = int((table["series"] == 0).sum())
        series = copies.reshape(-1, self.copies)
        self.series = np.hstack([table["face"].to_numpy()[series[:, :1]], series])

    def _drawn(self, rows: np.ndarray, count: int, step: int, salt: int) -> np.ndarray:
        """All rows once, in another order each time round."""
        places = np.arange(step * count, (step + 1) * count)
        rounds = {
            r: np.random.default_rng([self.args.seed, salt, r]).permutation(len(rows)) for r in places // len(rows)
        }
        return rows[[rounds[place // len(rows)][place % len(rows)] for place in places]]

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
        """Images (B, 3, 112, 112), labels (B,) and rows; series come first, and last what is there twice."""
        args = self.args
        parts = [
            self._drawn(self.series, args.series_per_batch, step, 1).reshape(-1),
            self._drawn(self.faces, args.faces_per_batch, step, 2),
            self._drawn(self.non_faces, args.non_faces_per_batch, step, 3),
        ]
        rows = np.concatenate(parts)
        rng = np.random.default_rng([args.seed, 4, step])
        rows = np.concatenate([rows, rng.choice(rows, args.twice_per_batch, replace=False)])
        images = np.stack([pixels_to_face(slightly_changed(self.pool.images[row], rng)) for row in rows])
        return torch.from_numpy(images), torch.from_numpy(self.labels[rows]).float(), rows


def order_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """
    How far a copy is above the one before it, which is less damaged, less half of the distance that their labels have.

    Args:
        scores, labels: (series, 1 + copies), from the face on.
    """
    distance = (labels[:, :-1] - labels[:, 1:]).clamp(0, 0.4)
    return F.relu(scores[:, 1:] - scores[:, :-1] + 0.005 + 0.5 * distance).mean()


def make_model(args: argparse.Namespace) -> torch.nn.Module:
    if args.model_config:
        settings = json.loads(Path(args.model_config).read_text()) | {"face_check": True}
        config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        return AutoModelForFaceQuality.from_config(config)
    config = AutoConfig.from_pretrained(args.model_name_or_path)
    config.face_check, config.quality_normalization = True, None
    model = load_quality_model(args.model_name_or_path, new_head=True, config=config)
    return deepen(model, args.added_blocks) if args.added_blocks else model


@torch.inference_mode()
def score(model: torch.nn.Module, images: np.ndarray, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Scores and face logits (N,)."""
    found = []
    for start in range(0, len(images), 64):
        batch = torch.from_numpy(np.stack([pixels_to_face(image) for image in images[start : start + 64]]))
        output = model(batch.to(device).contiguous(memory_format=torch.channels_last))
        found.append(torch.stack([output.scores.float(), output.face_logits.float()]).cpu().numpy())
    return tuple(np.concatenate(found, axis=1))


def validate(model: torch.nn.Module, pool: Pool, labels: np.ndarray, rows: np.ndarray, device) -> dict[str, float]:
    """On people held out: correlation with the labels, of all and of the faces alone, and faces told from the rest."""
    scores, logits = score(model, pool.images[rows], device)
    table = pool.table.iloc[rows]
    clean, none = (table["kind"] == "face").to_numpy(), (table["kind"] == "non-face").to_numpy()
    low = np.quantile(scores[clean], 0.05)
    return {
        "spearman": float(spearmanr(scores[~none], labels[rows][~none]).statistic),
        "spearman_faces": float(spearmanr(scores[clean], labels[rows][clean]).statistic),
        "non_faces_below_5th_percentile": float((scores[none] < low).mean()),
        "faces_told": float((logits[clean] > 0).mean()),
        "non_faces_told": float((logits[none] < 0).mean()),
    }


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with full_disk_in_one_line(args.output_dir):
        train(args)


def train(args: argparse.Namespace) -> None:
    cv2.setNumThreads(1)
    accelerator = make_accelerator(args)
    with_mirrored = args.mirrored_weight or args.embedding_loss_weight
    mirrored = [name + MIRRORED for name in args.fr_model] if with_mirrored else []
    pool = Pool.open(args.pool, [*args.fr_model, *mirrored, *([args.scores_of] if args.scores_of else [])])
    weights = {"scores_weight": args.scores_weight, "mirrored_weight": args.mirrored_weight}
    labels = quality_labels(pool, args.norm_of, args.norm_weight, scores_of=args.scores_of, **weights)
    batches = Batches(pool, labels, args)
    # A part of those held out, to look at and not to report; the non-faces are those trained on.
    heldout = np.flatnonzero(pool.table["heldout"].to_numpy())
    looked_at = np.sort(np.random.default_rng(0).permutation(heldout)[:1500])
    looked_at = np.concatenate([looked_at, batches.non_faces[:200]])

    torch.manual_seed(args.seed)
    model = make_model(args).to(memory_format=torch.channels_last)
    if args.only_face_check:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith("head.face."))
    targets = embedding_targets(pool, args.fr_model) if args.embedding_loss_weight else []
    run = PoolRun(
        args,
        accelerator,
        WithEmbeddings(model, [target.shape[1] for target in targets]),
        "train_on_pool",
        validate=lambda model: validate(model.quality, pool, labels, looked_at, accelerator.device),
    )
    logger.info(
        f"{len(pool.table)} images: {len(batches.faces)} faces, {len(batches.series)} series and "
        f"{len(batches.non_faces)} non-faces to train on, {len(heldout)} held out; steps {run.state.step} to "
        f"{args.max_train_steps}"
    )
    in_series = args.series_per_batch * (batches.copies + 1)
    run.model.train(not args.only_face_check)
    for step in run.steps():
        images, wanted, rows = batches(step)
        seed_batch(args.seed, step * accelerator.num_processes + accelerator.process_index)
        wanted = wanted.to(accelerator.device)
        is_face = torch.from_numpy((pool.table["kind"].to_numpy()[rows] != "non-face").astype(np.float32))
        is_face = is_face.to(wanted.device)
        output, hints = run.model(
            images.to(accelerator.device).contiguous(memory_format=torch.channels_last),
            [torch.from_numpy(target[rows]).to(wanted.device) for target in targets],
            embedding_weights(wanted, is_face),
        )
        scores, logits = output.scores.float(), output.face_logits.float()
        once = len(rows) - args.twice_per_batch
        first = torch.tensor([int(np.flatnonzero(rows[:once] == row)[0]) for row in rows[once:]], device=scores.device)
        sure = (wanted > SURE_FACE) | (is_face == 0)
        loss = (
            F.smooth_l1_loss(scores, wanted, beta=0.1)
            + args.rank_loss_weight * pairwise_rank_loss(scores, wanted)
            + args.order_loss_weight
            * order_loss(*(values[:in_series].view(-1, batches.copies + 1) for values in (scores, wanted)))
            + args.twice_loss_weight * (scores[once:] - scores[first]).abs().mean()
            + args.face_loss_weight * F.binary_cross_entropy_with_logits(logits[sure], is_face[sure])
            + args.embedding_loss_weight * hints
        )
        if args.face_rank_loss_weight:
            clean = torch.from_numpy((pool.table["kind"].to_numpy()[rows[:once]] == "face").nonzero()[0])
            clean = clean.to(scores.device)
            loss = loss + args.face_rank_loss_weight * pairwise_rank_loss(
                scores[clean], wanted[clean], FACE_TEMPERATURE
            )
        run.update(loss, rows, loss=loss)
    trained = run.averaged().quality
    for parameter in trained.head.face.parameters():
        parameter.data *= args.scale_face_logits
    trained.head.face.bias.data -= args.lower_face_logits

    def save(folder: Path) -> None:
        trained.save_pretrained(folder)
        FaceImageProcessor().save_pretrained(folder)

    run.finish(save)


if __name__ == "__main__":
    main()
