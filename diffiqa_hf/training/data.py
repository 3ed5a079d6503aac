# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Datasets of faces, and the order in which a run sees them."""

import argparse
import glob
import hashlib
import json
import logging
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from tqdm.auto import tqdm

from ..file_utils import file_fault, write_text
from ..image_processing_face import FaceImageError, FaceImageProcessor, load_image
from ..scoring.image_columns import as_image, check_image_column, without_image
from ..scoring.image_files import image_endings, is_hidden, linked_folders


logger = logging.getLogger(__name__)
ROW = "source_row"  # column that keeps the number of a row of the source, whatever is left out of it
# Of a Parquet file at a time. As many as its row group has, which `datasets` takes, may be more than the 2 GiB that
# Arrow puts into one array.
ROWS_READ = 100
BROKEN_ROWS_FILE = "broken_rows.json"


def face_dataset_source(
    dataset_name: str | None,
    train_data_dir: str | None,
    train_parquet: list[str] | None,
    split: str,
    config_name: str | None = None,
    revision: str | None = None,
) -> dict:
    """
    What `datasets.load_dataset` and `load_dataset_builder` take for exactly one of a Hub id (or local dataset), a
    folder of images and Parquet files.

    A folder and Parquet files are taken whole, whatever their names: `datasets` on its own sees splits in `test/` or
    `train_station.jpg`, and leaves the others out. A split of theirs is a part by its slice alone (`"train[:100]"`).

    Raises:
        ValueError: None of them is given, or several are, or in a file's place lies what is none.
        NotADirectoryError: There is no such folder.
    """
    if sum(source is not None for source in (dataset_name, train_data_dir, train_parquet)) != 1:
        raise ValueError("give exactly one of --dataset_name, --train_data_dir and --train_parquet")
    if dataset_name is not None:
        return {"path": dataset_name, "name": config_name, "revision": revision}
    name = re.split(r"\W", split, maxsplit=1)[0] or "train"
    if train_data_dir is not None:
        if not os.path.isdir(train_data_dir):
            raise NotADirectoryError(f"--train_data_dir {train_data_dir} is no folder")
        folder = os.path.abspath(train_data_dir)
        patterns = [os.path.join(glob.escape(path), "**") for path in (folder, *linked_folders(folder))]
        return {"path": "imagefolder", "data_files": {name: patterns}}
    given = train_parquet or []
    for path in given:
        if os.path.isfile(path) and (reason := file_fault(path)):
            raise ValueError(f"{path}: {reason}")
    # A file that is there is meant by its name, with brackets in it perhaps, and not as a pattern.
    files = [glob.escape(os.path.abspath(path)) if os.path.exists(path) else path for path in given]
    return {"path": "parquet", "data_files": {name: files}}


def source_of(args: argparse.Namespace) -> dict:
    """The [`face_dataset_source`] that the options of [`~diffiqa_hf.training.run.add_source_arguments`] name."""
    return face_dataset_source(
        args.dataset_name,
        args.train_data_dir,
        args.train_parquet,
        args.split,
        args.dataset_config_name,
        args.revision,
    )


def open_builder(source: dict) -> Any:
    """
    `datasets.load_dataset_builder` for a [`face_dataset_source`].

    Raises:
        ValueError: A folder has no images.
    """
    from datasets import load_dataset_builder
    from datasets.packaged_modules.parquet.parquet import ParquetConfig

    builder = load_dataset_builder(**source)
    if source["path"] == "imagefolder":
        _leave_out_tools(builder, source)
    if isinstance(builder.config, ParquetConfig) and builder.config.batch_size is None:
        builder.config.batch_size = ROWS_READ
    return builder


def prepare_dataset(builder: Any, split: str):
    """
    The `datasets.Dataset` of a builder.

    Raises:
        ValueError: It is empty.
    """
    builder.download_and_prepare()
    dataset = builder.as_dataset(split=split)
    if len(dataset) == 0:
        raise ValueError("the dataset is empty")
    return dataset


