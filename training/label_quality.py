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
many rows of each could not be scored. A row that could not be scored is no failure of the run; `--skip_broken_rows`
leaves out those whose image can't be read.
"""

import argparse
import io
import json
import logging
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, IterableDataset, Value
from PIL import Image as PILImage
from tqdm.auto import tqdm

from diffiqa_hf import FaceImageError, FaceImageProcessor
from diffiqa_hf.degradations import degrade_face
from diffiqa_hf.hub import check_hub_arguments, push_when_asked
from diffiqa_hf.image_processing_face import face_to_pixels
from diffiqa_hf.labelling.labeller import (
    ERROR_COLUMN,
    LABEL_COLUMNS,
    ROWS_AT_A_TIME,
    QualityLabeller,
    labelled_features,
)
from diffiqa_hf.labelling.shards import (
    LabelFolder,
    add_shard_arguments,
    broken_rows_file,
    check_shard_arguments,
    find_share,
    log_share,
    open_faces,
    read_rows,
    repeat_rows,
    set_images,
    split_rows,
)
from diffiqa_hf.scoring.image_columns import DEGRADED_COLUMN, as_image
from diffiqa_hf.training.data import source_of
from diffiqa_hf.training.run import add_skip_argument, add_source_arguments, full_disk_in_one_line


logger = logging.getLogger(__name__)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = add_source_arguments(parser)
    data.add_argument(
        "--streaming",
        action="store_true",
        help="read the rows as they come, without a copy on disk: of Parquet files those "
        "that this process labels, of others all up to the last of them",
    )
    add_skip_argument(data, "such a row stays, with the reason in quality_error")
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
    method.add_argument("--fr_model", help="folder or Hub id of the FR model in it, or dlib (default: the method's)")
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
    add_shard_arguments(parser, copies=True)
    args = parser.parse_args(argv)
    try:
        source_of(args)
    except ValueError as error:
        parser.error(str(error))
    check_shard_arguments(parser, args)
    if args.streaming and args.skip_broken_rows:
        parser.error("--skip_broken_rows reads every face before, which --streaming is not to do")
    if args.degraded_copies < 0:
        parser.error("--degraded_copies is 0 or a positive number")
    if args.degraded_copies and args.landmarks_column:
        parser.error("--degraded_copies writes aligned crops, to which --landmarks_column would not belong")
    return args


# -- the faces --------------------------------------------------------------------------------------------------------


def degrade(image, rng: np.random.Generator, processor: FaceImageProcessor):
    """An item of an image column, degraded; one that can't be read stays as it is, and is reported by the method."""
    try:
        face = processor.extract_faces(as_image(image))[0].pixel_values
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


# -- the labels -------------------------------------------------------------------------------------------------------


