# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Labels a set of faces with their quality, the first stage of distilling DifFIQA(R) (section 3.6 of the paper).

    accelerate launch training/label_quality.py --train_data_dir faces/ --output_dir runs/labels

The rows come out as they are, with `quality`, its five terms and `quality_error` (see diffiqa_hf.labelling), in shards
of `--shard_size` rows: `datasets.load_dataset("parquet", data_files="runs/labels/data/*.parquet")`. With
`--degraded_copies N` each is followed by N degraded copies of it, which have labels of their own. Any number of
processes on any number of machines that see the same `--output_dir` share the work without talking to each other:
process p of P takes shards p, p + P, ... and skips those that are there. A run that was killed is started again by the
same command, with as many processes as there are then, and loses one shard for each process at most. Whoever finishes
last completes `manifest.json`: the settings, the hash of the weights, the fingerprint of the faces, the shards and how
many rows of each could not be scored. A row that could not be scored is no failure of the run.
"""

import argparse
import hashlib
import io
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate.utils import parse_flag_from_env
from accelerate.utils.environment import get_cpu_distributed_information
from datasets import Dataset, Features, Image, IterableDataset, Value, load_dataset_builder
from PIL import Image as PILImage
from tqdm.auto import tqdm

from diffiqa_hf import FaceImageError, FaceImageProcessor, __version__
from diffiqa_hf.degradations import degrade_face
from diffiqa_hf.file_utils import replace_file, write_text
from diffiqa_hf.hub import add_hub_arguments, check_hub_arguments, push_when_asked
from diffiqa_hf.image_processing_face import face_to_pixels
from diffiqa_hf.labelling import (
    DEGRADED_COLUMN,
    ERROR_COLUMN,
    LABEL_COLUMNS,
    ROWS_AT_A_TIME,
    QualityLabeller,
    labelled_features,
)
from diffiqa_hf.training_utils import add_source_arguments, face_dataset_source, full_disk_in_one_line


logger = logging.getLogger(__name__)

METADATA_KEY = b"diffiqa_hf"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = add_source_arguments(parser)
    data.add_argument("--dataset_config_name", help="which of its configurations, if it has several")
    data.add_argument("--revision", help="of a dataset on the Hub: branch, tag or commit")
    data.add_argument("--split", default="train", help="default: %(default)s")
    data.add_argument("--streaming", action="store_true", help="read the rows as they come, without a copy on disk")
    data.add_argument("--landmarks_column", help="column of five points (5, 2) in pixels, to align the faces by")
    data.add_argument(
        "--degraded_copies",
        type=int,
        default=0,
        metavar="N",
        help="have each row followed by N copies of it, each degraded in its own way, as in training DifFIQA, and "
        "with a label of its own, so that a student sees poor faces, and each of them beside the clean one; "
        f"adds the column {DEGRADED_COLUMN!r} (default: %(default)s)",
    )
    method = parser.add_argument_group("method")
    method.add_argument("--method", default="diffiqa", help="see `diffiqa methods` (default: %(default)s)")
    method.add_argument(
        "--model", help="folder or Hub id of its network or pipeline (default: the one inside, if any)"
    )
    method.add_argument("--fr_model", help="folder or Hub id of the FR model in it (default: the method's)")
    method.add_argument(
        "--method_options",
        type=json.loads,
        default={},
        help="JSON of the method's own options: '{\"num_repeats\": 4}' (default: none)",
    )
    method.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: %(default)s)")
    method.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), default="float32", help="default: %(default)s"
    )
    method.add_argument(
        "--batch_size",
        type=int,
        default=20,
        help="images at a time through the network; hundreds on a GPU (default: 20)",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--output_dir", required=True, help="folder of the labelled dataset")
    output.add_argument(
        "--shard_size", type=int, default=1000, help="rows of a shard, copies not counted (default: %(default)s)"
    )
    share = parser.add_argument_group("sharing the work (default: as accelerate launches it)")
    share.add_argument("--process_index", type=int, help="p, from 0: which of the processes this one is")
    share.add_argument("--num_processes", type=int, help="P: how many there are")
    share.add_argument("--device", help="such as cpu, cuda, cuda:1 (default: an accelerator if there is one)")
    add_hub_arguments(parser, card=False)
    args = parser.parse_args(argv)
    try:
        source_of(args)
    except ValueError as error:
        parser.error(str(error))
    if (args.process_index is None) != (args.num_processes is None):
        parser.error("--process_index and --num_processes go together")
    if args.num_processes is not None and not 0 <= args.process_index < args.num_processes:
        parser.error("--process_index is from 0 to --num_processes - 1")
    if args.shard_size < 1:
        parser.error("--shard_size is a positive number")
    if args.degraded_copies < 0:
        parser.error("--degraded_copies is 0 or a positive number")
    if args.degraded_copies and args.landmarks_column:
        parser.error("--degraded_copies writes aligned crops, to which --landmarks_column would not belong")
    return args


# -- the faces --------------------------------------------------------------------------------------------------------


def source_of(args: argparse.Namespace) -> dict:
    return face_dataset_source(args.dataset_name, args.train_data_dir, args.train_parquet, args.split)


def open_dataset(args: argparse.Namespace) -> tuple[Dataset | IterableDataset, str]:
    """The rows with undecoded images, and the fingerprint of the files that they are in."""
    source = source_of(args)
    if args.dataset_name is not None:
        source |= {"name": args.dataset_config_name, "revision": args.revision}
    builder = load_dataset_builder(**source)
    files = [str(file) for part in (builder.config.data_files or {}).values() for file in part]
    if args.streaming:
        dataset = builder.as_streaming_dataset(split=args.split)
    else:
        builder.download_and_prepare()
        dataset = builder.as_dataset(split=args.split)
        if len(dataset) == 0:
            raise ValueError("the dataset is empty")
    features = dataset.features
    if features is None:  # a stream of JSON or the like: what its first shard looks like, the same for every process
        features = Dataset.from_list(list(dataset.take(args.shard_size))).features
        dataset = dataset.cast(features)
    for column in (args.image_column, args.landmarks_column):
        if column is not None and column not in features:
            raise ValueError(f"the dataset has no column {column!r}; it has {list(features)}")
    taken = [name for name in (*LABEL_COLUMNS, DEGRADED_COLUMN) if name in features]
    if taken:
        raise ValueError(f"the dataset has a column {taken[0]!r} already; rename it, or is it labelled?")
    if isinstance(features[args.image_column], Image):
        # Not decoded by `datasets`, to which one damaged image is the end.
        dataset = dataset.cast_column(args.image_column, Image(decode=False))
    return dataset, fingerprint_files(files)


def fingerprint_files(files: list[str]) -> str:
    """
    16 hexadecimal digits of names and sizes, in their order; the same on another machine, where the files may lie
    elsewhere. A file on the Hub has the commit in its name.
    """
    local = [file for file in files if "://" not in file]
    root = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in local]) if local else ""
    digest = hashlib.sha256()
    for file in files:
        entry = [file] if "://" in file else [os.path.relpath(file, root), os.path.getsize(file)]
        digest.update(json.dumps(entry).encode())
    return digest.hexdigest()[:16]


def split_rows(dataset: Dataset | IterableDataset, size: int, wanted) -> Iterator[tuple[int, int, Dataset | None]]:
    """Number, length and rows of each shard in turn; no rows where `wanted(number)` is false."""
    if isinstance(dataset, Dataset):
        for number, start in enumerate(range(0, len(dataset), size)):
            stop = min(start + size, len(dataset))
            yield number, stop - start, dataset.select(range(start, stop)) if wanted(number) else None
        return
    rows, number, length = [], 0, 0
    take = wanted(number)
    for row in dataset:
        if take:
            rows.append(row)
        length += 1
        if length == size:
            yield number, length, Dataset.from_list(rows, features=dataset.features) if take else None
            rows, number, length = [], number + 1, 0
            take = wanted(number)
    if length:
        yield number, length, Dataset.from_list(rows, features=dataset.features) if take else None


def with_bytes(image):
    """An item of an image column with the file itself in it, as `datasets` writes it; as it is if there is no file."""
    if isinstance(image, dict) and image.get("bytes") is None and image.get("path") and os.path.isfile(image["path"]):
        return {"bytes": Path(image["path"]).read_bytes(), "path": os.path.basename(image["path"])}
    return image


def degrade(image, rng: np.random.Generator, processor: FaceImageProcessor):
    """An item of an image column, degraded; one that can't be read stays as it is, and is reported by the method."""
    try:
        face = processor.extract_faces(image)[0].pixel_values
    except FaceImageError:
        return image
    file = io.BytesIO()
    PILImage.fromarray(degrade_face(face_to_pixels(face), rng)).save(file, "png")
    return {"bytes": file.getvalue(), "path": None}


