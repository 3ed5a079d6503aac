# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Labels faces with how near they are to the centre of their person, as one or several FR models see it.

    python training/label_centres.py --train_parquet runs/labels/data/*.parquet --fr_model default fr_model/ \\
        --output_dir runs/centres

A second pass over the rows that training/label_quality.py writes, or over any faces with people. The rows come out as
they are, with one column more, `quality_centre`: the cosine similarity of the face to the mean of the unit embeddings
of its person's clean faces, without the face itself and, for a degraded copy, without its original (see
`diffiqa_hf.quality_recipes.centre_labels`); the mean over the FR models. It is NaN where no other face is left, where
the row has no person, and where the image can't be read.

Copies are told by the column `degraded`: a row that is not degraded is followed by those that are copies of it.
Without the column no row is a copy.

The embeddings are made first, and kept as `fr_embeddings/NAME-HASH.npy`, a row for each row of the dataset (NaN where
the image can't be read); train_diffiqa_r.py takes them for `--validation_embeddings`. Then the rows are written in
shards of `--shard_size`: `datasets.load_dataset("parquet", data_files="runs/centres/data/*.parquet")`. A run that was
killed goes on by the same command, and loses one shard at most.
"""

import argparse
import hashlib
import json
import logging
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from datasets import Dataset, Features, Image, Value
from tqdm.auto import tqdm

from diffiqa_hf import FaceImageError, FaceImageProcessor, fold
from diffiqa_hf.file_utils import replace_file, write_text
from diffiqa_hf.labelling import DEGRADED_COLUMN, fingerprint
from diffiqa_hf.methods.method import load_fr_model
from diffiqa_hf.models import FacePreTrainedModel
from diffiqa_hf.quality_recipes.labels import centre_labels
from diffiqa_hf.training_utils import add_source_arguments, full_disk_in_one_line, load_face_dataset, save_array


logger = logging.getLogger(__name__)

CENTRE_COLUMN = "quality_centre"
METADATA_KEY = b"diffiqa_hf"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = add_source_arguments(parser)
    data.add_argument("--identity_column", default="identity", help="column of the people (default: identity)")
    model = parser.add_argument_group("FR models")
    model.add_argument(
        "--fr_model",
        nargs="+",
        default=["default"],
        help="folder, Hub id or published file of each FR model (default: the small one of the package)",
    )
    model.add_argument("--batch_size", type=int, default=64, help="faces at a time (default: %(default)s)")
    model.add_argument("--device", help="such as cpu, cuda, cuda:1 (default: an accelerator if there is one)")
    output = parser.add_argument_group("output")
    output.add_argument("--output_dir", required=True, help="folder of the labelled dataset")
    output.add_argument("--shard_size", type=int, default=1000, help="rows of a shard (default: %(default)s)")
    args = parser.parse_args(argv)
    if sum(source is not None for source in (args.dataset_name, args.train_data_dir, args.train_parquet)) != 1:
        parser.error("give exactly one of --dataset_name, --train_data_dir and --train_parquet")
    if args.shard_size < 1 or args.batch_size < 1:
        parser.error("--shard_size and --batch_size are positive numbers")
    return args


# -- the rows ---------------------------------------------------------------------------------------------------------


def open_dataset(args: argparse.Namespace) -> Dataset:
    """The rows with undecoded images."""
    dataset = load_face_dataset(args.dataset_name, args.train_data_dir, args.train_parquet)
    for column in (args.image_column, args.identity_column):
        if column not in dataset.column_names:
            raise ValueError(f"the dataset has no column {column!r}; it has {dataset.column_names}")
    if CENTRE_COLUMN in dataset.column_names:
        raise ValueError(f"the dataset has a column {CENTRE_COLUMN!r} already; rename it, or is it labelled?")
    if isinstance(dataset.features[args.image_column], Image):
        # Not decoded by `datasets`, to which one damaged image is the end.
        dataset = dataset.cast_column(args.image_column, Image(decode=False))
    return dataset


def find_sources(identities: np.ndarray, degraded: np.ndarray) -> np.ndarray:
    """
    The row (N,) that each row is a copy of: the last one before it that is not degraded, itself where it is not.

    Raises:
        ValueError: The first row is a copy, or a copy shows another person than that row.
    """
    if degraded[0]:
        raise ValueError(f"row 0 is degraded ({DEGRADED_COLUMN!r}), and the row that it is a copy of is not there")
    sources = np.maximum.accumulate(np.where(degraded, 0, np.arange(len(degraded))))
    wrong = np.flatnonzero(identities != identities[sources])
    if len(wrong):
        row, before = wrong[0], sources[wrong[0]]
        raise ValueError(
            f"row {row} is degraded ({DEGRADED_COLUMN!r}) and of {identities[row]}, the clean row before it, "
            f"{before}, of {identities[before]}: a row and its copies have to lie together, as label_quality.py "
            "--degraded_copies writes them"
        )
    return sources


def digest_rows(dataset: Dataset, image_column: str) -> str:
    """16 hexadecimal digits of the rows in their order, of the images but the sizes of their files."""
    digest = hashlib.sha256()
    for table in dataset.with_format("arrow").iter(1000):
        images = table[image_column]
        if pa.types.is_struct(images.type):
            images = pc.struct_field(images, "bytes")
        encoded = pa.types.is_binary(images.type) or pa.types.is_large_binary(images.type)
        sizes = pc.binary_length(images).to_pylist() if encoded else None
        digest.update(json.dumps([sizes, table.drop_columns([image_column]).to_pydict()], default=str).encode())
    return digest.hexdigest()[:16]


def with_bytes(image):
    """An item of an image column with the file itself in it, as `datasets` writes it; as it is if there is no file."""
    if isinstance(image, dict) and image.get("bytes") is None and image.get("path") and os.path.isfile(image["path"]):
        return {"bytes": Path(image["path"]).read_bytes(), "path": os.path.basename(image["path"])}
    return image


# -- embeddings -------------------------------------------------------------------------------------------------------


def load_models(sources: list[str], device: torch.device) -> dict[str, FacePreTrainedModel]:
    """The FR models by name and hash of the weights, folded for inference."""
    models = {}
    for source in sources:
        model = load_fr_model(source).eval()
        name = f"{Path(source).name}-{fingerprint(SimpleNamespace(components={'fr_model': model}))}"
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
                faces.append(processor.extract_faces(image)[0].pixel_values)
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
    dataset: Dataset, models: dict[str, FacePreTrainedModel], args: argparse.Namespace
) -> dict[str, np.ndarray]:
    """The embeddings (N, D) by each of the models, on disk; made shard by shard where they are not there yet."""
    folder = Path(args.output_dir) / "fr_embeddings"
    missing = {name: model for name, model in models.items() if not (folder / f"{name}.npy").exists()}
    faces, starts = dataset.select_columns([args.image_column]), range(0, len(dataset), args.shard_size)

    def part(name: str, start: int) -> Path:
        return folder / f"{name}-rows-{start:09d}.npy"

    with tqdm(total=len(missing) * len(dataset), unit="face", desc="embeddings", smoothing=0.05) as bar:
        for start in starts:
            rows = faces.select(range(start, min(start + args.shard_size, len(faces))))
            todo = {name: model for name, model in missing.items() if not part(name, start).exists()}
            bar.total -= (len(missing) - len(todo)) * len(rows)  # so that the time left is that of what is to be done
            for name, made in embed_rows(rows, todo, args, start, bar).items() if todo else ():
                save_array(part(name, start), made)
    for name in missing:
        parts = [part(name, start) for start in starts]
        save_array(folder / f"{name}.npy", np.concatenate([np.load(path) for path in parts]))
    for path in folder.glob("*-rows-*.npy"):
        path.unlink()
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in models}


# -- shards -----------------------------------------------------------------------------------------------------------


def is_written(path: Path, length: int, digest: str) -> bool:
    """
    Whether a shard is there and can be read.

    Raises:
        ValueError: It was made with other settings.
    """
    if not path.exists():
        return False
    try:
        metadata = pq.read_metadata(path)
        settings = json.loads(metadata.metadata[METADATA_KEY])["settings"]
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        logger.warning(f"{path} can't be read and is made again: {error}")
        return False
    if settings != digest or metadata.num_rows != length:
        raise ValueError(f"{path} was made with other settings")
    return True


def write_shard(rows: Dataset, labels: np.ndarray, path: Path, digest: str, image_column: str) -> None:
    table = rows.with_format("arrow")[:]
    index, kind = table.schema.get_field_index(image_column), table.schema.field(image_column).type
    images = [with_bytes(image) for image in table[image_column].to_pylist()]
    table = table.set_column(index, image_column, pa.array(images, kind))
    features = Features({**rows.features, CENTRE_COLUMN: Value("float32")})
    if isinstance(features[image_column], Image):
        features[image_column] = Image()
    # NaN stays NaN, and does not become null.
    table = table.append_column(CENTRE_COLUMN, pa.array(labels.astype(np.float32), from_pandas=False))
    schema = features.arrow_schema
    table = table.cast(schema).replace_schema_metadata(
        {**schema.metadata, METADATA_KEY: json.dumps({"settings": digest})}
    )
    # Small row groups, as `datasets` writes images: a row is read without the whole shard.
    replace_file(path, lambda p: pq.write_table(table, p, row_group_size=100))


def check_settings(path: Path, settings: dict) -> str:
    """
    Writes the settings of a new run, or compares them with those of one that is there; their digest.

    Raises:
        ValueError: They are others.
    """
    if path.exists():
        there = json.loads(path.read_text())
        other = [f"{k}: {there.get(k)} there, {settings.get(k)} now" for k in settings if there.get(k) != settings[k]]
        if other:
            raise ValueError(f"{path.parent} was made with other settings ({'; '.join(other)})")
    else:
        write_text(path, json.dumps(settings, indent=2) + "\n")
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    remedy = "the files that are there are whole; make room, and start the same command again"
    with full_disk_in_one_line(args.output_dir, remedy):
        label(args)


def label(args: argparse.Namespace) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    dataset = open_dataset(args)
    names = dataset[args.identity_column][:]
    has_person = np.array([name is not None for name in names])
    people = np.array([str(name) for name in names])
    degraded = np.zeros(len(dataset), bool)
    if DEGRADED_COLUMN in dataset.column_names:
        degraded = np.array(dataset[DEGRADED_COLUMN][:], dtype=bool)
    sources = find_sources(people, degraded)

    device = args.device or torch.accelerator.current_accelerator(check_available=True) or "cpu"
    models = load_models(args.fr_model, torch.device(device))
    settings = {name: getattr(args, name) for name in ("image_column", "identity_column", "shard_size")}
    settings |= {"fr_models": list(models), "rows": len(dataset), "dataset": digest_rows(dataset, args.image_column)}
    output_dir = Path(args.output_dir)
    digest = check_settings(output_dir / "settings.json", settings)

    embeddings = embed_dataset(dataset, models, args)
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
    with tqdm(total=len(dataset), unit="row", desc="shards") as bar:
        for number, start in enumerate(range(0, len(dataset), args.shard_size)):
            stop = min(start + args.shard_size, len(dataset))
            path = output_dir / "data" / f"train-{number:06d}.parquet"
            if not is_written(path, stop - start, digest):
                rows = dataset.select(range(start, stop))
                write_shard(rows, labels[start:stop], path, digest, args.image_column)
            bar.update(stop - start)
    logger.info(f"all {number + 1} shards are in {output_dir / 'data'}")


if __name__ == "__main__":
    main()
