# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Trains a network of one of the other face quality methods, by the recipe of its paper, on faces of people.

    accelerate launch training/train_quality.py --recipe cr-fiqa --train_parquet faces.parquet \
        --model_config iresnet50.json --holdout_modulo 10 --output_dir runs/cr-fiqa

- `sdd-fiqa`: smooth L1 to labels: the Wasserstein distances between a face's similarities to its own person and to
  others (24 pairs, 12 rounds), by --fr_model.
- `pcnet`: (cos - min(q1, q2))^2 over the mated pairs of a batch, with the similarity that --fr_model gives them.
- `lightqnet`: the cross-entropy of min(q1, q2) and whether a mated pair matches, of the network and of a branch on
  --fr_model, which the network is distilled from.
- `pfe`: the mutual likelihood of mated pairs; an uncertainty module on --fr_model, which stays as it is.
- `magface`, `cr-fiqa`: an FR network with the loss that makes its norm, or a head on it, the quality.
- `vit-fiqa`: the same for a vision transformer with a token that the quality is read from.
- `faceqnet`: mean squared error to the similarity, by --fr_model, to a reference face of the person.
- `faceqgen`: a generator that restores the reference face of the person, against a discriminator.

A recipe sets the options below as its authors have them (the text of --recipe says where from), and options that are
given beside it still count. What a paper leaves open is an option that says so.