def copies(images: list, first_row: int, args: argparse.Namespace) -> list:
    """
    Each of the images, which are those of the rows from `first_row` on, and behind it its degraded copies: by the
    seed, the row and the number of the copy alone, the same in any shard and on any process.
    """
    processor, out = FaceImageProcessor(), []
    for row, image in enumerate(images, first_row):
        out.append(image)
        for copy in range(args.degraded_copies):
            out.append(degrade(image, np.random.default_rng([args.seed, row, copy]), processor))
    return out


# -- shards and manifest ----------------------------------------------------------------------------------------------


def shard_path(args: argparse.Namespace, number: int) -> Path:
    split = args.split.split("[")[0]
    return Path(args.output_dir) / "data" / f"{split}-{number:06d}.parquet"


def read_shard(path: Path) -> dict | None:
    """Rows, failed rows and settings of a shard; `None` where it is not there, or is no shard that can be read."""
    if not path.exists():
        return None
    try:
        metadata = pq.read_metadata(path)
        return {"rows": metadata.num_rows, **json.loads(metadata.metadata[METADATA_KEY])}
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        logger.warning(f"{path} can't be read and is made again: {error}")
        return None


def label_shard(
    rows: Dataset, number: int, path: Path, labeller: QualityLabeller, settings: str, args: argparse.Namespace, bar
) -> int:
    """Labels the rows of one shard and their copies, writes it, and returns how many could not be scored."""
    table = rows.with_format("arrow")[:]
    column, first_row = labeller.image_column, number * args.shard_size
    images = [with_bytes(image) for image in table[column].to_pylist()]
    # Which row of the shard each of the new ones is, or is a copy of.
    sources = np.repeat(np.arange(len(images)), 1 + args.degraded_copies)
    if args.degraded_copies:
        table, images = table.take(sources), copies(images, first_row, args)
    landmarks = table[args.landmarks_column].to_pylist() if args.landmarks_column else None
    parts = []
    for start in range(0, len(images), ROWS_AT_A_TIME):
        batch = {column: images[start : start + ROWS_AT_A_TIME]}
        if landmarks is not None:
            batch[args.landmarks_column] = landmarks[start : start + ROWS_AT_A_TIME]
        parts.append(labeller.label(batch))
        bar.update(len(batch[column]))
    labels = {name: np.concatenate([part[name] for part in parts]) for name in LABEL_COLUMNS}

    features = Features(rows.features)
    if isinstance(features[column], Image):
        features[column] = Image()
    index = table.schema.get_field_index(column)
    table = table.set_column(index, column, pa.array(images, table.schema.field(column).type))
    if args.degraded_copies:
        features[DEGRADED_COLUMN] = Value("bool")
        table = table.append_column(DEGRADED_COLUMN, pa.array(np.diff(sources, prepend=-1) == 0))
    features = labelled_features(features)
    for name, values in labels.items():
        # A score that is NaN stays NaN, and does not become null.
        table = table.append_column(name, pa.array(values, features[name].pa_type, from_pandas=False))
    failed = [i for i, error in enumerate(labels[ERROR_COLUMN]) if error is not None]
    if failed:
        first = f"row {first_row + sources[failed[0]]}: {labels[ERROR_COLUMN][failed[0]]}"
        logger.warning(f"{len(failed)} of {len(images)} rows of shard {number} could not be scored ({first})")
    ours = {METADATA_KEY: json.dumps({"settings": settings, "failed": len(failed)})}
    schema = features.arrow_schema
    table = table.cast(schema).replace_schema_metadata({**schema.metadata, **ours})
    # Small row groups, as `datasets` writes images: a row is read without the whole shard.
    replace_file(path, lambda p: pq.write_table(table, p, row_group_size=100))
    return len(failed)