def data_files(builder: Any) -> dict[str, list[str]]:
    """The files of a builder by their splits."""
    return {str(name): [str(file) for file in part] for name, part in (builder.config.data_files or {}).items()}


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


def _leave_out_tools(builder: Any, source: dict) -> None:
    """Has a folder hold the images that every command finds in it, and none of those that systems and tools leave."""
    endings = builder.EXTENSIONS = sorted({*builder.EXTENSIONS, *image_endings()})
    for name, patterns in source["data_files"].items():
        folder = re.sub(r"\[([*?[])\]", r"\1", os.path.dirname(patterns[0]))  # which glob.escape has changed
        files = builder.config.data_files[name]
        kept = [file for file in files if not any(map(is_hidden, os.path.relpath(file, folder).split(os.sep)))]
        if not any(file.lower().endswith((*endings, ".zip")) for file in kept):
            raise ValueError(f"there are no images in {folder}")
        if len(kept) < len(files):
            logger.info(f"{len(files) - len(kept)} files of systems and tools in {folder} are left out")
        builder.config.data_files[name] = type(files)(kept, files.origin_metadata)


def undecoded(dataset: Any, image_column: str) -> Any:
    """A dataset whose images are read by us, and not by `datasets`, to which one damaged image is the end."""
    from datasets import Image

    check_image_column(dataset.features, image_column)
    if isinstance(dataset.features[image_column], Image):
        return dataset.cast_column(image_column, Image(decode=False))
    return dataset


def load_face_dataset(
    dataset_name: str | None = None,
    train_data_dir: str | None = None,
    train_parquet: list[str] | None = None,
    split: str = "train",
    config_name: str | None = None,
    revision: str | None = None,
):
    """
    A `datasets.Dataset` from the source that [`face_dataset_source`] tells.

    Raises:
        ValueError: As there, or it is empty.
    """
    source = face_dataset_source(dataset_name, train_data_dir, train_parquet, split, config_name, revision)
    return prepare_dataset(open_builder(source), split)


def training_faces(accelerator: Accelerator, args: argparse.Namespace):
    """
    The faces of a run by the options of [`~diffiqa_hf.training.run.add_data_arguments`], undecoded, with the numbers
    of their rows in the column `ROW`, and how many rows the source has. All processes call it.

    A row without an image, or with one that can't be read, is refused: the first at once, the second when a run comes
    to it. With `--skip_broken_rows` every image is read once before, by the main process, and such rows are left out;
    their reasons are kept in the folder of the run.

    Raises:
        ValueError: There is no such source, or no column of images in it.
        FaceImageError: A row has no image, and is not to be skipped; or none has one that can be read.
    """
    builder = open_builder(source_of(args))
    dataset = undecoded(prepare_dataset(builder, args.split), args.image_column)
    total, missing = len(dataset), without_image(dataset.data, args.image_column)
    dataset = dataset.add_column(ROW, np.arange(total))
    if not args.skip_broken_rows:
        if len(missing):
            raise FaceImageError(
                f"row {missing[0]} has no image in the column {args.image_column!r}, as have {len(missing)} of "
                f"{total}; --skip_broken_rows leaves such rows out"
            )
        return dataset, total
    path = Path(args.output_dir) / BROKEN_ROWS_FILE
    if accelerator.is_main_process:
        record_broken(path, builder, dataset, args.split, args.image_column)
    accelerator.wait_for_everyone()
    return without_broken(path, dataset), total


