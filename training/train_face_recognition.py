# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Trains a face recognition (FR) model: with a margin loss on people (`--loss arcface` and its kin), or by distilling a
small model from larger ones (`--loss distillation`, the default).

    accelerate launch training/train_face_recognition.py --loss adaface --train_parquet faces.parquet \\
        --model_config iresnet50.json --holdout_modulo 10 --output_dir runs/adaface

    accelerate launch training/train_face_recognition.py --train_parquet faces.parquet \\
        --teacher teacher_a/ teacher_b/ --holdout_modulo 10 --output_dir runs/fr

Either way the model sees augmented, now and then degraded faces. In distillation it learns the teachers' embedding of
the clean one. Several teachers are joined into one target: each is centred and scaled to unit length, they stand side
by side, and the principal components that fit the model's embedding are kept, so that its cosine similarity is the
mean of the teachers'.

With `--holdout_modulo` all pairs of the people left out are compared while it runs, and the FNMR of the last model is
recorded with its interval. A run that was stopped goes on with `--resume_from_checkpoint latest`. It ends with a
folder that `AutoModel` loads.
"""

import argparse
import json
import logging
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.training_utils import EMAModel
from torch import nn
from torch.utils.data import Dataset
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoModel

from diffiqa_hf import FaceImageProcessor
from diffiqa_hf.conversion.networks import load_fr_model
from diffiqa_hf.degradations import degrade_face
from diffiqa_hf.evaluation import EDCProtocol, bootstrap_pauc, compare_embeddings, error_rates
from diffiqa_hf.file_utils import replace_folder
from diffiqa_hf.hub import (
    ResultFacts,
    add_hub_arguments,
    check_hub_arguments,
    push_when_asked,
    record_training,
    training_facts,
)
from diffiqa_hf.image_processing_face import face_to_pixels, pixels_to_face
from diffiqa_hf.losses import AdaFaceLoss, ArcFaceLoss, CosFaceLoss, CurricularFaceLoss, MagFaceLoss, MarginLoss
from diffiqa_hf.models import FacePreTrainedModel, MobileFaceNetModel
from diffiqa_hf.scoring.embeddings import read_embeddings
from diffiqa_hf.training.batches import ShuffledKeys, training_batches
from diffiqa_hf.training.checkpoints import TrainingState, find_checkpoint, go_on_from, save_checkpoint, trained_copy
from diffiqa_hf.training.data import ROW, faces_digest, read_face, training_faces
from diffiqa_hf.training.held_out import people_of, predict, split_people
from diffiqa_hf.training.losses import long_embeddings
from diffiqa_hf.training.run import (
    add_data_arguments,
    add_output_arguments,
    check_loss,
    full_disk_in_one_line,
    is_due,
    make_accelerator,
    positive,
    start_tracker,
)


logger = logging.getLogger(__name__)

LOSSES = {
    "arcface": ArcFaceLoss,
    "cosface": CosFaceLoss,
    "adaface": AdaFaceLoss,
    "curricularface": CurricularFaceLoss,
    "magface": MagFaceLoss,
}

# About a tenth of the work of the paper's MobileFaceNet, most of it at low resolution: 0.7 M parameters. ReLU6 in
# place of PReLU nearly doubles the steps a second on a CPU (88 faces a second instead of 48 on one core).
SMALL = {
    "hidden_act": "relu6",
    "stem_width": 32,
    "stem_groups": 32,
    "stages": [[64, 48, 3, 2], [192, 96, 6, 2], [384, 128, 1, 2], [256, 128, 2, 1]],
    "embedding_size": 256,
}

# In distillation, what similarities are multiplied by before a softmax over thousands of faces: a face itself (1)
# outweighs all strangers (about 0) together, and other faces of the same person (about 0.6) still count.
RELATION_SCALE = 16.0
RELATION_FACES = 16_384


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_arguments(parser)
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model_config",
        "--student_config",
        help='JSON file of a configuration, with its "model_type": "iresnet" or "mobilefacenet" (taken where none is '
        "given). Default: a small MobileFaceNet",
    )
    model.add_argument(
        "--model_name_or_path",
        help="folder or Hub id of a model to train on, instead of a new one; with --model_config, a MobileFaceNet of "
        "more blocks that grows out of it",
    )
    loss = parser.add_argument_group("loss")
    loss.add_argument("--loss", choices=("distillation", *LOSSES), default="distillation", help="default: %(default)s")
    loss.add_argument(
        "--loss_arguments",
        type=json.loads,
        default={},
        help="JSON of what is not to be as in the paper: '{\"margin\": 0.4}' (see diffiqa_hf.losses)",
    )
    loss.add_argument(
        "--sample_rate",
        type=float,
        default=1.0,
        help="fraction of the people that a step compares with, for many people (partial FC; default: %(default)s)",
    )
    loss.add_argument("--teacher", nargs="*", default=[], help="folders or Hub ids of FR models to distil from; dlib")
    loss.add_argument(
        "--teacher_embeddings",
        nargs="*",
        default=[],
        help="more teachers: .npy files (N, D), a row for each row of the dataset",
    )
    loss.add_argument(
        "--distillation_weight",
        type=float,
        default=0.0,
        help="beside a margin loss: add the distillation loss times this (default: %(default)s)",
    )
    loss.add_argument(
        "--relation_weight",
        type=float,
        default=0.2,
        help="in distillation: of the term that has the model tell faces apart as the teachers do; the other is the "
        "cosine (default: %(default)s)",
    )
    train = parser.add_argument_group("training")
    train.add_argument("--train_batch_size", type=positive, default=64, help="on each process (default: %(default)s)")
    train.add_argument("--max_train_steps", type=positive, default=10_000, help="default: %(default)s")
    train.add_argument(
        "--optimizer", choices=("adamw", "sgd"), default="adamw", help="sgd has momentum 0.9 (default: %(default)s)"
    )
    train.add_argument(
        "--learning_rate",
        type=float,
        default=2e-3,
        help="cosine schedule after 100 steps of warm-up (default: %(default)s)",
    )
    train.add_argument("--weight_decay", type=float, default=0.05, help="default: %(default)s")
    train.add_argument(
        "--degrade_probability",
        type=float,
        default=0.2,
        help="of a face to be degraded as in training DifFIQA (default: %(default)s)",
    )
    train.add_argument(
        "--ema_decay", type=float, default=0.995, help="of the averaged weights, which are kept (default: %(default)s)"
    )
    train.add_argument(
        "--mixed_precision", choices=("no", "fp16", "bf16"), help="default: as accelerate is configured"
    )
    train.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: %(default)s)")
    add_output_arguments(parser)
    add_hub_arguments(parser)
    args = parser.parse_args(argv)
    distils = args.loss == "distillation" or args.distillation_weight
    if distils and not args.teacher and not args.teacher_embeddings:
        parser.error("a teacher is needed: --teacher or --teacher_embeddings")
    if not distils and (args.teacher or args.teacher_embeddings):
        parser.error(f"--loss {args.loss} makes no use of a teacher without --distillation_weight")
    return args


class Faces(Dataset):
    """Faces (3, H, W) in [-1, 1], mirrored and degraded by chance: by the seed, the epoch and the index alone."""

    def __init__(self, dataset, image_column: str, seed: int, degrade_probability: float):
        self.dataset, self.image_column, self.seed = dataset, image_column, seed
        self.degrade_probability = degrade_probability
        self.processor = FaceImageProcessor()

    def __len__(self) -> int:
        return len(self.dataset)

    def clean(self, index: int) -> np.ndarray:
        return read_face(self.dataset, index, self.image_column, self.processor)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, int]:
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        face = self.clean(index)
        if rng.random() < 0.5:
            face = np.ascontiguousarray(face[:, :, ::-1])
        if rng.random() < self.degrade_probability:
            face = pixels_to_face(degrade_face(face_to_pixels(face), rng))
        return torch.from_numpy(face), index


def seeded(*key: int) -> torch.Generator:
    """A generator for one step: a resumed run needs no state of it."""
    return torch.Generator().manual_seed(int(np.random.default_rng(key).integers(2**62)))


def augment(faces: torch.Tensor, generator: torch.Generator, process: int = 0, processes: int = 1) -> torch.Tensor:
    """
    Small rotations, shifts and scales, loss of resolution, contrast, colour, brightness, and now and then grey.

    The draws are those for the batches of all processes, one after the other: faces (B, 3, H, W) come out as they
    would from one process with a batch of `processes * B`.
    """
    n = len(faces)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand((processes * n, *shape), generator=generator)[process * n : (process + 1) * n]

    def uniform(*shape: int, width: float) -> torch.Tensor:
        return (rand(*shape) - 0.5) * width

    angle, scale, shift = uniform(width=0.2), 1 + uniform(width=0.16), uniform(2, width=0.12)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    matrix = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    grid = F.affine_grid(matrix, faces.shape, align_corners=False)
    faces = F.grid_sample(faces, grid, padding_mode="border", align_corners=False)
    if torch.rand((), generator=generator) < 0.25:
        size = int(torch.randint(20, 80, (), generator=generator))
        # The first half of all.
        if blurred := min(max(processes * n // 2 - process * n, 0), n):
            small = F.interpolate(faces[:blurred], (size, size), mode="area")
            faces = torch.cat([F.interpolate(small, faces.shape[2:], mode="bilinear"), faces[blurred:]])
    contrast, colour, light = uniform(1, 1, 1, width=0.5), uniform(3, 1, 1, width=0.15), uniform(1, 1, 1, width=0.3)
    faces = (faces * (1 + contrast) + colour + light).clamp(-1, 1)
    grey = rand(1, 1, 1) < 0.1
    return torch.where(grey, faces.mean(1, keepdim=True), faces)


def join_teachers(teachers: list[np.ndarray], size: int) -> torch.Tensor:
    """Targets (N, size) of the student; see the head of this file."""
    parts = []
    for embeddings in teachers:
        unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        centred = unit - unit.mean(0)
        parts.append(centred / np.linalg.norm(centred, axis=1, keepdims=True))
    joined = np.concatenate(parts, 1)
    if joined.shape[1] > size:
        _, vectors = np.linalg.eigh(joined.T.astype(np.float64) @ joined)
        vectors = vectors[:, ::-1][:, :size]
        # The sign of an eigenvector is free: without a rule, a resumed run could have other targets.
        joined = joined @ (vectors * np.sign(vectors[abs(vectors).argmax(0), np.arange(size)]))
    return torch.from_numpy(np.ascontiguousarray(joined, dtype=np.float32))


def verification(embeddings: np.ndarray, identities: list) -> dict[str, float]:
    """
    Over all pairs of faces, N (N - 1) / 2 of them: the best balanced accuracy, and the true accept rate TAR (1 - FNMR)
    at the least threshold that is above all but a fraction FMR of the non-mated similarities.
    """
    pairs = compare_embeddings(embeddings, np.array(identities, dtype=str))
    mated, nonmated = pairs.similarities[pairs.mated], np.sort(pairs.similarities[~pairs.mated])
    if not len(mated) or not len(nonmated):
        raise ValueError("the held-out people make no mated or no non-mated pair; hold out more of them")
    fnmr, fmr = error_rates(pairs.similarities, pairs.mated, mated)
    figures = {"balanced_accuracy": float((1 - (fnmr + fmr) / 2).max()), "mated_pairs": len(mated)}
    for target in ("1e-2", "1e-3", "1e-4"):
        accepted = math.floor(float(target) * len(nonmated) + 1e-9)
        figures[f"tar_at_fmr_{target}"] = float((mated > nonmated[-1 - accepted]).mean())
    return figures


def heldout_results(embeddings: np.ndarray, identities: list) -> list[ResultFacts]:
    """
    For the model card: the FNMR at an FMR of 1e-3 over all pairs, with its 95 % interval over people. Nothing where
    the non-mated pairs are too few for that FMR.
    """
    people = np.array(identities, dtype=str)
    pairs = compare_embeddings(embeddings, people)
    mated = int(pairs.mated.sum())
    nonmated = len(pairs.mated) - mated
    if not mated or nonmated < 1000:
        logger.warning(f"no FNMR for the card: {mated:,} mated and {nonmated:,} non-mated pairs are too few")
        return []
    # Faces of equal quality stay together, so the curve is as high as it starts, and the mean under it is the FNMR.
    protocol = EDCProtocol(fmr=1e-3, limits=(0.3,), divide_by_start=False, divide_by_limit=True)
    replicates = 1000 if len(pairs.mated) < 2_000_000 else 200  # of 32 million pairs one takes seconds
    drawn = bootstrap_pauc(
        pairs.similarities,
        pairs.mated,
        {"model": np.ones(len(people))},
        people,
        protocol,
        pairs=pairs.pairs,
        replicates=replicates,
    )
    fnmr = drawn.interval("model", 0.3)
    basis = (
        f"{mated:,} mated and all {nonmated:,} non-mated pairs of {drawn.identities:,} people, bootstrap of "
        f"{replicates} over people"
    )
    bounds = (fnmr.low, fnmr.high, fnmr.confidence)
    return [ResultFacts("fnmr", "FNMR at FMR 1e-3", fnmr.estimate, "people held out", *bounds, basis)]


def relation_loss(embeddings: torch.Tensor, wanted: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """
    KL divergence between the softmax over training faces of their similarity to the teachers' embedding of a face and
    that of their similarity to the model's, the faces being as the teachers see them.

    The cosine alone weighs directions by their variance, so what tells two alike people apart is learnt last.

    Args:
        embeddings, wanted, others: Of the model (N, D), of the teachers for the same faces (N, D), and of the teachers
            for other faces (M, D), among which those of the same people may be.
    """
    faces = F.normalize(torch.cat([wanted, others]))
    teachers = (RELATION_SCALE * faces[: len(wanted)] @ faces.T).softmax(1)
    student = (RELATION_SCALE * F.normalize(embeddings) @ faces.T).log_softmax(1)
    return F.kl_div(student, teachers, reduction="batchmean")


def grow(small: MobileFaceNetModel, large: MobileFaceNetModel) -> MobileFaceNetModel:
    """
    Gives `large` what `small` computes: its weights, and the identity in the blocks that it has beyond them at the end
    of each stage (Net2Net, Chen et al., ICLR 2016).
    """
    stages = list(zip(small.config.stages, large.config.stages, strict=True))
    if any(old[2] > new[2] for old, new in stages):
        raise ValueError(f"{large.config.stages} has fewer blocks in a stage than {small.config.stages}")
    weights, first_old, first_new = small.state_dict(), 0, 0
    grown = {name: value for name, value in weights.items() if not name.startswith("blocks.")}
    for (*_, old, _), (*_, new, _) in stages:
        for i in range(new):
            source = small.blocks[first_old + i] if i < old else large.blocks[first_new + i]
            if i >= old:
                nn.init.zeros_(source.project.norm.weight)
            grown |= {f"blocks.{first_new + i}.{name}": value for name, value in source.state_dict().items()}
        first_old, first_new = first_old + old, first_new + new
    large.load_state_dict(grown)
    return large


def make_model(args: argparse.Namespace) -> FacePreTrainedModel:
    start = load_fr_model(args.model_name_or_path) if args.model_name_or_path else None
    if start is not None and not args.model_config:
        return start
    settings = json.loads(Path(args.model_config).read_text()) if args.model_config else dict(SMALL)
    model = AutoModel.from_config(AutoConfig.for_model(settings.pop("model_type", "mobilefacenet"), **settings))
    return model if start is None else grow(start, model)


def make_margin_loss(args: argparse.Namespace, identities: list, size: int) -> tuple[MarginLoss, torch.Tensor]:
    """The loss on embeddings of dimension `size`, and the class (N,) of each face of the dataset."""
    people, classes = np.unique(np.array(identities), return_inverse=True)
    logger.info(f"{len(classes)} faces of {len(people)} people")
    loss = LOSSES[args.loss](len(people), size, sample_rate=args.sample_rate, **args.loss_arguments)
    return loss, torch.from_numpy(classes)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with full_disk_in_one_line(args.output_dir):
        train(args, argv)


def train(args: argparse.Namespace, argv: list[str] | None) -> None:
    output_dir = Path(args.output_dir)
    check_hub_arguments(args)
    accelerator = make_accelerator(args)
    resume = find_checkpoint(output_dir, args.resume_from_checkpoint)
    everyone, source_rows = training_faces(accelerator, args)
    dataset, heldout, people_out = split_people(everyone, args.identity_column, args.holdout_modulo)
    faces = Faces(dataset, args.image_column, args.seed, args.degrade_probability)
    rows = np.array(dataset[ROW])
    teachers = [read_embeddings(path, source_rows, "the dataset")[rows] for path in args.teacher_embeddings]
    for name in args.teacher:
        teacher = load_fr_model(name).eval().to(accelerator.device)
        teachers.append(predict(teacher, faces, range(len(faces)), name)["embeddings"].numpy())

    torch.manual_seed(args.seed)
    model = make_model(args).to(memory_format=torch.channels_last)
    size = model.config.embedding_size
    margin_loss = targets = None
    if teachers:
        targets = join_teachers(teachers, size).to(accelerator.device)
        if targets.shape[1] != size:
            raise SystemExit(f"the teachers give {targets.shape[1]} dimensions, the model has {size}")
    if args.loss != "distillation":
        margin_loss, classes = make_margin_loss(args, people_of(dataset, args.identity_column), size)
    ema = EMAModel(model.parameters(), decay=args.ema_decay)
    ema.to(accelerator.device)
    parameters = [*model.parameters(), *(margin_loss.parameters() if margin_loss is not None else ())]
    if args.optimizer == "adamw":
        optimizer = torch.optim.AdamW(parameters, lr=args.learning_rate, weight_decay=args.weight_decay)
    else:
        optimizer = torch.optim.SGD(parameters, args.learning_rate, momentum=0.9, weight_decay=args.weight_decay)
    model, optimizer = accelerator.prepare(model, optimizer)
    if margin_loss is not None:
        margin_loss = accelerator.prepare(margin_loss)
    fixed = {"seed": args.seed, "loss": args.loss, "optimizer": args.optimizer}
    state = TrainingState(ema, people_out, fixed, len(faces), faces_digest(everyone, args.image_column))
    accelerator.register_for_checkpointing(state)
    go_on_from(resume, accelerator, state, optimizer)
    place = (accelerator.process_index, accelerator.num_processes)
    start = state.place(args.train_batch_size * accelerator.num_processes)
    keys = ShuffledKeys(len(faces), args.train_batch_size, args.seed, start, *place)
    batches = training_batches(faces, keys, state, args.dataloader_num_workers)
    start_tracker(accelerator, args, "train_face_recognition")

    heldout_faces = heldout_embeddings = heldout_people = None
    if heldout is not None and args.validation_steps and accelerator.is_main_process:
        heldout_faces = Faces(heldout, args.image_column, 0, 0.0)
        heldout_people = people_of(heldout, args.identity_column)

    def embed_heldout(trained: FacePreTrainedModel) -> np.ndarray:
        return predict(trained, heldout_faces, range(len(heldout_faces)), "held out")["embeddings"].numpy()

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
        key = (args.seed, state.step, 0)  # the same on all processes
        batch = augment(batch, seeded(*key), *place).to(accelerator.device)
        embeddings = long_embeddings(model(batch.contiguous(memory_format=torch.channels_last)))
        if margin_loss is not None:
            loss = margin_loss(embeddings, classes[index].to(accelerator.device), generator=seeded(*key, 1))
        if targets is not None:
            wanted = targets[index.to(targets.device)]
            distance = (1 - F.cosine_similarity(embeddings, wanted)).mean()
            if args.relation_weight:
                chosen = torch.randperm(len(targets), generator=seeded(*key, 2))[:RELATION_FACES]
                distance = distance + args.relation_weight * relation_loss(embeddings, wanted, targets[chosen])
            loss = distance if margin_loss is None else loss + args.distillation_weight * distance
        check_loss(loss, state.step, rows[index])
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(accelerator.unwrap_model(model).parameters())
        losses.append(loss.detach())
        state.step += 1
        progress.update()

        last = state.step == args.max_train_steps
        if is_due(state.step, args.logging_steps, last):
            mean = accelerator.reduce(torch.stack(losses).mean(), "mean").item()
            progress.set_postfix(loss=f"{mean:.4f}")
            accelerator.log({"loss": mean, "lr": optimizer.param_groups[0]["lr"]}, step=state.step)
            losses = []
        if heldout_faces is not None and is_due(state.step, args.validation_steps, last):
            trained = trained_copy(accelerator.unwrap_model(model), ema).to(accelerator.device)
            heldout_embeddings = embed_heldout(trained)
            figures = verification(heldout_embeddings, heldout_people)
            logger.info(f"step {state.step}: {figures}")
            accelerator.log({f"heldout/{name}": value for name, value in figures.items()}, step=state.step)
        if is_due(state.step, args.checkpointing_steps, last):
            save_checkpoint(accelerator, output_dir, state.step, args.checkpoints_total_limit)
    progress.close()
    if accelerator.is_main_process:
        folder, script = output_dir / "model", "training/train_face_recognition.py"
        trained = trained_copy(accelerator.unwrap_model(model), ema).to(accelerator.device)
        replace_folder(folder, trained.save_pretrained)
        results = []
        if heldout_faces is not None:
            if heldout_embeddings is None:  # a run that had reached its end
                heldout_embeddings = embed_heldout(trained)
            results = heldout_results(heldout_embeddings, heldout_people)
        facts = training_facts(script, args, argv, dataset, accelerator, steps=state.step, results=results)
        record_training(folder, facts)
        logger.info(f"saved {folder}, which AutoModel loads after `import diffiqa_hf.models`")
        push_when_asked(args, folder)
    accelerator.end_training()


if __name__ == "__main__":
    main()
