# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Trains an FR model to move as its teachers move: the FR model of the package's own pipeline.

DifFIQA measures how far an embedding moves when the face is mirrored, made noisy or restored. A student that is given
the teachers' embedding of the *clean* face for each of these learns not to move, and its DifFIQA says nothing. Here
the teachers see the same perturbed picture as the student, and a term of the loss compares how far each has moved.

    accelerate launch training/train_fr_student.py --pool pool --teacher foamliu dlib \\
        --model_name_or_path fr_model --max_train_steps 1000 --output_dir runs/fr_student

`--pool` is one that make_pool.py has made with these teachers: their embeddings of the clean faces and of the damaged
copies are taken from it. The mirrored, noisy and smoothed faces are drawn anew, and embedded as training goes.
The student's embedding is that of the teachers side by side, each centred and of unit length.
A run that was stopped goes on with `--resume_from_checkpoint latest`.
"""

import argparse
import logging
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.stats import spearmanr
from torch.nn import functional as F

import diffiqa_hf.models  # noqa: F401 - makes the FR models known to AutoModel
from diffiqa_hf.conversion.networks import load_fr_model
from diffiqa_hf.image_processing_face import pixels_to_face
from diffiqa_hf.training.pool import Pool
from diffiqa_hf.training.pool_run import PoolRun, add_pool_run_arguments
from diffiqa_hf.training.run import full_disk_in_one_line, make_accelerator


logger = logging.getLogger(__name__)

LARGEST_NOISE = 0.25  # standard deviation; faces are in [-1, 1]
# As in train_face_recognition.py: the student tells faces apart as the teachers do.
RELATION_SCALE, RELATION_FACES = 16.0, 8192


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", required=True, help="folder that make_pool.py has made")
    parser.add_argument("--teacher", nargs="+", required=True, help="folders of FR models; in the pool by their names")
    parser.add_argument("--model_name_or_path", required=True, help="FR model to start from")
    train = parser.add_argument_group("training")
    train.add_argument("--frozen_blocks", type=int, default=0, help="the stem and so many blocks stay (default: none)")
    train.add_argument("--faces_per_batch", type=int, default=12, help="each with three others (default: 12)")
    train.add_argument("--move_loss_weight", type=float, default=30.0, help="default: %(default)s")
    train.add_argument("--relation_weight", type=float, default=0.1, help="default: %(default)s")
    add_pool_run_arguments(parser, train)
    parser.set_defaults(learning_rate=7e-4, warmup_steps=30)
    parser.set_defaults(checkpointing_steps=50, validation_steps=150, logging_steps=10)
    return parser.parse_args(argv)


def perturb(
    image: np.ndarray, rng: np.random.Generator, kinds: tuple[str, ...], noise: float | None = None
) -> np.ndarray:
    """
    The face (3, 112, 112) in [-1, 1] as DifFIQA perturbs it: `"noise"`, of a standard deviation that is drawn if not
    is given, `"mirror"`, or `"smooth"`, as a restored face is; or two of them.
    """
    if "smooth" in kinds:
        if rng.random() < 0.5:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 2))
        else:
            noisy = np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)
            image = cv2.bilateralFilter(noisy, 5, rng.uniform(20, 70), 2)
    if "mirror" in kinds:
        image = image[:, ::-1]
    face = pixels_to_face(np.ascontiguousarray(image))
    if "noise" in kinds:
        sd = rng.uniform(0.02, LARGEST_NOISE) if noise is None else noise
        face = face + sd * rng.standard_normal(face.shape, dtype=np.float32)
    return face.astype(np.float32)


class Views:
    """Of each face: itself, a damaged copy from the pool, its mirror image, and a noisy or smoothed one."""

    def __init__(self, pool: Pool, args: argparse.Namespace):
        self.pool, self.args = pool, args
        table = pool.table
        trained_on = ~table["heldout"].to_numpy()
        self.faces = np.flatnonzero((table["kind"] == "face") & trained_on)
        copies = np.flatnonzero((table["series"] >= 0) & trained_on)
        self.copies: dict[int, list[int]] = {}
        for row, face in zip(copies.tolist(), table["face"].to_numpy()[copies].tolist(), strict=True):
            self.copies.setdefault(face, []).append(row)

    def __call__(self, step: int) -> tuple[torch.Tensor, np.ndarray]:
        """Images (4, faces, 3, 112, 112): clean, copy, mirror, noisy; and the rows (2, faces) of the first two."""
        rng = np.random.default_rng([self.args.seed, step])
        rows, views = [], []
        for face in rng.choice(self.faces, self.args.faces_per_batch, replace=False).tolist():
            copy = int(rng.choice(self.copies[face])) if face in self.copies else face
            image = np.array(self.pool.images[face])
            kinds = (("noise",), ("noise",), ("smooth",), ("noise", "mirror"), ("smooth", "mirror"))[rng.integers(5)]
            rows.append((face, copy))
            views.append(
                [
                    pixels_to_face(image),
                    pixels_to_face(np.array(self.pool.images[copy])),
                    perturb(image, rng, ("mirror",)),
                    perturb(image, rng, kinds),
                ]
            )
        return torch.from_numpy(np.array(views)).transpose(0, 1).contiguous(), np.array(rows).T


class Teachers:
    """Targets (N, D) of the student: the embeddings of all teachers, each less its mean over the faces."""

    def __init__(self, pool: Pool, names: list[str], faces: np.ndarray, device: torch.device):
        self.pool, self.names = pool, [Path(name).name for name in names]
        self.models = [load_fr_model(name).eval().to(device, memory_format=torch.channels_last) for name in names]
        self.means = []
        for name in self.names:
            self.means.append(F.normalize(torch.from_numpy(pool.embeddings[name][faces])).mean(0).to(device))

    def join(self, embeddings: list[torch.Tensor]) -> torch.Tensor:
        parts = [F.normalize(F.normalize(e) - mean) for e, mean in zip(embeddings, self.means, strict=True)]
        return F.normalize(torch.cat(parts, 1))

    def of_rows(self, rows: np.ndarray) -> torch.Tensor:
        device = self.means[0].device
        return self.join([torch.from_numpy(self.pool.embeddings[name][rows]).to(device) for name in self.names])

    @torch.no_grad()
    def of_images(self, images: torch.Tensor) -> torch.Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, torch.bfloat16):
            found = [model(images).embeddings for model in self.models]
        return self.join([embeddings.float() for embeddings in found])


def relation_loss(embeddings: torch.Tensor, wanted: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """KL divergence of the softmax over faces of the similarities to them, of the teachers' to the student's."""
    teachers = (RELATION_SCALE * wanted @ others.T).softmax(1)
    student = (RELATION_SCALE * F.normalize(embeddings) @ others.T).log_softmax(1)
    return F.kl_div(student, teachers, reduction="batchmean")


@torch.no_grad()
def validate(model: torch.nn.Module, teachers: Teachers, pool: Pool, rows: np.ndarray, device) -> dict[str, float]:
    """On people held out: how well the student's moves, for each perturbation, go with the teachers' (Spearman)."""
    images = [np.array(pool.images[row]) for row in rows]
    wanted = teachers.of_rows(rows)

    def student(faces: np.ndarray) -> torch.Tensor:
        parts = torch.from_numpy(faces).to(device).contiguous(memory_format=torch.channels_last).split(32)
        return F.normalize(torch.cat([model(part).embeddings for part in parts]))

    clean = student(np.stack([pixels_to_face(image) for image in images]))
    figures = {"cosine": float((clean * wanted).sum(1).mean())}
    for name in ("mirror", "noise", "smooth"):
        rng = np.random.default_rng(1)
        faces = np.stack([perturb(image, rng, (name,), noise=0.1) for image in images])
        moved = (clean * student(faces)).sum(1)
        parts = torch.from_numpy(faces).to(device).split(32)
        teachers_moved = (wanted * torch.cat([teachers.of_images(part) for part in parts])).sum(1)
        figures[f"{name}_spearman"] = float(spearmanr(moved.cpu(), teachers_moved.cpu()).statistic)
        figures[f"{name}_means"] = (round(float(moved.mean()), 3), round(float(teachers_moved.mean()), 3))
    return figures


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with full_disk_in_one_line(args.output_dir):
        train(args)


def train(args: argparse.Namespace) -> None:
    cv2.setNumThreads(1)
    accelerator = make_accelerator(args)
    pool = Pool.open(args.pool, [Path(name).name for name in args.teacher])
    views = Views(pool, args)
    teachers = Teachers(pool, args.teacher, views.faces, accelerator.device)
    held_out = np.flatnonzero((pool.table["kind"] == "face") & pool.table["heldout"])
    looked_at = np.sort(np.random.default_rng(0).permutation(held_out)[:192])

    torch.manual_seed(args.seed)
    model = load_fr_model(args.model_name_or_path).to(memory_format=torch.channels_last)
    if args.frozen_blocks:
        for part in (model.stem, *model.blocks[: args.frozen_blocks]):
            part.requires_grad_(False)
    run = PoolRun(
        args,
        accelerator,
        model,
        "train_fr_student",
        validate=lambda model: validate(model, teachers, pool, looked_at, accelerator.device),
    )
    logger.info(
        f"{len(views.faces)} faces, {len(views.copies)} of them with copies; {sum(p.numel() for p in run.trained):,} "
        f"trainable parameters, steps {run.state.step} to {args.max_train_steps}"
    )
    # Its batch normalisations keep their statistics: what is smoothed or noisy must not change what is clean.
    run.model.eval()
    for step in run.steps():
        images, rows = views(step)
        images = images.to(accelerator.device)
        shape = images.shape[:2]
        wanted = torch.cat([teachers.of_rows(rows.reshape(-1)), teachers.of_images(images[2:].flatten(0, 1))])
        embeddings = run.model(images.flatten(0, 1).contiguous(memory_format=torch.channels_last)).embeddings.float()
        distance = (1 - F.cosine_similarity(embeddings, wanted)).mean()
        # How far each view is from the clean face, and the views from each other: as with the teachers.
        student = F.normalize(embeddings).unflatten(0, shape).transpose(0, 1)
        target = wanted.unflatten(0, shape).transpose(0, 1)
        moves = (student @ student.mT - target @ target.mT).square().mean()
        rng = np.random.default_rng([args.seed, step, 1])
        others = teachers.of_rows(
            np.sort(rng.choice(views.faces, min(RELATION_FACES, len(views.faces)), replace=False))
        )
        relation = relation_loss(embeddings, wanted, others)
        loss = distance + args.move_loss_weight * moves + args.relation_weight * relation
        run.update(loss, rows.reshape(-1), distance=distance, moves=moves, relation=relation)
    run.finish(run.averaged().save_pretrained)


if __name__ == "__main__":
    main()