def faces_digest(dataset, image_column: str) -> str:
    """
    16 hexadecimal digits that change with the faces of an undecoded dataset and their order, as far as the names of
    their files and the sizes of what is in the dataset tell them; the same wherever it lies.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    digest = hashlib.sha256()
    column = dataset.data.column(image_column)
    for part in column.flatten() if pa.types.is_struct(column.type) else [column]:
        for chunk in part.chunks:  # of which there may be more or fewer on another machine
            if pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type):
                digest.update("".join(f"{os.path.basename(path or '')}\n" for path in chunk.to_pylist()).encode())
            elif pa.types.is_binary(chunk.type) or pa.types.is_large_binary(chunk.type):
                sizes = pc.fill_null(pc.binary_length(chunk), -1).cast(pa.int64())
                digest.update(sizes.to_numpy(zero_copy_only=False).tobytes())
    return digest.hexdigest()[:16]


def record_broken(path: Path, builder: Any, dataset, split: str, image_column: str) -> None:
    """Reads every image of a split, unless the file has those of the same, and writes which can't be read."""
    files = fingerprint_files([file for part in data_files(builder).values() for file in part])
    wanted = {"files": files, "split": split, "image_column": image_column, "rows": len(dataset)}
    known = json.loads(path.read_text()) if path.exists() else {}
    if any(known.get(name) != value for name, value in wanted.items()):
        record = {**wanted, "broken": find_broken(dataset, image_column)}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(record, indent=2) + "\n")


def without_broken(path: Path, dataset, sources: np.ndarray | None = None):
    """
    The dataset without the rows of [`record_broken`], of which a warning says how many they are.

    Args:
        sources: (N,) the row that each row is a copy of, itself where it is none: a copy goes with its original.

    Raises:
        FaceImageError: There is no other row.
    """
    broken = {int(row): reason for row, reason in json.loads(path.read_text())["broken"].items()}
    if not broken:
        return dataset
    total, (row, reason) = len(dataset), next(iter(broken.items()))
    copies = set() if sources is None else set(np.flatnonzero(np.isin(sources, list(broken))).tolist()) - set(broken)
    kept = [row for row in range(total) if row not in broken and row not in copies]
    if not kept:
        raise FaceImageError(f"none of the {total} rows has an image that can be read (row {row}: {reason})")
    logger.warning(
        f"{len(broken)} of {total} rows are left out, because their image can't be read (row {row}: {reason}); "
        f"all are in {path}" + (f"; with them go their copies, {len(copies)}" if copies else "")
    )
    return dataset.select(kept)


def find_broken(dataset, image_column: str) -> dict[int, str]:
    """The rows whose image can't be read, with the reasons."""

    def reason(value: Any) -> str | None:
        try:
            load_image(as_image(value))
        except FaceImageError as error:
            return str(error)
        return None

    images = dataset.select_columns([image_column])
    broken: dict[int, str] = {}
    with ThreadPoolExecutor() as pool, tqdm(total=len(images), desc="reading all images", unit="image") as bar:
        for start in range(0, len(images), ROWS_READ):
            values = images[start : start + ROWS_READ][image_column]
            found = enumerate(pool.map(reason, values), start)
            broken |= {row: said for row, said in found if said is not None}
            bar.update(len(values))
    return broken


def read_face(dataset, index: int, image_column: str, processor: FaceImageProcessor, points: Any = None) -> np.ndarray:
    """
    The canonical face (3, H, W) of one row.

    Args:
        points: Five landmarks (5, 2) in pixels to align it by; it is aligned when not given.

    Raises:
        FaceImageError: It cannot be read; the message names the row, because a run of days should not end in a riddle.
    """
    try:
        return processor.extract_faces(as_image(dataset[index][image_column]), points)[0].pixel_values
    except (ValueError, OSError, SyntaxError) as error:  # Pillow, where `datasets` decodes: OSError, SyntaxError
        hint = " (--skip_broken_rows leaves such rows out)" if points is None else ""
        raise FaceImageError(f"row {source_row(dataset, index)} of the training data: {error}{hint}") from error


def source_row(dataset, index: int) -> int:
    """The row of the source."""
    return dataset[ROW][index] if ROW in dataset.column_names else index
