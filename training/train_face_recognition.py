# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Distils a small face recognition (FR) model from larger ones.

The student sees augmented, often degraded faces and learns the teachers' embedding of the clean one. Several teachers
are joined into one target: each is centred and scaled to unit length, they stand side by side, and the principal
components that fit the student's embedding are kept, so that its cosine similarity is the mean of the teachers'.

    accelerate launch training/train_face_recognition.py --train_parquet faces.parquet \\
        --teacher teacher_a/ teacher_b/ --holdout_modulo 10 --output_dir runs/fr

A run that was stopped goes on with `--resume_from_checkpoint latest`. It ends with a folder that `AutoModel` loads.
"""

import argparse
import json
import logging
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from diffusers.training_utils import EMAModel
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm
from transformers import AutoModel

from diffiqa_hf import FaceImageProcessor
from diffiqa_hf.degradations import degrade_face
from diffiqa_hf.models import MobileFaceNetConfig, MobileFaceNetModel
from diffiqa_hf.training_utils import (
    ShuffledKeys,
    TrainingState,
    add_data_arguments,
    find_checkpoint,
    hold_out,
    load_face_dataset,
    save_checkpoint,
)


logger = logging.getLogger(__name__)

# About a tenth of the work of the paper's MobileFaceNet, most of it at low resolution: 0.7 M parameters. ReLU6 in place
# of PReLU nearly doubles the steps a second on a CPU (88 faces a second instead of 48 on one core).
SMALL = {
    "hidden_act": "relu6",
    "stem_width": 32,
    "stem_groups": 32,
    "stages": [[64, 48, 3, 2], [192, 96, 6, 2], [384, 128, 1, 2], [256, 128, 2, 1]],
    "embedding_size": 256,
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_arguments(parser)
    model = parser.add_argument_group("teachers and student")
    model.add_argument("--teacher", nargs="*", default=[], help="folders or Hub ids of FR models")
    model.add_argument(
        "--teacher_embeddings", nargs="*", default=[], help=".npy files (N, D), a row for each row of the dataset"
    )
    model.add_argument("--student_config", help="JSON file of a MobileFaceNetConfig (default: a small one)")
    train = parser.add_argument_group("training")
    train.add_argument("--train_batch_size", type=int, default=64, help="on each process")
    train.add_argument("--max_train_steps", type=int, default=10_000)
    train.add_argument("--learning_rate", type=float, default=2e-3, help="cosine schedule after 100 steps of warm-up")
    train.add_argument("--weight_decay", type=float, default=0.05)
    train.add_argument("--degrade_probability", type=float, default=0.2)
    train.add_argument("--ema_decay", type=float, default=0.995)
    train.add_argument("--mixed_precision", choices=("no", "fp16", "bf16"))
    train.add_argument("--seed", type=int, default=0)
    output = parser.add_argument_group("output")
    output.add_argument("--output_dir", required=True)
    output.add_argument("--checkpointing_steps", type=int, default=500)
    output.add_argument("--checkpoints_total_limit", type=int, default=2)
    output.add_argument("--resume_from_checkpoint", help='"latest", or the path of a checkpoint')
    output.add_argument("--validation_steps", type=int, default=500)
    output.add_argument("--logging_steps", type=int, default=50)
    output.add_argument("--report_to", default="tensorboard", help='a tracker of Accelerate, or "none"')
    return parser.parse_args(argv)


class Faces(Dataset):
    """Faces (3, H, W) in [-1, 1], mirrored and degraded by chance: by the seed, the epoch and the index alone."""

    def __init__(self, dataset, image_column: str, seed: int, degrade_probability: float):
        self.dataset, self.image_column, self.seed = dataset, image_column, seed
        self.degrade_probability = degrade_probability
        self.processor = FaceImageProcessor()

    def __len__(self) -> int:
        return len(self.dataset)

    def clean(self, index: int) -> np.ndarray:
        return self.processor.extract_faces(self.dataset[index][self.image_column])[0].pixel_values

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, int]:
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        face = self.clean(index)
        if rng.random() < 0.5:
            face = np.ascontiguousarray(face[:, :, ::-1])
        if rng.random() < self.degrade_probability:
            pixels = np.round((face.transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)
            face = degrade_face(pixels, rng).transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
        return torch.from_numpy(face), index


def augment(faces: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Small rotations, shifts and scales, loss of resolution, contrast, colour, brightness, and now and then grey."""
    n = len(faces)

    def uniform(*shape: int, width: float) -> torch.Tensor:
        return (torch.rand(shape, generator=generator) - 0.5) * width

    angle, scale, shift = uniform(n, width=0.2), 1 + uniform(n, width=0.16), uniform(n, 2, width=0.12)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    matrix = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    grid = F.affine_grid(matrix, faces.shape, align_corners=False)
    faces = F.grid_sample(faces, grid, padding_mode="border", align_corners=False)
    if torch.rand((), generator=generator) < 0.25:
        size = int(torch.randint(20, 80, (), generator=generator))
        small = F.interpolate(faces[: n // 2], (size, size), mode="area")
        faces = torch.cat([F.interpolate(small, faces.shape[2:], mode="bilinear"), faces[n // 2 :]])
    contrast, colour, light = (
        uniform(n, 1, 1, 1, width=0.5),
        uniform(n, 3, 1, 1, width=0.15),
        uniform(n, 1, 1, 1, width=0.3),
    )
    faces = (faces * (1 + contrast) + colour + light).clamp(-1, 1)
    grey = torch.rand((n, 1, 1, 1), generator=generator) < 0.1
    return torch.where(grey, faces.mean(1, keepdim=True), faces)


@torch.no_grad()
def embed(model: torch.nn.Module, faces: Faces, device: torch.device, what: str) -> np.ndarray:
    model.eval().to(device)
    embeddings = []
    for start in tqdm(range(0, len(faces), 64), desc=what, leave=False):
        batch = np.stack([faces.clean(i) for i in range(start, min(start + 64, len(faces)))])
        embeddings.append(model(torch.from_numpy(batch).to(device)).embeddings.float().cpu())
    return torch.cat(embeddings).numpy()


def join_teachers(teachers: list[np.ndarray], size: int) -> torch.Tensor:
    """Targets (N, size) of the student; see the head of this file."""
    parts = []
    for embeddings in teachers:
        unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        centred = unit - unit.mean(0)
        parts.append(centred / np.linalg.norm(centred, axis=1, keepdims=True))
    joined = np.concatenate(parts, 1)
    if joined.shape[1] > size:
        _, vectors = np.linalg.eigh(joined.T @ joined)
        joined = joined @ vectors[:, ::-1][:, :size]
    return torch.from_numpy(np.ascontiguousarray(joined, dtype=np.float32))


def verification(embeddings: np.ndarray, identities: list) -> dict[str, float]:
    """Over all pairs: the best balanced accuracy, and FNMR at FMR 1e-3."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    _, people = np.unique(np.array(identities, dtype=str), return_inverse=True)
    first, second = np.triu_indices(len(unit), 1)
    similarities = (unit @ unit.T)[first, second]
    same = people[first] == people[second]
    mated, nonmated = np.sort(similarities[same]), np.sort(similarities[~same])
    if not len(mated) or not len(nonmated):
        raise ValueError("the held-out people make no mated or no non-mated pair; hold out more of them")
    fnmr = np.searchsorted(mated, mated) / len(mated)
    fmr = 1 - np.searchsorted(nonmated, mated) / len(nonmated)
    threshold = nonmated[-max(1, len(nonmated) // 1000)]
    return {
        "balanced_accuracy": float((1 - (fnmr + fmr) / 2).max()),
        "fnmr_at_fmr_1e-3": float((mated < threshold).mean()),
        "mated_pairs": len(mated),
    }


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    output_dir = Path(args.output_dir)
    accelerator = Accelerator(
        mixed_precision=args.mixed_precision,
        log_with=None if args.report_to == "none" else args.report_to,
        project_config=ProjectConfiguration(project_dir=str(output_dir), logging_dir=str(output_dir / "logs")),
    )
    resume = find_checkpoint(output_dir, args.resume_from_checkpoint)
    if not args.teacher and not args.teacher_embeddings:
        raise SystemExit("a teacher is needed: --teacher or --teacher_embeddings")
    everyone = load_face_dataset(args.dataset_name, args.train_data_dir, args.train_parquet)
    everyone = everyone.add_column("row", np.arange(len(everyone)))
    dataset, heldout = everyone, None
    if args.holdout_modulo:
        dataset = hold_out(everyone, args.identity_column, args.holdout_modulo, heldout=False)
        heldout = hold_out(everyone, args.identity_column, args.holdout_modulo, heldout=True)
    faces = Faces(dataset, args.image_column, args.seed, args.degrade_probability)
    rows = np.array(dataset["row"])
    teachers = [np.load(path)[rows] for path in args.teacher_embeddings]
    for name in args.teacher:
        teachers.append(embed(AutoModel.from_pretrained(name), faces, accelerator.device, name))

    torch.manual_seed(args.seed)
    settings = json.loads(Path(args.student_config).read_text()) if args.student_config else SMALL
    model = MobileFaceNetModel(MobileFaceNetConfig(**settings)).to(memory_format=torch.channels_last)
    targets = join_teachers(teachers, model.config.embedding_size).to(accelerator.device)
    if targets.shape[1] != model.config.embedding_size:
        raise SystemExit(
            f"the teachers give {targets.shape[1]} dimensions, the student has {model.config.embedding_size}"
        )
    ema = EMAModel(model.parameters(), decay=args.ema_decay)
    ema.to(accelerator.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)
    model, optimizer = accelerator.prepare(model, optimizer)
    state = TrainingState(ema)
    accelerator.register_for_checkpointing(state)
    if resume is not None:
        accelerator.load_state(str(resume))
    keys = ShuffledKeys(
        len(faces), args.train_batch_size, args.seed, state.step, accelerator.process_index, accelerator.num_processes
    )
    batches = iter(DataLoader(faces, batch_sampler=keys, num_workers=args.dataloader_num_workers))
    if args.report_to != "none":
        config = {name: value for name, value in vars(args).items() if isinstance(value, (int, float, str))}
        accelerator.init_trackers("train_face_recognition", config=config)

    def averaged() -> MobileFaceNetModel:
        student = MobileFaceNetModel(accelerator.unwrap_model(model).config)
        student.load_state_dict(accelerator.unwrap_model(model).state_dict())
        ema.copy_to(student.parameters())
        return student.eval()

    losses = []
    progress = tqdm(
        total=args.max_train_steps, initial=state.step, unit="step", disable=not accelerator.is_main_process
    )
    while state.step < args.max_train_steps:
        model.train()
        rate = min(1, (state.step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * state.step / args.max_train_steps))
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * rate
        batch, index = next(batches)
        key = np.random.default_rng([args.seed, state.step, accelerator.process_index]).integers(2**62)
        batch = augment(batch, torch.Generator().manual_seed(int(key))).to(accelerator.device)
        embeddings = model(batch.contiguous(memory_format=torch.channels_last)).embeddings.float()
        loss = (1 - F.cosine_similarity(embeddings, targets[index.to(targets.device)])).mean()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {state.step}")
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(accelerator.unwrap_model(model).parameters())
        losses.append(loss.detach())
        state.step += 1
        progress.update()

        last = state.step == args.max_train_steps
        if state.step % args.logging_steps == 0 or last:
            mean = accelerator.reduce(torch.stack(losses).mean(), "mean").item()
            progress.set_postfix(loss=f"{mean:.4f}")
            accelerator.log({"loss": mean, "lr": optimizer.param_groups[0]["lr"]}, step=state.step)
            losses = []
        if heldout is not None and (state.step % args.validation_steps == 0 or last) and accelerator.is_main_process:
            out = embed(averaged(), Faces(heldout, args.image_column, 0, 0.0), accelerator.device, "held out")
            figures = verification(out, heldout[args.identity_column])
            logger.info(f"step {state.step}: {figures}")
            accelerator.log({f"heldout/{name}": value for name, value in figures.items()}, step=state.step)
        if state.step % args.checkpointing_steps == 0 or last:
            save_checkpoint(accelerator, output_dir, state.step, args.checkpoints_total_limit)
    progress.close()
    if accelerator.is_main_process:
        averaged().save_pretrained(output_dir / "model")
        logger.info(f"saved {output_dir / 'model'}, which AutoModel loads after `import diffiqa_hf.models`")
    accelerator.end_training()


if __name__ == "__main__":
    main()