With `--holdout_modulo` the pAUC at a discard fraction of 0.3 on the comparisons of the people left out is measured
while it runs, by --fr_model, with its bootstrap interval and its floor. A run that was stopped goes on with
`--resume_from_checkpoint latest`. It ends with a folder `model` that `load_method(RECIPE, weights=...)` and
AutoModelForFaceQuality load (MagFace's is an FR model, which AutoModel loads), with the calibration of its scores on
the people left out: percentiles, and the FNMR to expect where there are enough pairs.
"""

import argparse
import json
import logging
import math
from pathlib import Path

import numpy as np
import torch
from diffusers.training_utils import EMAModel
from torch import nn
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoModel

from diffiqa_hf import AutoModelForFaceQuality, SDDFIQAConfig, SDDFIQAForFaceQuality
from diffiqa_hf.conversion.dialects.faceqnet import load_faceqnet
from diffiqa_hf.conversion.networks import load_fr_model, load_quality_model
from diffiqa_hf.hub import add_hub_arguments, check_hub_arguments, push_when_asked, record_training, training_facts
from diffiqa_hf.methods import get_card, load_method
from diffiqa_hf.models import FacePreTrainedModel, IResNetModel
from diffiqa_hf.models.pfe import PFEForFaceQuality
from diffiqa_hf.scoring.embeddings import read_embeddings
from diffiqa_hf.training.batches import PeopleKeys, ShuffledKeys, training_batches
from diffiqa_hf.training.checkpoints import TrainingState, find_checkpoint, go_on_from, save_checkpoint, trained_copy
from diffiqa_hf.training.data import ROW, faces_digest, training_faces
from diffiqa_hf.training.held_out import people_of, split_people
from diffiqa_hf.training.recipes.faces import Faces, embed, load_supervision
from diffiqa_hf.training.recipes.networks import PAIR_RECIPES, RECIPES
from diffiqa_hf.training.recipes.validation import Validation
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

# LightQNet's paper; PCNet by rate, steps and batch of what LightQNet's authors compare with.
_LIGHTQNET = {"optimizer": "sgd", "learning_rate": 0.01, "weight_decay": 1e-5, "lr_milestones": [0.5, 0.75]}
DEFAULTS = {
    # Tencent/TFace, quality/train_config.py
    "sdd-fiqa": {
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "weight_decay": 5e-4,
        "lr_milestones": [0.25, 0.5],
        "train_batch_size": 5000,
        "num_train_epochs": 20.0,
    },
    "pcnet": {**_LIGHTQNET, "train_batch_size": 100, "faces_per_person": 2, "max_train_steps": 12_000},
    "lightqnet": {**_LIGHTQNET, "train_batch_size": 128, "faces_per_person": 16, "max_train_steps": 64_000},
    # seasonSH/Probabilistic-Face-Embeddings, config/sphere64_msarcface.py. Their loss is twice the paper's, which is
    # ours, so that the same steps take twice their learning rate (1e-3) and half their weight decay (5e-4).
    "pfe": {
        "optimizer": "sgd",
        "learning_rate": 2e-3,
        "weight_decay": 2.5e-4,
        "lr_milestones": [2 / 3],
        "train_batch_size": 256,
        "faces_per_person": 4,
        "max_train_steps": 12_000,
    },
    # IrvingMeng/MagFace, run/run.sh
    "magface": {
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "weight_decay": 5e-4,
        "lr_milestones": [0.4, 0.72, 0.88],
        "train_batch_size": 512,
        "num_train_epochs": 25.0,
    },
    # fdbtrs/CR-FIQA, config.py, for MS1MV2
    "cr-fiqa": {
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "weight_decay": 5e-4,
        "lr_milestones": [7 / 18, 13 / 18],
        "train_batch_size": 512,
        "num_train_epochs": 18.0,
    },
    # atzoriandrea/ViT-FIQA-..., configs/ms1mv2_vit_s_qs.py
    "vit-fiqa": {
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "weight_decay": 0.05,
        "train_batch_size": 256,
        "num_train_epochs": 20.0,
    },
    # Not at hand.
    "faceqnet": {"optimizer": "adam", "learning_rate": 1e-4, "train_batch_size": 64, "num_train_epochs": 20.0},
    # pix2pix
    "faceqgen": {"optimizer": "adam", "learning_rate": 2e-4, "train_batch_size": 16, "num_train_epochs": 20.0},
}
# What a new network is, where --model_config does not say it; pfe is a module on the FR model.
MODEL_TYPES = {
    "sdd-fiqa": "sdd_fiqa",
    "pcnet": "pcnet",
    "lightqnet": "lightqnet",
    "magface": "iresnet",
    "cr-fiqa": "iresnet",
    "vit-fiqa": "face_vit",
    "faceqnet": "faceqnet",
    "faceqgen": "faceqgen",
}
# What of its configuration is not the default: the authors' ViT-S.
SETTINGS = {
    "vit-fiqa": {
        "patch_size": 9,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "intermediate_size": 2048,
        "quality_token": True,
        "mask_ratio": 0.1,
        "drop_path_rate": 0.1,
    }
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--recipe",
        choices=tuple(DEFAULTS),
        required=True,
        help="sets the options as the authors have them: sdd-fiqa, pfe, magface, cr-fiqa and vit-fiqa by the "
        "configuration in their repositories, lightqnet by its paper, pcnet by rate, steps and batch of the "
        "configuration that LightQNet's authors compare with, which trains a MobileNetV3-Small with a teacher (its "
        "own paper was not at hand), faceqnet and faceqgen by choices of this script (nor were theirs)",
    )
    add_data_arguments(parser)
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model_config",
        help='JSON file of the configuration of a new network, for magface and cr-fiqa with its "model_type": '
        '"iresnet" (taken where none is given) or "mobilefacenet". Default: the published network',
    )
    model.add_argument(
        "--model_name_or_path",
        help="folder or Hub id of a network to train on: of the method, or for magface, cr-fiqa and sdd-fiqa an FR "
        "model (for sdd-fiqa an IResNet, whose blocks it takes, as its authors do); for faceqnet also a Keras file, "
        "its own or keras-vggface's rcmalli_vggface_tf_notop_resnet50.h5, which gets a new head",
    )
    model.add_argument(
        "--fr_model",
        default="default",
        help="folder, Hub id or published file of the FR model, or dlib, that labels, pairs and the validation are "
        "made with, and that pfe is a module on (default: the small one of the package)",
    )
    model.add_argument(
        "--freeze_backbone",
        action="store_true",
        help="faceqnet: train the dense layers alone. With --model_name_or_path of a trained trunk",
    )
    recipe = parser.add_argument_group("recipe")
    recipe.add_argument("--num_pairs", type=int, default=24, help="sdd-fiqa: pairs of each kind (default: 24)")
    recipe.add_argument("--num_rounds", type=int, default=12, help="sdd-fiqa: draws of the pairs (default: 12)")
    recipe.add_argument(
        "--fr_embeddings",
        help="sdd-fiqa, faceqnet, faceqgen, pcnet: .npy file (N, D) of embeddings, a row for each row of the dataset; "
        "without it --fr_model makes them first (for pcnet in each step, of the mirrored face where it is mirrored)",
    )
    recipe.add_argument(
        "--faces_per_person",
        type=int,
        help="pcnet, lightqnet, pfe: at most so many faces of a person in a batch; the loss is the mean over all "
        "pairs, of which n of them make n (n - 1) / 2 (default: 2, 16, 4)",
    )
    recipe.add_argument("--idq_scale", type=float, default=16.0, help="lightqnet: s of the soft labels (default: 16)")
    recipe.add_argument("--idq_margin", type=float, default=0.4, help="lightqnet: m of the labels (default: 0.4)")
    recipe.add_argument(
        "--idq_hard", action="store_true", help="lightqnet: hard labels, as in the configuration of its authors' code"
    )
    recipe.add_argument(
        "--distillation_weight",
        type=float,
        default=10.0,
        help="lightqnet: lambda; 0 trains without the branch (default: 10, the paper's; 20 in its authors' code)",
    )
    recipe.add_argument(
        "--branch_width",
        type=int,
        default=256,
        help="lightqnet: of the branch, which the paper leaves open (256, of the authors' code)",
    )
    recipe.add_argument(
        "--loss_arguments",
        type=json.loads,
        default={},
        help="magface, cr-fiqa, vit-fiqa: JSON of what is not to be as in the paper: '{\"l_a\": 5}' (see "
        "diffiqa_hf.losses)",
    )
    recipe.add_argument(
        "--reference_column",
        help="faceqnet, faceqgen: column that is true for the faces that may be the reference of their person (in "
        "FaceQnet's paper the one that complies best with ICAO's rules, by a framework that is not public, in "
        "FaceQgen's a frontal one of high quality). Default: all; of several, the one nearest their mean embedding",
    )
    recipe.add_argument(
        "--pixel_weight",
        type=float,
        default=100.0,
        help="faceqgen: of the mean absolute difference to the reference (default: 100, pix2pix's)",
    )
    recipe.add_argument(
        "--adversarial_weight",
        type=float,
        default=1.0,
        help="faceqgen: of the generator's adversarial loss (default: 1, pix2pix's)",
    )
    augmentation = parser.add_argument_group("augmentation")
    augmentation.add_argument(
        "--flip_probability", type=float, default=0.5, help="of a face to be mirrored (default: %(default)s)"
    )
    augmentation.add_argument(
        "--degraded_copies",
        type=int,
        default=0,
        help="add so many copies of each face, degraded as for DifFIQA itself, as further faces of the person; in no "
        "paper, for data sets of good faces alone (default: %(default)s)",
    )
    train = parser.add_argument_group("training")
    train.add_argument(
        "--train_batch_size", type=positive, help="on each process (default: the recipe's, its authors' of all)"
    )
    train.add_argument("--num_train_epochs", type=float, help="default: the recipe's")
    train.add_argument("--max_train_steps", type=positive, help="instead of a number of epochs")
    train.add_argument(
        "--optimizer", choices=("sgd", "adam", "adamw"), help="sgd has momentum 0.9 (default: the recipe's)"
    )
    train.add_argument("--learning_rate", type=float, help="default: the recipe's")
    train.add_argument("--weight_decay", type=float, help="default: the recipe's, or 0")
    train.add_argument(
        "--lr_milestones",
        type=float,
        nargs="*",
        help="parts of the run after which the learning rate is divided by 10 (default: the recipe's, or none)",
    )
    train.add_argument("--warmup_steps", type=int, default=0, help="of a rising learning rate (default: %(default)s)")
    train.add_argument(
        "--max_grad_norm", type=float, default=5.0, help="clip the gradient's norm (default: %(default)s)"
    )
    train.add_argument("--ema_decay", type=float, help="keep averaged weights, with this decay (default: none)")
    train.add_argument(
        "--mixed_precision", choices=("no", "fp16", "bf16"), help="default: as accelerate is configured"
    )
    train.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: %(default)s)")
    validation = parser.add_argument_group("validation")
    validation.add_argument(
        "--validation_fmr", type=float, default=1e-3, help="FMR of the pAUC (default: %(default)s)"
    )
    validation.add_argument(
        "--validation_nonmated", type=int, default=100_000, help="non-mated pairs, drawn once (default: %(default)s)"
    )
    validation.add_argument(
        "--validation_replicates", type=int, default=1000, help="of the bootstrap over people (default: %(default)s)"
    )
    add_output_arguments(parser)
    add_hub_arguments(parser)

    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--recipe")
    defaults = dict(DEFAULTS.get(first.parse_known_args(argv)[0].recipe, {}))
    length = {name: defaults.pop(name) for name in ("max_train_steps", "num_train_epochs") if name in defaults}
    parser.set_defaults(**{"weight_decay": 0.0, "lr_milestones": [], **defaults})
    args = parser.parse_args(argv)
    if args.max_train_steps is None and args.num_train_epochs is None:
        vars(args).update(length)
    if args.model_config and args.model_name_or_path:
        parser.error("give one of --model_config and --model_name_or_path")
    if args.recipe == "pfe" and args.model_config:
        parser.error("--recipe pfe is a module on --fr_model, without a configuration of its own")
    if args.fr_embeddings and args.recipe not in ("sdd-fiqa", "faceqnet", "faceqgen", "pcnet"):
        parser.error(f"--recipe {args.recipe} makes no use of --fr_embeddings")
    if args.fr_embeddings and args.degraded_copies:
        parser.error("--fr_embeddings has no rows for --degraded_copies")
    if args.freeze_backbone and (args.recipe != "faceqnet" or not args.model_name_or_path):
        parser.error("--freeze_backbone goes with --recipe faceqnet and --model_name_or_path")
    if args.recipe in PAIR_RECIPES and not 2 <= args.faces_per_person <= args.train_batch_size:
        parser.error("--faces_per_person is 2 at least, and no more than --train_batch_size")
    return args


def make_model(args: argparse.Namespace, fr_model: FacePreTrainedModel) -> FacePreTrainedModel:
    auto = AutoModel if args.recipe == "magface" else AutoModelForFaceQuality
    card = get_card(args.recipe)
    card.load_class()  # makes the network known to the Auto classes
    if args.recipe == "pfe" and not args.model_name_or_path:
        return PFEForFaceQuality.from_fr_model(fr_model)
    if args.model_name_or_path:
        if args.recipe == "sdd-fiqa" and AutoConfig.from_pretrained(args.model_name_or_path).model_type == "iresnet":
            return from_recognition(load_fr_model(args.model_name_or_path))
        if args.recipe == "faceqnet" and Path(args.model_name_or_path).is_file():
            return load_faceqnet(args.model_name_or_path)
        name = args.model_name_or_path
        model = load_fr_model(name) if args.recipe == "magface" else load_quality_model(name, new_head=True)
    else:
        settings = json.loads(Path(args.model_config).read_text()) if args.model_config else {}
        settings = {"model_type": MODEL_TYPES[args.recipe], **SETTINGS.get(args.recipe, {}), **settings}
        model = auto.from_config(AutoConfig.for_model(**settings))
    if card.networks and type(model).__name__ not in card.networks:
        raise ValueError(f"{args.recipe} is a {' or '.join(card.networks)}, this is a {type(model).__name__}")
    return model


def from_recognition(fr_model: IResNetModel) -> SDDFIQAForFaceQuality:
    """SDD-FIQA's network with the blocks of an FR model, and a new head."""
    names = ("depths", "widths", "crop_size", "channel_order", "image_mean", "image_std", "bn_eps", "mid_norm")
    settings = {name: getattr(fr_model.config, name) for name in (*names, "shortcut")}
    model = SDDFIQAForFaceQuality(SDDFIQAConfig(**settings))
    stages = [getattr(fr_model, f"layer{i + 1}") for i in range(len(fr_model.config.depths))]
    model.blocks.load_state_dict(nn.Sequential(*(block for stage in stages for block in stage)).state_dict())
    for name in ("conv1", "bn1", "prelu"):
        getattr(model, name).load_state_dict(getattr(fr_model, name).state_dict())
    return model


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
    if args.fr_embeddings:
        read_embeddings(args.fr_embeddings, source_rows, "the dataset")
    for column in (args.identity_column, args.reference_column):
        if column is not None and column not in everyone.column_names:
            raise ValueError(f"the dataset has no column {column!r}; it has {everyone.column_names}")
    dataset, heldout, people_out = split_people(everyone, args.identity_column, args.holdout_modulo)
    fr_model = load_fr_model(args.fr_model).eval().to(accelerator.device)
    fr_model.requires_grad_(False)
    faces = Faces(dataset, args, args.degraded_copies)
    names = np.array(people_of(dataset, args.identity_column))
    people = np.unique(names, return_inverse=True)[1][faces.rows % len(dataset)]
    found = load_supervision(accelerator, args, faces, fr_model, people, resume is not None)
    labels = None
    if found:
        usable = np.isfinite(found["labels"]) if "labels" in found else found["references"] >= 0
        if "references" in found:
            faces.targets = found["references"][usable]
        else:
            labels = torch.from_numpy(found["labels"][usable].astype(np.float32))
        faces.rows, people = faces.rows[usable], people[usable]
    rows = np.array(dataset[ROW])

    torch.manual_seed(args.seed)
    model = make_model(args, fr_model).to(memory_format=torch.channels_last)
    faces.processor = load_method(args.recipe, weights=model, align=False).image_processor
    embeddings = embed(args, faces, fr_model) if args.recipe == "pcnet" and args.fr_embeddings else None
    recipe = RECIPES[args.recipe](args, model, fr_model, torch.from_numpy(people), labels, embeddings)
    ema = None
    if args.ema_decay is not None:
        ema = EMAModel(model.parameters(), decay=args.ema_decay)
        ema.to(accelerator.device)
    parameters = [parameter for parameter in recipe.parameters() if parameter.requires_grad]
    if args.optimizer == "sgd":
        optimizer = torch.optim.SGD(parameters, args.learning_rate, momentum=0.9, weight_decay=args.weight_decay)
    elif args.optimizer == "adamw":
        optimizer = torch.optim.AdamW(parameters, args.learning_rate, weight_decay=args.weight_decay)
    else:
        betas = (0.5, 0.999) if args.recipe == "faceqgen" else (0.9, 0.99)  # pix2pix's, and SDD-FIQA's
        optimizer = torch.optim.Adam(parameters, args.learning_rate, betas=betas, weight_decay=args.weight_decay)
    recipe, optimizer = accelerator.prepare(recipe, optimizer)
    by_people = args.recipe in PAIR_RECIPES
    fixed = {"seed": args.seed, "recipe": args.recipe, "optimizer": args.optimizer}
    order = faces_digest(everyone, args.image_column)
    state = TrainingState(ema, people_out, fixed, None if by_people else len(faces), order)
    accelerator.register_for_checkpointing(state)
    go_on_from(resume, accelerator, state, optimizer)
    size, place = args.train_batch_size, (accelerator.process_index, accelerator.num_processes)
    if by_people:
        start = state.place(accelerator.num_processes)
        keys = PeopleKeys(people, size, args.faces_per_person, args.seed, start, *place)
    else:
        start = state.place(size * accelerator.num_processes)
        keys = ShuffledKeys(len(faces), size, args.seed, start, *place)
    steps = args.max_train_steps
    if steps is None:
        seen = start * (size if by_people else 1)
        left = args.num_train_epochs * len(faces) - seen
        steps = state.step + max(0, math.ceil(left / (size * accelerator.num_processes)))
    batches = training_batches(faces, keys, state, args.dataloader_num_workers)
    validate = None
    if heldout is not None and args.validation_steps and accelerator.is_main_process:
        validate = Validation(heldout, fr_model, args)
    start_tracker(accelerator, args, "train_quality")
    trainable = sum(parameter.numel() for parameter in parameters)
    logger.info(
        f"{args.recipe}: {len(faces)} faces of {len(np.unique(people))} people to train on, {len(heldout or [])} held "
        f"out; {trainable:,} trainable parameters, steps {state.step} to {steps}"
    )

    logged, figures, heldout_scores = [], {}, None
    progress = tqdm(total=steps, initial=state.step, unit="step", disable=not accelerator.is_main_process)
    while state.step < steps:
        recipe.train()
        rate = min(1.0, (state.step + 1) / args.warmup_steps) if args.warmup_steps else 1.0
        rate *= 0.1 ** sum(state.step >= part * steps for part in args.lr_milestones)
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * rate
        batch, targets, index = next(batches)
        parts = recipe(batch.to(accelerator.device), targets.to(accelerator.device), index)
        loss = parts["loss"]
        check_loss(loss, state.step, rows[faces.rows[index] % len(rows)])
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(parameters, args.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        if ema is not None:
            ema.step(accelerator.unwrap_model(recipe).model.parameters())
        logged.append({name: value.detach() for name, value in parts.items()})
        state.step += 1
        progress.update()

        last = state.step == steps
        if is_due(state.step, args.logging_steps, last):
            means = {name: torch.stack([entry[name] for entry in logged]).mean() for name in logged[0]}
            means = {name: accelerator.reduce(value, "mean").item() for name, value in means.items()}
            progress.set_postfix(loss=f"{means['loss']:.4f}")
            accelerator.log({**means, "lr": optimizer.param_groups[0]["lr"]}, step=state.step)
            logged = []
        if validate is not None and is_due(state.step, args.validation_steps, last):
            trained = trained_copy(accelerator.unwrap_model(recipe).model, ema).to(accelerator.device)
            heldout_scores = validate.scores(load_method(args.recipe, weights=trained, align=False))
            figures = {"step": state.step, **validate(heldout_scores)}
            logger.info(f"held out: {figures}")
            accelerator.log({f"heldout/{name}": value for name, value in figures.items()}, step=state.step)
        if is_due(state.step, args.checkpointing_steps, last):
            save_checkpoint(accelerator, output_dir, state.step, args.checkpoints_total_limit)
    progress.close()
    if accelerator.is_main_process:
        folder = output_dir / "model"
        trained = trained_copy(accelerator.unwrap_model(recipe).model, ema).to(accelerator.device)
        method, calibration = load_method(args.recipe, weights=trained, align=False), None
        if validate is not None:
            if heldout_scores is None:  # a run that had reached its end
                heldout_scores = validate.scores(method)
                figures = {"step": state.step, **validate(heldout_scores)}
            calibration = validate.calibration(method, heldout_scores)
        save_trained(trained, figures, calibration, folder, method.image_processor)
        facts = training_facts(
            "training/train_quality.py",
            args,
            argv,
            dataset,
            accelerator,
            steps=state.step,
            results=validate.results(figures) if validate is not None else (),
        )
        record_training(folder, facts)
        logger.info(f"saved {folder}: load_method({args.recipe!r}, weights={str(folder)!r})")
        push_when_asked(args, folder)
    accelerator.end_training()


if __name__ == "__main__":
    main()
