# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Labels faces with how near they are to the centre of their person, as one or several FR models see it.

    accelerate launch training/label_centres.py --train_parquet runs/labels/data/*.parquet \\
        --fr_model default fr_model/ --output_dir runs/centres

A second pass over the rows that training/label_quality.py writes, or over any faces with people. The rows come out as
they are, with one column more, `quality_centre`: the cosine similarity of the face to the mean of the unit embeddings
of its person's clean faces, without the face itself and, for a degraded copy, without its original (see
`diffiqa_hf.training.recipes.centre_labels`); the mean over the FR models. It is NaN where no other face is left, where
the row has no person, and where the image can't be read.

Copies are told by the column `degraded`: a row that is not degraded is followed by those that are copies of it.
Without the column no row is a copy.

The embeddings are made first, and kept as `fr_embeddings/NAME-HASH.npy`, a row for each row of the dataset (NaN where
the image can't be read); train_diffiqa_r.py takes them for `--validation_embeddings`. Then the rows are written in
shards of `--shard_size`: `datasets.load_dataset("parquet", data_files="runs/centres/data/*.parquet")`, with a
`manifest.json` as that of label_quality.py.

Any number of processes on any number of machines that see the same `--output_dir` share both without talking to each
other: process p of P takes shards p, p + P, ..., and then what the others have left. A run that was killed goes on by
the same command, with as many processes as there are then, and loses one shard for each process at most.
"""

import argparse
import hashlib
import json
import logging
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, Value
from tqdm.auto import tqdm

from diffiqa_hf import FaceImageError, FaceImageProcessor, fold
from diffiqa_hf.conversion.networks import load_fr_model
from diffiqa_hf.file_utils import name_file
from diffiqa_hf.fingerprints import recorded_fingerprint
from diffiqa_hf.hub import check_hub_arguments, push_when_asked
from diffiqa_hf.labelling.labeller import find_sources
from diffiqa_hf.labelling.shards import (
    LabelFolder,
    Share,
    add_shard_arguments,
    broken_rows_file,
    check_shard_arguments,
    find_share,
    log_share,
    open_faces,
    read_rows,
)
from diffiqa_hf.models import FacePreTrainedModel
from diffiqa_hf.scoring.image_columns import DEGRADED_COLUMN, as_image
from diffiqa_hf.training.data import source_of
from diffiqa_hf.training.held_out import find_people
from diffiqa_hf.training.recipes.labels import centre_labels
from diffiqa_hf.training.run import add_skip_argument, add_source_arguments, full_disk_in_one_line, save_array


logger = logging.getLogger(__name__)

CENTRE_COLUMN = "quality_centre"
METHOD = "centre_labels"  # as the manifest and the card call it


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = add_source_arguments(parser)
    add_skip_argument(data, "such a row stays, and has no label")
    data.add_argument("--identity_column", default="identity", help="column of the people (default: identity)")
    model = parser.add_argument_group("FR models")
    model.add_argument(
        "--fr_model",
        nargs="+",
        default=["default"],
        help="folder, Hub id or published file of each FR model, or dlib (default: the small one of the package)",
    )
    model.add_argument("--batch_size", type=int, default=64, help="faces at a time (default: %(default)s)")
    add_shard_arguments(parser)
    args = parser.parse_args(argv)
    try:
        source_of(args)
    except ValueError as error:
        parser.error(str(error))
    check_shard_arguments(parser, args)
    if args.batch_size < 1:
        parser.error("--batch_size is a positive number")
    return args


# -- embeddings -------------------------------------------------------------------------------------------------------


def load_models(sources: list[str], device: torch.device, recorded: list[str]) -> dict[str, FacePreTrainedModel]:
    """The FR models by name and hash of the weights, as the names in a record have it; folded for inference."""
    hashes = [name.rpartition("-")[2] for name in recorded]
    models = {}
    for source in sources:
        model = load_fr_model(source).eval()
        name = f"{Path(source).name}-{recorded_fingerprint(SimpleNamespace(components={'fr_model': model}), hashes)}"
        if name in models:
            raise ValueError(f"--fr_model names {source} twice")
        models[name] = fold(model, winograd=device.type == "cpu").to(device)
    return models


@torch.no_grad()
def embed_rows(
    rows: Dataset, models: dict[str, FacePreTrainedModel], args: argparse.Namespace, first_row: int, bar: tqdm
) -> dict[str, np.ndarray]:
    """
    Embeddings (N, D) float32 by each of the models, NaN where an image can't be read.

    Args:
        first_row: What the first of the rows is called in an error.

    Raises:
        FloatingPointError: A model gives a face an embedding that is zero or not finite.
    """
    processor = FaceImageProcessor()
    found = {name: np.full((len(rows), m.config.embedding_size), np.nan, np.float32) for name, m in models.items()}
    for start in range(0, len(rows), args.batch_size):
        faces, read, errors = [], [], []
        images = rows[start : start + args.batch_size][args.image_column]
        for i, image in enumerate(images, start):
            try:
                faces.append(processor.extract_faces(as_image(image))[0].pixel_values)
                read.append(i)
            except FaceImageError as error:
                errors.append(f"row {first_row + i}: {error}")
        if errors:
            logger.warning(f"{len(errors)} of {len(images)} rows have no image that can be read ({errors[0]})")
        for name, model in models.items():
            if read:
                batch = torch.from_numpy(np.stack(faces)).to(next(model.parameters()).device)
                made = model(batch).embeddings.float().cpu().numpy()
                norms = np.linalg.norm(made, axis=1)
                if not (np.isfinite(norms) & (norms > 0)).all():
                    wrong = first_row + read[np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))[0]]
                    raise FloatingPointError(f"the embedding of row {wrong} by {name} is zero or not finite")
                found[name][read] = made
            bar.update(len(images))
    return found


def embed_dataset(
    dataset: Dataset, models: dict[str, FacePreTrainedModel], share: Share, args: argparse.Namespace
) -> dict[str, np.ndarray]:
    """
    The embeddings (N, D) by each of the models, on disk. They are made shard by shard where they are not there yet:
    those of this process, and then what others have left.
    """
    folder, size = Path(args.output_dir) / "fr_embeddings", args.shard_size
    wholes = {name: folder / f"{name}.npy" for name in models}
    faces, starts = dataset.select_columns([args.image_column]), range(0, len(dataset), size)

    def part(name: str, start: int) -> Path:
        return folder / f"{name}-rows-{start:09d}.npy"

    def is_made(name: str, start: int) -> bool:
        # In this order: another process may put the parts together now, and deletes them afterwards.
        return part(name, start).exists() or wholes[name].exists()

    rows_left = sum(
        min(size, len(faces) - start)
        for start in starts[share.process :: share.num_processes]
        for name in models
        if not is_made(name, start)
    )
    bar = tqdm(
        total=rows_left, unit="face", position=share.local_process, desc=f"embeddings {share.process}", smoothing=0.05
    )
    with bar:
        for number in share.order(len(starts)):
            start = starts[number]
            todo = {name: model for name, model in models.items() if not is_made(name, start)}
            if not todo:
                continue
            rows = faces.select(range(start, min(start + size, len(faces))))
            bar.total += 0 if share.has(number) else len(todo) * len(rows)
            for name, made in embed_rows(rows, todo, args, start, bar).items():
                save_array(part(name, start), made)
    for name, whole in wholes.items():
        parts = [part(name, start) for start in starts]
        if not whole.exists():
            try:
                save_once(whole, np.concatenate([np.load(path) for path in parts]))
            except FileNotFoundError:
                if not whole.exists():  # another process has put them together
                    raise
        for path in parts:
            path.unlink(missing_ok=True)
    return {name: np.load(whole, mmap_mode="r") for name, whole in wholes.items()}


def save_once(path: Path, array: np.ndarray) -> None:
    """As `save_array`, unless the file is there: other processes may have mapped that one into their memory."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        save_array(temporary, array)
        name_file(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


# -- the labels -------------------------------------------------------------------------------------------------------


def write_shard(rows: Dataset, labels: np.ndarray, number: int, folder: LabelFolder, args: argparse.Namespace) -> None:
    """Writes the rows of one shard with their labels (N,)."""
    table, features = read_rows(rows, args.image_column)
    features[CENTRE_COLUMN] = Value("float32")
    # NaN stays NaN, and does not become null.
    table = table.append_column(CENTRE_COLUMN, pa.array(labels.astype(np.float32), from_pandas=False))
    folder.write(number, table, features, int(np.isnan(labels).sum()))


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    remedy = "the files that are there are whole; make room, and start the same command again"
    with full_disk_in_one_line(args.output_dir, remedy):
        label(args)


def label(args: argparse.Namespace) -> None:
    check_hub_arguments(args)
    share = find_share(args)
    log_share(share)
    dataset, files = open_faces(
        source_of(args),
        args.split,
        args.image_column,
        needed=[args.identity_column],
        added=[CENTRE_COLUMN],
        broken_rows=broken_rows_file(args),
    )
    names = find_people(dataset, args.identity_column)
    has_person = np.array([name is not None for name in names])
    people = np.array([name or "" for name in names])
    degraded = np.zeros(len(dataset), bool)
    if DEGRADED_COLUMN in dataset.column_names:
        degraded = np.array(dataset[DEGRADED_COLUMN][:], dtype=bool)
    sources = find_sources(degraded, people)

    recorded = LabelFolder.settings_there(args.output_dir).get("fr_models", [])
    models = load_models(args.fr_model, torch.device(share.device), recorded)
    settings = {name: getattr(args, name) for name in ("image_column", "identity_column", "shard_size", "split")}
    digest = hashlib.sha256(json.dumps([names, degraded.tolist()], default=str).encode()).hexdigest()[:16]
    settings |= {"method": METHOD, "fr_models": list(models), "dataset": files, "people": digest}
    if args.skip_broken_rows:
        settings["skip_broken_rows"] = True
    source = args.dataset_name or args.train_data_dir or args.train_parquet
    folder = LabelFolder(args.output_dir, args.split, settings, fr_model=args.fr_model, source=source)

    embeddings = embed_dataset(dataset, models, share, args)
    labels = np.zeros(len(dataset))
    for made in embeddings.values():
        usable = np.flatnonzero(has_person & np.isfinite(made[:, 0]))
        of_model = np.full(len(dataset), np.nan)
        if len(usable):
            part = made if len(usable) == len(made) else made[usable]
            of_model[usable] = centre_labels(part, people[usable], sources[usable], ~degraded[usable])
        labels += of_model / len(embeddings)
    labelled = np.isfinite(labels)
    if not labelled.any():
        raise ValueError("no row has a clean face of its person beside it: there is nobody with two of them")
    logger.info(
        f"{labelled.sum()} of {len(labels)} rows have a label ({(labelled & degraded).sum()} of them degraded), from "
        f"{labels[labelled].min():.3f} to {labels[labelled].max():.3f}, mean {labels[labelled].mean():.3f}; no other "
        f"clean face of their person, no person or no image have {(~labelled).sum()}"
    )
    shards = [range(n, min(n + args.shard_size, len(dataset))) for n in range(0, len(dataset), args.shard_size)]
    with tqdm(total=len(dataset), unit="row", position=share.local_process, desc=f"shards {share.process}") as bar:
        for number in share.order(len(shards)):
            rows = shards[number]
            if folder.read(number, len(rows)) is None:
                write_shard(dataset.select(rows), labels[rows.start : rows.stop], number, folder, args)
            bar.update(len(rows))
    if folder.finish([len(rows) for rows in shards], share):
        push_when_asked(args, args.output_dir)


if __name__ == "__main__":
    main()