def label_shard(
    rows: Dataset, number: int, folder: LabelFolder, labeller: QualityLabeller, args: argparse.Namespace, bar: tqdm
) -> int:
    """Labels the rows of one shard and their copies, writes it, and returns how many could not be scored."""
    column, first_row = labeller.image_column, number * args.shard_size
    table, features = read_rows(rows, column, as_files=args.degraded_copies > 0)
    images = table[column].to_pylist()
    # Which row of the shard each of the new ones is, or is a copy of.
    sources = np.repeat(np.arange(len(images)), 1 + args.degraded_copies)
    if args.degraded_copies:
        images = copies(images, first_row, args)
        table = set_images(repeat_rows(table, column, sources), column, images)
        features[DEGRADED_COLUMN] = Value("bool")
        table = table.append_column(DEGRADED_COLUMN, pa.array(np.diff(sources, prepend=-1) == 0))
    landmarks = table[args.landmarks_column].to_pylist() if args.landmarks_column else None
    parts = []
    for start in range(0, len(images), ROWS_AT_A_TIME):
        batch = {column: images[start : start + ROWS_AT_A_TIME]}
        if landmarks is not None:
            batch[args.landmarks_column] = landmarks[start : start + ROWS_AT_A_TIME]
        parts.append(labeller.label(batch))
        bar.update(len(batch[column]))
    labels = {name: np.concatenate([part[name] for part in parts]) for name in LABEL_COLUMNS}
    features = labelled_features(features)
    for name, values in labels.items():
        # A score that is NaN stays NaN, and does not become null.
        table = table.append_column(name, pa.array(values, features[name].pa_type, from_pandas=False))
    failed = [i for i, error in enumerate(labels[ERROR_COLUMN]) if error is not None]
    if failed:
        first = f"row {first_row + sources[failed[0]]}: {labels[ERROR_COLUMN][failed[0]]}"
        logger.warning(f"{len(failed)} of {len(images)} rows of shard {number} could not be scored ({first})")
    folder.write(number, table, features, len(failed))
    return len(failed)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    remedy = "the shards that are there are whole; make room, and start the same command again"
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
        needed=[args.landmarks_column],
        added=(*LABEL_COLUMNS, DEGRADED_COLUMN),
        streaming=args.streaming,
        shard_size=args.shard_size,
        broken_rows=broken_rows_file(args),
    )
    labeller = QualityLabeller(
        args.method,
        args.model,
        args.fr_model,
        device=share.device,
        dtype=args.dtype,
        batch_size=args.batch_size,
        seed=args.seed,
        image_column=args.image_column,
        landmarks_column=args.landmarks_column,
        **args.method_options,
    )
    labeller.recorded = [LabelFolder.settings_there(args.output_dir).get("weights")]
    names = ("split", "shard_size", "image_column", "landmarks_column", "degraded_copies", "seed")
    settings = {**labeller.settings, **{name: getattr(args, name) for name in names}, "dataset": files}
    if args.skip_broken_rows:  # a folder that was begun before there was the option goes on without
        settings["skip_broken_rows"] = True
    source = args.dataset_name or args.train_data_dir or args.train_parquet
    folder = LabelFolder(
        args.output_dir, args.split, settings, model=args.model, fr_model=args.fr_model, source=source
    )

    def wanted(number: int) -> bool:
        return share.has(number) and folder.read(number) is None

    total, each = None, 1 + args.degraded_copies
    if not isinstance(dataset, IterableDataset):
        lengths = [min(args.shard_size, len(dataset) - start) for start in range(0, len(dataset), args.shard_size)]
        total = each * sum(length for number, length in enumerate(lengths) if share.has(number))
    lengths, labelled, failed, start = [], 0, 0, time.monotonic()
    # The bar knows how many faces a second there are, and the time that is left where the number of rows is known.
    bar = tqdm(total=total, unit="face", position=share.local_process, desc=f"process {share.process}", smoothing=0.05)
    for number, length, rows in split_rows(dataset, args.shard_size, wanted):
        length *= each
        lengths.append(length)
        if rows is None:
            if total is not None and share.has(number):
                bar.total -= length
                bar.refresh()
            continue
        failed += label_shard(rows, number, folder, labeller, args, bar)
        labelled += length
        rate = labelled / (time.monotonic() - start)
        left = "" if total is None else f", {(bar.total - labelled) / rate / 60:.0f} minutes left"
        logger.info(f"shard {number} is written: {length} rows; {rate:.1f} faces/s{left}")
    bar.close()
    if not lengths:
        raise ValueError("the dataset is empty")
    logger.info(f"{labelled} rows labelled, {failed} of them could not be scored")
    finished = folder.finish(lengths, share)
    shards = [folder.read(number) for number in range(len(lengths))]
    if all(shard is not None and shard["failed"] == shard["rows"] for shard in shards):
        reason = pq.read_table(folder.path(0), columns=[ERROR_COLUMN])[ERROR_COLUMN][0].as_py()
        raise SystemExit(f"none of the {sum(lengths)} rows could be scored (row 0: {reason})")
    if finished:
        push_when_asked(args, args.output_dir)


if __name__ == "__main__":
    main()