def name_file(temporary: Path, path: Path) -> bool:
    """Gives a file its name, unless there is a file of that name: then `False`."""
    try:
        os.link(temporary, path)  # unlike a rename it fails where another process was first
    except FileExistsError:
        return False
    except OSError:  # a file system without links, where two that begin in the same moment may both be first
        if path.exists():
            return False
        os.replace(temporary, path)
    return True


def start_manifest(path: Path, manifest: dict) -> None:
    """
    Writes the manifest of a new run, or checks that of one that is there.

    Raises:
        ValueError: It was made with other settings.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    temporary.write_text(json.dumps(manifest, indent=2) + "\n")
    try:
        first = name_file(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if not first:
        there, ours = json.loads(path.read_text())["settings"], json.loads(json.dumps(manifest["settings"]))
        other = [f"{k}: {there.get(k)} there, {ours.get(k)} now" for k in ours | there if there.get(k) != ours.get(k)]
        if other:
            raise ValueError(f"{path.parent} was made with other settings ({'; '.join(other)})")


def finish_manifest(path: Path, manifest: dict, lengths: list[int], digest: str, args: argparse.Namespace) -> bool:
    """Completes the manifest if all shards are there. Who does so at the same time writes the same."""
    shards = []
    for number, length in enumerate(lengths):
        file = shard_path(args, number)
        shard = read_shard(file)
        if shard is None:
            return False
        check_shard(file, shard, length, digest)
        name = file.relative_to(path.parent).as_posix()
        shards.append({"file": name, "rows": shard["rows"], "failed": shard["failed"]})
    totals = {"rows": sum(lengths), "failed": sum(shard["failed"] for shard in shards)}
    text = json.dumps({**manifest, "complete": True, **totals, "shards": shards}, indent=2) + "\n"
    write_text(path, text)
    return True


def check_shard(file: Path, shard: dict, length: int | None, digest: str) -> None:
    if shard["settings"] != digest:
        raise ValueError(f"{file} was made with other settings")
    if length is not None and shard["rows"] != length:
        raise ValueError(f"{file} has {shard['rows']} rows and not {length}")


def find_share(args: argparse.Namespace) -> tuple[int, int, torch.device | str]:
    """
    Which process this is, of how many, and its device, as the options say or as the launcher has put it in the
    environment. There is no process group: nobody waits for anybody, or falls with anybody.
    """
    launched = get_cpu_distributed_information()  # of any launch, whatever its name says
    process, num_processes = launched.rank, launched.world_size
    if args.num_processes is not None:
        process, num_processes = args.process_index, args.num_processes
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if args.device is not None:
        return process, num_processes, args.device
    if accelerator is None or parse_flag_from_env("ACCELERATE_USE_CPU"):
        return process, num_processes, "cpu"
    index = launched.local_rank % torch.accelerator.device_count()
    return process, num_processes, torch.device(accelerator.type, index)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    remedy = "the shards that are there are whole; make room, and start the same command again"
    with full_disk_in_one_line(args.output_dir, remedy):
        label(args)


def label(args: argparse.Namespace) -> None:
    check_hub_arguments(args)
    process, num_processes, device = find_share(args)
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s [{process}/{num_processes}] %(message)s")

    dataset, files = open_dataset(args)
    labeller = QualityLabeller(
        args.method,
        args.model,
        args.fr_model,
        device=device,
        dtype=args.dtype,
        batch_size=args.batch_size,
        seed=args.seed,
        image_column=args.image_column,
        landmarks_column=args.landmarks_column,
        **args.method_options,
    )
    names = ("split", "shard_size", "image_column", "landmarks_column", "degraded_copies", "seed")
    settings = {**labeller.settings, **{name: getattr(args, name) for name in names}, "dataset": files}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    # What a reader wants to know and what may differ between machines: where the model and the faces were.
    source = args.dataset_name or args.train_data_dir or args.train_parquet
    described = {"diffiqa_hf": __version__, "model": args.model, "fr_model": args.fr_model, "source": source}
    manifest = {"complete": False, "described": described, "settings": settings}
    manifest_path = Path(args.output_dir) / "manifest.json"
    start_manifest(manifest_path, manifest)
    shard_path(args, 0).parent.mkdir(exist_ok=True)

    def wanted(number: int) -> bool:
        if number % num_processes != process:
            return False
        shard = read_shard(shard_path(args, number))
        if shard is not None:
            check_shard(shard_path(args, number), shard, None, digest)
        return shard is None

    total, each = None, 1 + args.degraded_copies
    if isinstance(dataset, Dataset):
        lengths = [min(args.shard_size, len(dataset) - start) for start in range(0, len(dataset), args.shard_size)]
        total = each * sum(length for number, length in enumerate(lengths) if number % num_processes == process)
    lengths, labelled, failed, start = [], 0, 0, time.monotonic()
    # The bar knows how many faces a second there are, and the time that is left where the number of rows is known.
    bar = tqdm(total=total, unit="face", position=process, desc=f"process {process}", smoothing=0.05)
    for number, length, rows in split_rows(dataset, args.shard_size, wanted):
        length *= each
        lengths.append(length)
        if rows is None:
            if total is not None and number % num_processes == process:
                bar.total -= length
                bar.refresh()
            continue
        failed += label_shard(rows, number, shard_path(args, number), labeller, digest, args, bar)
        labelled += length
        rate = labelled / (time.monotonic() - start)
        left = "" if total is None else f", {(bar.total - labelled) / rate / 60:.0f} minutes left"
        logger.info(f"shard {number} is written: {length} rows; {rate:.1f} faces/s{left}")
    bar.close()
    if not lengths:
        raise ValueError("the dataset is empty")
    logger.info(f"{labelled} rows labelled, {failed} of them could not be scored")
    if finish_manifest(manifest_path, manifest, lengths, digest, args):
        logger.info(f"all {len(lengths)} shards are there: {manifest_path} is complete")
        push_when_asked(args, args.output_dir)


if __name__ == "__main__":
    main()
