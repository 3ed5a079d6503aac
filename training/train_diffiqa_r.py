# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Distils quality labels into a face recognition (FR) model with a head that gives the quality in a single pass:
DifFIQA(R), section 3.6 of the paper (Babnik et al., IJCB 2023), and eDifFIQA (Babnik et al., TBIOM 2024).

    accelerate launch training/train_diffiqa_r.py --train_parquet runs/labels/data/*.parquet \
        --model_name_or_path fr_model/ --output_dir runs/diffiqa-r

The labels are what training/label_quality.py and training/label_centres.py write, or the weighted mean of several of
their columns; rows that lack one are left out. A preset sets the options as the authors have them, and options that
are given beside it still count:

- `--preset diffiqa-r`: a linear head, L1, one epoch, every tenth face in the order of the labels held out.
- `--preset ediffiqa`: two layers; L = theta L_rc + (1 - theta) L_q (theta = 0.5), where L_rc keeps the embedding near
  that of the model it started from, and L_q is L1 to the label moved towards the similarity with the person's centre,
  clamp(q - epsilon (1 - cos(e, centre)), 0, 1) (epsilon = 0.5). A centre is the mean embedding of a person's faces
  among the best 20 % of all; people with fewer than 10 of them are left out.

Mixed precision, which the authors use as well, is left to `accelerate`.

While it runs, Spearman's rank correlation with the labels is measured on one half of the people held out, and with
`--validation_embeddings` the pAUC of their comparisons. The model with the best correlation so far, or with the lowest
pAUC (`--best_by pauc`), is kept in `best`, the last one in `model`; AutoModelForFaceQuality loads both. The figures in
their cards are those of the other half, by which nothing was chosen. Beside each lies its calibration, which says what
its scores mean among the faces held out, of both halves, that no one has degraded; with `--validation_embeddings` and
enough pairs also which FNMR to expect. A run that was stopped goes on with `--resume_from_checkpoint latest`.
"""

import argparse
import json
import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.training_utils import EMAModel
from tqdm.auto import tqdm
from transformers import AutoConfig

from diffiqa_hf import AutoModelForFaceQuality
from diffiqa_hf.conversion.networks import load_quality_model
from diffiqa_hf.hub import add_hub_arguments, check_hub_arguments, push_when_asked, record_training, training_facts
from diffiqa_hf.models import FacePreTrainedModel
from diffiqa_hf.models.loading import named_faults
from diffiqa_hf.scoring.embeddings import read_embeddings
from diffiqa_hf.scoring.image_columns import DEGRADED_COLUMN
from diffiqa_hf.training.batches import ShuffledKeys, training_batches
from diffiqa_hf.training.checkpoints import find_checkpoint, go_on_from, restore_best, save_checkpoint, trained_copy
from diffiqa_hf.training.data import ROW, faces_digest, training_faces
from diffiqa_hf.training.distillation import (
    BEST_BY,
    DistillationState,
    LabelledFaces,
    embed_dataset,
    make_centres,
    optimize_labels,
    pairwise_rank_loss,
)
from diffiqa_hf.training.held_out import people_of
from diffiqa_hf.training.label_validation import Validation, find_halves, split_dataset
from diffiqa_hf.training.labels import fit_labels, make_targets, read_labels
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
from diffiqa_hf.training.saving import save_trained


logger = logging.getLogger(__name__)
# What the authors' code has (LSIbabnikz/DifFIQA and LSIbabnikz/eDifFIQA), but for the constants of the normalisation,
# which they take from the faces held out as well.
_AUTHORS = {
    "validation_split": "label",
    "holdout_modulo": 10,
    "label_normalization": "minmax",
    "trainable_backbone_tensors": 100,
    "flip_probability": 0.0,
    "rank_loss_weight": 0.0,
    "train_batch_size": 128,
    "learning_rate": 1e-4,
    "head_learning_rate": 1e-3,
    "lr_schedule": "constant",
    "warmup_steps": 0,
    "max_grad_norm": 5.0,
    "seed": 42069,
}
PRESETS = {
    "diffiqa-r": {**_AUTHORS, "num_train_epochs": 1.0},
    "ediffiqa": {
        **_AUTHORS,
        "num_train_epochs": 3.0,
        "quality_hidden_size": 1024,
        "label_optimization": 0.5,
        "representation_weight": 0.5,
        "centre_fraction": 0.2,
        "centre_min_faces": 10,
    },
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=tuple(PRESETS), help="sets the options as the authors have them")
    add_data_arguments(parser)
    labels = parser.add_argument_group("labels")
    labels.add_argument(
        "--label_column",
        nargs="+",
        default=["quality"],
        metavar="COLUMN",
        help="column of the labels; of several, each is normalised and the label is their weighted mean (default: "
        "quality)",
    )
    labels.add_argument(
        "--label_weights",
        nargs="+",
        type=float,
        metavar="WEIGHT",
        help="of the columns, positive numbers in their order, whose sum does not matter (default: equal ones)",
    )
    labels.add_argument(
        "--label_normalization",
        choices=("minmax", "rank", "none"),
        default="minmax",
        help="to [0, 1]; the constants, those of the faces trained on, go into the model's configuration as "
        "quality_normalization (default: %(default)s)",
    )
    labels.add_argument(
        "--validation_split",
        choices=("identity", "label"),
        default="identity",
        help="what --holdout_modulo M holds out (0: nothing): people, or every M-th face in the order of the labels "
        "(of several columns in that of the weighted mean of the ranks), as the authors do (default: %(default)s)",
    )
    labels.add_argument(
        "--validation_embeddings",
        help=".npy file (N, D) of an FR model's embeddings, a row for each row of the dataset: measures the pAUC, "
        f"of the faces that are not degraded copies (column {DEGRADED_COLUMN!r})",
    )
    labels.add_argument(
        "--best_by",
        choices=tuple(BEST_BY),
        default="spearman",
        help="figure of the faces held out that `best` is chosen by: the correlation, or the pAUC at discard 0.3, "
        "which needs --validation_embeddings (default: %(default)s)",
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model_name_or_path", help="folder or Hub id of an FR model, or of a quality model, to train on"
    )
    model.add_argument(
        "--model_config",
        help='JSON file of the configuration of a new one, with its "model_type": "iresnet" or "mobilefacenet"',
    )
    model.add_argument(
        "--quality_hidden_size", type=int, help="width of the head's hidden layer (default: the model's, or none)"
    )
    model.add_argument(
        "--trainable_backbone_tensors",
        type=int,
        help="train the last N parameter tensors of the backbone alone (default: all); the statistics of all batch "
        "normalisations go on moving, as with the authors",
    )
    loss = parser.add_argument_group("loss")
    loss.add_argument(
        "--rank_loss_weight",
        type=float,
        default=0.0,
        help="adds RankNet's loss over all pairs of a batch times this (default: %(default)s)",
    )
    loss.add_argument(
        "--label_optimization",
        type=float,
        default=0.0,
        help="eDifFIQA's epsilon; needs people (default: %(default)s)",
    )
    loss.add_argument(
        "--representation_weight",
        type=float,
        default=0.0,
        help="eDifFIQA's theta, in [0, 1] (default: %(default)s)",
    )
    loss.add_argument(
        "--centre_fraction",
        type=float,
        default=0.2,
        help="best part of all faces, which the people's centres are made of (default: %(default)s)",
    )
    loss.add_argument(
        "--centre_min_faces",
        type=int,
        default=10,
        help="people with fewer such faces are not trained on (default: %(default)s)",
    )
    loss.add_argument(
        "--fr_embeddings",
        help=".npy file (N, embedding_size), a row for each row of the dataset, for the two options of eDifFIQA "
        "(default: of the model that training starts from)",
    )
    augmentation = parser.add_argument_group("augmentation")
    augmentation.add_argument(
        "--flip_probability", type=float, default=0.5, help="of a face to be mirrored (default: %(default)s)"
    )
    augmentation.add_argument(
        "--degrade_probability",
        type=float,
        default=0.0,
        help="of a face to be degraded as for DifFIQA itself; only with --label_optimization, which lowers its label. "
        "Otherwise label_quality.py --degraded_copies degrades faces, so that they have labels of their own "
        "(default: %(default)s)",
    )
    augmentation.add_argument(
        "--landmark_jitter",
        type=float,
        default=0.0,
        help="moves the five landmarks by up to so many pixels of the aligned face before it is aligned; AI-KD has 3 "
        "(default: %(default)s)",
    )
    augmentation.add_argument(
        "--landmarks_column",
        help="column of five points (5, 2) in pixels, to align the faces by (default: they are aligned)",
    )
    train = parser.add_argument_group("training")
    train.add_argument("--train_batch_size", type=positive, default=128, help="on each process (default: %(default)s)")
    train.add_argument("--num_train_epochs", type=float, default=1.0, help="default: %(default)s")
    train.add_argument("--max_train_steps", type=positive, help="instead of a number of epochs")
    train.add_argument("--learning_rate", type=float, default=1e-4, help="of the backbone (default: %(default)s)")
    train.add_argument("--head_learning_rate", type=float, default=1e-3, help="of the head (default: %(default)s)")
    train.add_argument(
        "--lr_schedule",
        choices=("constant", "cosine"),
        default="constant",
        help="cosine falls to 0 at the last step (default: %(default)s)",
    )
    train.add_argument("--warmup_steps", type=int, default=0, help="of rising learning rates (default: %(default)s)")
    train.add_argument(
        "--max_grad_norm", type=float, default=5.0, help="clip the gradient's norm (default: %(default)s)"
    )
    train.add_argument("--ema_decay", type=float, help="keep averaged weights, with this decay (default: none)")
    train.add_argument(
        "--mixed_precision", choices=("no", "fp16", "bf16"), help="default: as accelerate is configured"
    )
    train.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: %(default)s)")
    add_output_arguments(parser)
    add_hub_arguments(parser)
    parser.set_defaults(holdout_modulo=10)

    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--preset", choices=tuple(PRESETS))
    parser.set_defaults(**PRESETS.get(first.parse_known_args(argv)[0].preset, {}))
    args = parser.parse_args(argv)
    if (args.model_name_or_path is None) == (args.model_config is None):
        parser.error("give exactly one of --model_name_or_path and --model_config")
    if not 0 <= args.representation_weight <= 1:
        parser.error("--representation_weight is in [0, 1]")
    if args.degrade_probability and not args.label_optimization:
        parser.error(
            "--degrade_probability needs --label_optimization: a degraded face has not the label of the clean one"
        )
    weights = args.label_weights or [1.0] * len(args.label_column)
    if len(weights) != len(args.label_column) or not min(weights) > 0:
        parser.error("--label_weights are as many positive numbers as there are columns in --label_column")
    if len(set(args.label_column)) < len(args.label_column):
        parser.error("--label_column names a column twice")
    args.label_weights = [weight / sum(weights) for weight in weights]
    if args.best_by == "pauc" and not args.validation_embeddings:
        parser.error("--best_by pauc needs --validation_embeddings")
    if needs_embeddings(args) and args.model_config and not args.fr_embeddings:
        parser.error("a new model has no embeddings to start from: --fr_embeddings is needed")
    return args


def needs_embeddings(args: argparse.Namespace) -> bool:
    return bool(args.label_optimization or args.representation_weight)


def make_model(args: argparse.Namespace) -> FacePreTrainedModel:
    """A quality model with the head that the options ask for; the backbone's weights where there are any."""
    head = {} if args.quality_hidden_size is None else {"quality_hidden_size": args.quality_hidden_size}
    if args.model_name_or_path:
        with named_faults(args.model_name_or_path):
            config = AutoConfig.from_pretrained(args.model_name_or_path, **head)
        return load_quality_model(args.model_name_or_path, new_head=True, config=config)
    settings = json.loads(Path(args.model_config).read_text()) | head
    return AutoModelForFaceQuality.from_config(AutoConfig.for_model(settings.pop("model_type"), **settings))


def freeze_all_but_last(backbone: torch.nn.Module, tensors: int | None) -> None:
    """Freezes all but the last `tensors` parameter tensors; none becomes trainable that was not."""
    if tensors is not None:
        parameters = list(backbone.parameters())
        for parameter in parameters[: max(0, len(parameters) - tensors)]:
            parameter.requires_grad = False


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
    for path in filter(None, (args.validation_embeddings, args.fr_embeddings)):
        read_embeddings(path, source_rows, "the dataset")
    labelled = np.flatnonzero(np.isfinite(read_labels(everyone, args.label_column)).all(1))
    if not len(labelled):
        columns = " and ".join(map(repr, args.label_column))
        raise ValueError(f"none of the {len(everyone)} rows has a label in {columns}")
    dataset, heldout, left_out = split_dataset(everyone.select(labelled), args)
    labels = read_labels(dataset, args.label_column)
    constants = fit_labels(labels, args)
    targets = make_targets(labels, constants)

    torch.manual_seed(args.seed)
    model = make_model(args)
    model.config.quality_normalization = constants
    freeze_all_but_last(model.backbone, args.trainable_backbone_tensors)
    embeddings = centres = None
    if needs_embeddings(args):
        if args.fr_embeddings:
            embeddings = np.load(args.fr_embeddings, mmap_mode="r")
        else:
            part = everyone.select(labelled)
            embeddings = embed_dataset(accelerator, model, part, source_rows, args, resume is not None)
        wanted = (source_rows, model.config.embedding_size)
        if embeddings.shape != wanted:
            raise ValueError(f"the embeddings are {embeddings.shape}, {wanted} are needed")
    if args.label_optimization:
        if args.identity_column not in dataset.column_names:
            raise ValueError(f"--label_optimization needs people: there is no column {args.identity_column!r}")
        _, people = np.unique(np.array(people_of(dataset, args.identity_column)), return_inverse=True)
        rows = np.array(dataset[ROW])
        found = make_centres(embeddings, rows, people, targets, args.centre_fraction, args.centre_min_faces)
        centres, number = torch.from_numpy(found[0]).to(accelerator.device), found[1]
        has_centre = np.flatnonzero(number >= 0)
        dataset, targets, number = (
            dataset.select(has_centre),
            targets[has_centre],
            torch.from_numpy(number[has_centre]),
        )
        logger.info(f"{len(centres)} people have a centre, with {len(dataset)} of {len(people)} faces")
    rows = np.array(dataset[ROW])
    targets = torch.from_numpy(targets)

    model.to(memory_format=torch.channels_last)
    ema = None
    if args.ema_decay is not None:
        ema = EMAModel(model.parameters(), decay=args.ema_decay)
        ema.to(accelerator.device)
    rates = (args.learning_rate, args.head_learning_rate)
    groups = [
        {"params": [p for p in part.parameters() if p.requires_grad], "lr": rate}
        for part, rate in zip((model.backbone, model.head), rates, strict=True)
    ]
    optimizer = torch.optim.Adam([group for group in groups if group["params"]])
    peaks = [group["lr"] for group in optimizer.param_groups]
    model, optimizer = accelerator.prepare(model, optimizer)
    order = faces_digest(everyone, args.image_column)
    state = DistillationState(ema, left_out, args.best_by, {"seed": args.seed}, len(dataset), order)
    accelerator.register_for_checkpointing(state)
    go_on_from(resume, accelerator, state, optimizer)
    if resume is not None and state.position is not None and accelerator.is_main_process:
        restore_best(resume, output_dir)
    faces = LabelledFaces(dataset, args)
    size = args.train_batch_size
    stride = size * accelerator.num_processes
    start = state.place(stride)
    keys = ShuffledKeys(len(faces), size, args.seed, start, accelerator.process_index, accelerator.num_processes)
    steps = args.max_train_steps
    if steps is None:
        steps = state.step + max(0, math.ceil((args.num_train_epochs * len(faces) - start) / stride))
    batches = training_batches(faces, keys, state, args.dataloader_num_workers)
    validate = None
    if heldout is not None and args.validation_steps and accelerator.is_main_process:
        held_targets = make_targets(read_labels(heldout, args.label_column), constants)
        halves = find_halves(heldout, args)
        rows_of = halves["choose"]
        validate = Validation(heldout.select(rows_of), held_targets[rows_of], args)
    start_tracker(accelerator, args, "train_diffiqa_r")
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    logger.info(
        f"{len(everyone)} rows, {len(labelled)} labelled, {len(faces)} to train on, {len(heldout or [])} held out; "
        f"{trainable:,} trainable parameters, steps {state.step} to {steps}, labels {args.label_normalization}"
    )

    losses = []
    theta = args.representation_weight
    progress = tqdm(total=steps, initial=state.step, unit="step", disable=not accelerator.is_main_process)
    started = time.perf_counter()
    while state.step < steps:
        model.train()
        rate = min(1.0, (state.step + 1) / args.warmup_steps) if args.warmup_steps else 1.0
        if args.lr_schedule == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * state.step / steps))
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * rate
        batch, degraded, index = next(batches)
        output = model(batch.to(accelerator.device).contiguous(memory_format=torch.channels_last))
        scores, embedded = output.scores.float(), output.embeddings.float()
        wanted = targets[index].to(accelerator.device)
        if centres is not None:
            own = centres[number[index].to(accelerator.device)]
            wanted = optimize_labels(wanted, embedded, own, args.label_optimization)
        loss = F.l1_loss(scores, wanted)
        if args.rank_loss_weight:
            loss = loss + args.rank_loss_weight * pairwise_rank_loss(scores, wanted)
        if theta:
            original = torch.from_numpy(embeddings[rows[index.numpy()]]).float().to(accelerator.device)
            distance = 1 - F.cosine_similarity(embedded, original)
            # A degraded face has another embedding than the clean one, and should.
            clean = (~degraded).to(accelerator.device)
            distance = (distance * clean).sum() / clean.sum().clamp(min=1)
            loss = theta * distance + (1 - theta) * loss
        check_loss(loss, state.step, rows[index])
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        if ema is not None:
            ema.step(accelerator.unwrap_model(model).parameters())
        losses.append(loss.detach())
        state.step += 1
        progress.update()

        last = state.step == steps
        if is_due(state.step, args.logging_steps, last):
            mean = accelerator.reduce(torch.stack(losses).mean(), "mean").item()
            progress.set_postfix(loss=f"{mean:.4f}")
            waited = {"seconds_waited_for_data": batches.waited_since()}
            accelerator.log({"loss": mean, "lr": optimizer.param_groups[-1]["lr"]} | waited, step=state.step)
            losses = []
        if validate is not None and is_due(state.step, args.validation_steps, last):
            trained = trained_copy(accelerator.unwrap_model(model), ema).to(accelerator.device)
            heldout_scores = validate.scores(trained)
            state.figures = figures = {"step": state.step, **validate(heldout_scores)}
            logger.info(f"held out: {figures}")
            accelerator.log({f"heldout/{name}": value for name, value in figures.items()}, step=state.step)
            if state.is_best():
                save_trained(trained, figures, validate.calibration(trained, heldout_scores), output_dir / "best")
        if is_due(state.step, args.checkpointing_steps, last):
            save_checkpoint(accelerator, output_dir, state.step, args.checkpoints_total_limit)
    progress.close()
    logger.info(f"waited {batches.waited:.1f} s for data, of {time.perf_counter() - started:.1f} s")
    if accelerator.is_main_process:
        trained = trained_copy(accelerator.unwrap_model(model), ema).to(accelerator.device)
        calibration = whole = report = None
        if validate is not None:
            whole = Validation(heldout, held_targets, args)
            report = Validation(heldout.select(halves["report"]), held_targets[halves["report"]], args)
            calibration = whole.calibration(trained, whole.scores(trained))
        save_trained(trained, state.figures, calibration, output_dir / "model")
        name = BEST_BY[args.best_by][0]
        best = "" if state.best is None else f"; {output_dir / 'best'} has the best {name}, {state.best:.4f}"
        logger.info(f"saved {output_dir / 'model'}, which AutoModelForFaceQuality loads{best}")
        out = None
        if args.holdout_modulo and args.validation_split == "label":
            out = f"every face whose place in the order of the labels is divisible by {args.holdout_modulo}"
        folders = [output_dir / "model"]
        if state.best is not None and (output_dir / "best").exists():
            folders.append(output_dir / "best")
        for folder in folders:
            results = []
            if validate is not None:
                saved = load_quality_model(folder).to(accelerator.device).eval()
                scores = whole.scores(saved)
                if (calibration := whole.calibration(saved, scores)) is not None:
                    calibration.save_pretrained(folder)
                apart = len(halves["report"]) < len(heldout)
                note = " of the half that `best` was not chosen by" if apart else ""
                results = report.results(scores[halves["report"]], note)
            facts = training_facts(
                "training/train_diffiqa_r.py",
                args,
                argv,
                dataset,
                accelerator,
                steps=state.step,
                results=results,
                heldout=out,
            )
            record_training(folder, facts)
        push_when_asked(args, folders[-1])
    accelerator.end_training()


if __name__ == "__main__":
    main()
