# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
What `training/label_quality.py` and `training/label_centres.py` share: opening faces, dividing them among processes
that do not talk to each other, and the folder of shards that these write together. Needs the extra `train`.
"""

import argparse
import io
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate.utils import parse_flag_from_env
from accelerate.utils.environment import get_cpu_distributed_information
from datasets import Dataset, DatasetInfo, Features, Image, IterableDataset, Value, concatenate_datasets
from datasets.packaged_modules.parquet.parquet import ParquetConfig
from datasets.table import table_cast

from ..file_utils import replace_file, write_text
from ..hub import add_hub_arguments
from ..image_processing_face import FaceImageError, load_image
from ..scoring.image_columns import DEGRADED_COLUMN, as_image
from ..training.data import (
    BROKEN_ROWS_FILE,
    ROWS_READ,
    data_files,
    fingerprint_files,
    open_builder,
    prepare_dataset,
    record_broken,
    undecoded,
    without_broken,
)
from ..training.launch import LAUNCH_HELP, missing_processes
from ..version import __version__
from .labeller import find_sources
from .manifest import begin_manifest, settings_digest


logger = logging.getLogger(__name__)

METADATA_KEY = b"diffiqa_hf"
PENDING_FILE = ".incomplete"
IMAGE_TYPE = Image().pa_type
ARRAY_BYTES = 2**30  # of images in one Arrow array, whose offsets end at 2 GiB


# -- options ----------------------------------------------------------------------------------------------------------


def add_shard_arguments(parser: argparse.ArgumentParser, copies: bool = False) -> None:
    """The options that say where shards go, who makes them, and whether they go to the Hub; and the help on that."""
    parser.epilog = LAUNCH_HELP
    output = parser.add_argument_group("output")
    output.add_argument("--output_dir", required=True, help="folder of the labelled dataset")
    counted = ", copies not counted" if copies else ""
    output.add_argument(
        "--shard_size", type=int, default=1000, help=f"rows of a shard{counted} (default: %(default)s)"
    )
    share = parser.add_argument_group("sharing the work (default: as accelerate launches it)")
    share.add_argument("--process_index", type=int, help="p, from 0: which of the processes this one is")
    share.add_argument("--num_processes", type=int, help="P: how many there are")
    share.add_argument("--device", help="such as cpu, cuda, cuda:1 (default: an accelerator if there is one)")
    add_hub_arguments(parser, card=False)


def broken_rows_file(args: argparse.Namespace) -> Path | None:
    """Where `--skip_broken_rows` keeps the rows that it leaves out."""
    return Path(args.output_dir) / BROKEN_ROWS_FILE if args.skip_broken_rows else None


def check_shard_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Ends the program where the options of [`add_shard_arguments`] make no sense."""
    if args.shard_size < 1:
        parser.error("--shard_size is a positive number")
    if (args.process_index is None) != (args.num_processes is None):
        parser.error("--process_index and --num_processes go together")
    if args.num_processes is not None and not 0 <= args.process_index < args.num_processes:
        parser.error("--process_index is from 0 to --num_processes - 1")


@dataclass(frozen=True)
class Share:
    """
    A process's part of the work. There is no process group: nobody waits for anybody, or falls with anybody.

    Args:
        process, num_processes (`int`): Which process this is, from 0, of how many.
        local_process (`int`): Which of those on its machine.
        device (`torch.device` or `str`): Where it computes.
    """

    process: int
    num_processes: int
    local_process: int
    device: torch.device | str

    def has(self, number: int) -> bool:
        """Whether a shard is for this process: p of P has p, p + P, ..."""
        return number % self.num_processes == self.process

    def order(self, shards: int) -> list[int]:
        """
        The shards of this process, and then those of the others, who may never come to them: in an order of this
        process's own, so that several that are there seldom make the same.
        """
        shuffled = np.random.default_rng(self.process).permutation(shards).tolist()
        return [*range(self.process, shards, self.num_processes), *(n for n in shuffled if not self.has(n))]


def launched_share(device: torch.device | str | None) -> Share:
    """The share that a launcher has put in the environment, with the device that is given or the process's own."""
    launched = get_cpu_distributed_information()  # of any launch, whatever its name says
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if device is None and (accelerator is None or parse_flag_from_env("ACCELERATE_USE_CPU")):
        device = "cpu"
    elif device is None:
        device = torch.device(accelerator.type, launched.local_rank % torch.accelerator.device_count())
    return Share(launched.rank, launched.world_size, launched.local_rank, device)


def find_share(args: argparse.Namespace) -> Share:
    """The share that the options of [`add_shard_arguments`] name, or else the launcher's."""
    share = launched_share(args.device)
    if args.num_processes is None:
        return share
    return replace(share, process=args.process_index, num_processes=args.num_processes)


def log_share(share: Share) -> None:
    """Has lines logged with the process that they come from, and none for each request to the Hub."""
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s [{share.process}/{share.num_processes}] %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if line := missing_processes(share.num_processes):
        logger.warning(line)


# -- the faces --------------------------------------------------------------------------------------------------------


class ParquetStream:
    """
    Rows of Parquet files that are read where they lie, on the Hub perhaps, and no others: of the files the footers,
    and then the row groups that the rows are in. (`IterableDataset.skip` reads all that it skips.)

    Args:
        files (`list[str]`): Paths or addresses that fsspec knows.
        features (`datasets.Features`): Of the rows.
    """

    def __init__(self, files: list[str], features: Features):
        self.files, self.features = files, features
        with ThreadPoolExecutor(16) as pool:
            counts = list(pool.map(_row_group_lengths, files))
        # Of each row group its file, its number in it, and the row behind its last.
        self._groups = [(file, group) for file, lengths in enumerate(counts) for group in range(len(lengths))]
        self._ends = np.cumsum([length for lengths in counts for length in lengths], dtype=np.int64)
        self._kept: tuple[range, pa.Table] = range(0), pa.table({})

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def select(self, rows: range) -> Dataset:
        """The rows of a range that is not empty."""
        first, last = np.searchsorted(self._ends, [rows.start, rows.stop - 1], side="right").tolist()
        groups = range(first, last + 1)
        if self._kept[0] != groups:  # the next shard may lie in the same row group
            self._kept = groups, self._read(groups)
        table = self._kept[1].slice(rows.start - (int(self._ends[first - 1]) if first else 0), len(rows))
        # With a fingerprint: `datasets` would make one of all that is in the table, as one array for each column.
        return Dataset(table, info=DatasetInfo(features=self.features), fingerprint=uuid4().hex[:16])

    def _read(self, groups: range) -> pa.Table:
        of_file: dict[int, list[int]] = {}
        for file, group in (self._groups[i] for i in groups):
            of_file.setdefault(file, []).append(group)
        tables = []
        for number, wanted in of_file.items():
            with fsspec.open(self.files[number], "rb") as file:
                # In parts: Arrow can't make one array of a row group with more than 2 GiB of images.
                parquet = pq.ParquetFile(file, pre_buffer=True)
                parts = list(parquet.iter_batches(ROWS_READ, row_groups=wanted))
                table = pa.Table.from_batches(parts, parquet.schema_arrow)
            tables.append(table_cast(table, self.features.arrow_schema))
        return pa.concat_tables(tables)


def _row_group_lengths(path: str) -> list[int]:
    with fsspec.open(path, "rb") as file:
        metadata = pq.read_metadata(file)
    return [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]


Faces: TypeAlias = Dataset | IterableDataset | ParquetStream


def open_faces(
    source: dict[str, Any],
    split: str,
    image_column: str,
    *,
    needed: Iterable[str | None] = (),
    added: Iterable[str],
    streaming: bool = False,
    shard_size: int = 1000,
    broken_rows: Path | None = None,
) -> tuple[Faces, str]:
    """
    The rows with undecoded images, and the fingerprint of the files that they are in.

    Args:
        source: What `datasets.load_dataset_builder` takes, as from
            [`~diffiqa_hf.training.data.face_dataset_source`].
        split: Of the dataset.
        image_column: Column of the faces.
        needed: Other columns that have to be there; `None` stands for none.
        added: Columns that must not be there yet.
        streaming: Have no copy on disk; a [`ParquetStream`] where the files are such.
        shard_size: Rows that tell the columns of a stream whose files do not, the same for every process.
        broken_rows: Leave out, and write to this file, the rows whose image can't be read; not of a stream.

    Raises:
        ValueError: There are no rows, or not these columns.
        FaceImageError: No row is left.
    """
    builder = open_builder(source)
    files = data_files(builder)
    dataset = builder.as_streaming_dataset(split=split) if streaming else prepare_dataset(builder, split)
    features = dataset.features
    if features is None:  # a stream of JSON or the like
        features = Dataset.from_list(list(dataset.take(shard_size))).features
        dataset = dataset.cast(features)
    for column in needed:
        if column is not None and column not in features:
            raise ValueError(f"the dataset has no column {column!r}; it has {list(features)}")
    taken = [name for name in added if name in features]
    if taken:
        raise ValueError(f"the dataset has a column {taken[0]!r} already; rename it, or is it labelled?")
    dataset = undecoded(dataset, image_column)
    if broken_rows is not None:  # each process that comes here first reads them all, and writes the same
        record_broken(broken_rows, builder, dataset, split, image_column)
        copies = DEGRADED_COLUMN in features
        dataset = without_broken(broken_rows, dataset, find_sources(dataset[DEGRADED_COLUMN][:]) if copies else None)
    if streaming and _are_plain_parquet(builder.config, files.get(split, ())):
        dataset = ParquetStream(files[split], dataset.features)
    return dataset, fingerprint_files([file for part in files.values() for file in part])


def _are_plain_parquet(config: Any, files: Sequence[str]) -> bool:
    """Whether rows are all those of the files in their order, with all their columns."""
    if not isinstance(config, ParquetConfig) or config.on_bad_files != "error":
        return False
    whole = config.filters is None and config.columns is None
    return whole and bool(files) and all(file.endswith(".parquet") for file in files)


def split_rows(dataset: Faces, size: int, wanted) -> Iterator[tuple[int, int, Dataset | None]]:
    """Number, length and rows of each shard in turn; no rows where `wanted(number)` is false."""
    if not isinstance(dataset, IterableDataset):
        for number, start in enumerate(range(0, len(dataset), size)):
            share = range(start, min(start + size, len(dataset)))
            yield number, len(share), dataset.select(share) if wanted(number) else None
        return
    number, stream = 0, iter(dataset)
    while True:
        take, length, parts = wanted(number), 0, []
        # In parts, for one array may not hold the images of all.
        while rows := list(islice(stream, min(ROWS_READ, size - length))):
            length += len(rows)
            if take:
                parts.append(Dataset.from_list(rows, features=dataset.features))
        if not length:
            return
        yield number, length, concatenate_datasets(parts) if take else None
        number += 1


def read_rows(rows: Dataset, image_column: str, as_files: bool = False) -> tuple[pa.Table, Features]:
    """
    Rows as an Arrow table, and the features to write them with. Where images stand as paths, the files themselves come
    into the table, since what is written may be read on another machine.

    Args:
        as_files: Have the column hold image files, whatever it was; pixels become PNG.
    """
    table, features = rows.with_format("arrow")[:], Features(rows.features)
    kind = features[image_column]
    paths = isinstance(kind, Value) and "string" in kind.dtype
    if as_files or paths or isinstance(kind, Image):
        features[image_column] = Image()
    elif not isinstance(kind, dict):
        return table, features
    images = table[image_column].to_pylist()
    embedded = map(_as_file if as_files else _with_bytes, images)
    return set_images(table, image_column, embedded, None if kind is features[image_column] else IMAGE_TYPE), features


def set_images(table: pa.Table, image_column: str, images: Iterable, kind: pa.DataType | None = None) -> pa.Table:
    """The table with other images in their column, of the type that it has or of `kind`."""
    index, kind = table.schema.get_field_index(image_column), kind or table.schema.field(image_column).type
    parts, part, size = [], [], 0
    for image in images:
        part.append(image)
        size += len((image or {}).get("bytes") or b"")
        if size > ARRAY_BYTES:
            parts.append(pa.array(part, kind))
            part, size = [], 0
    return table.set_column(index, image_column, pa.chunked_array([*parts, pa.array(part, kind)], kind))


def repeat_rows(table: pa.Table, image_column: str, rows: np.ndarray) -> pa.Table:
    """The rows of a table, some of them several times, with nulls for their images, which would be copied for each."""
    none = pa.nulls(len(rows), table.schema.field(image_column).type)
    columns = [none if name == image_column else table[name].take(rows) for name in table.column_names]
    return pa.table(columns, names=table.column_names)


def _with_bytes(image: Any) -> dict | None:
    """An item of an image column with the file itself in it, as `datasets` writes it; as it is if there is no file."""
    if isinstance(image, str):
        image = {"bytes": None, "path": image}
    if isinstance(image, dict) and image.get("bytes") is None and image.get("path") and os.path.isfile(image["path"]):
        return {"bytes": Path(image["path"]).read_bytes(), "path": os.path.basename(image["path"])}
    return image


def _as_file(image: Any) -> dict | None:
    """As [`_with_bytes`], of an item in any form; `None` where it is no image that could become a file."""
    image = as_image(image)
    if not isinstance(image, np.ndarray):
        return _with_bytes(image) if isinstance(image, (str, dict)) else None
    try:
        picture = load_image(image)
    except FaceImageError:
        return None
    file = io.BytesIO()
    picture.save(file, "png")
    return {"bytes": file.getvalue(), "path": None}


# -- shards and manifest ----------------------------------------------------------------------------------------------


class LabelFolder:
    """
    A labelled dataset: shards `data/SPLIT-NNNNNN.parquet`, which any number of processes write, and `manifest.json`
    about them, which whoever finds them all there completes. What is there is whole, so that a run that was killed
    goes on.

    Args:
        output_dir: The folder; made where it is not there, with the manifest begun.
        split (`str`): Of the source.
        settings (`dict`): What the labels depend on; JSON. Every shard has the hash of it in its metadata.
        **described: What a reader wants to know and may differ between machines, such as where the faces were.

    Raises:
        ValueError: The folder was made with other settings.
    """

    def __init__(self, output_dir: str | os.PathLike, split: str, settings: dict[str, Any], **described: Any):
        self.folder, self._split = Path(output_dir), split.split("[")[0]
        self.digest = settings_digest(settings)
        described = {"diffiqa_hf": __version__, **described}
        self._manifest = {"complete": False, "described": described, "settings": settings}
        self._path, self._pending = self.folder / "manifest.json", self.folder / PENDING_FILE
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        there = begin_manifest(self._path, self._manifest)
        self._was_complete = there["complete"] and not self._pending.exists()

    @staticmethod
    def settings_there(output_dir: str | os.PathLike) -> dict[str, Any]:
        """What the labels of a folder depend on, by its manifest; nothing where there is none."""
        path = Path(output_dir) / "manifest.json"
        return json.loads(path.read_text())["settings"] if path.exists() else {}

    def path(self, number: int) -> Path:
        return self.folder / "data" / f"{self._split}-{number:06d}.parquet"

    def read(self, number: int, length: int | None = None) -> dict[str, Any] | None:
        """
        Rows, failed rows and settings of a shard; `None` where it is not there, or is no shard that can be read.

        Raises:
            ValueError: It was made with other settings, or has other than `length` rows.
        """
        path = self.path(number)
        if not path.exists():
            return None
        try:
            metadata = pq.read_metadata(path)
            shard = {"rows": metadata.num_rows, **json.loads(metadata.metadata[METADATA_KEY])}
        except (pa.ArrowInvalid, OSError, KeyError) as error:
            logger.warning(f"{path} can't be read and is made again: {error}")
            return None
        if shard["settings"] != self.digest:
            raise ValueError(f"{path} was made with other settings")
        if length is not None and shard["rows"] != length:
            raise ValueError(f"{path} has {shard['rows']} rows and not {length}")
        return shard

    def write(self, number: int, table: pa.Table, features: Features, failed: int) -> None:
        """Writes a shard; `failed` of its rows have no label."""
        ours = {METADATA_KEY: json.dumps({"settings": self.digest, "failed": failed})}
        schema = features.arrow_schema
        table = table.cast(schema).replace_schema_metadata({**schema.metadata, **ours})
        self._pending.touch()
        # Small row groups, as `datasets` writes images: a row is read without the whole shard.
        replace_file(self.path(number), lambda path: pq.write_table(table, path, row_group_size=100))

    def finish(self, lengths: Sequence[int], share: Share) -> bool:
        """
        Completes the manifest if all shards are there. Several processes may do so at the same time, and write the
        same.

        Args:
            lengths: Rows of each shard.
            share: Of this process.

        Returns:
            `bool`: whether it is for this process to push the folder: it is the first to complete it, or it is
            process 0 and there was nothing left to do.

        Raises:
            ValueError: As [`read`].
        """
        shards = []
        for number, length in enumerate(lengths):
            shard = self.read(number, length)
            if shard is None:
                return False
            name = self.path(number).relative_to(self.folder).as_posix()
            shards.append({"file": name, "rows": shard["rows"], "failed": shard["failed"]})
        totals = {"rows": sum(lengths), "failed": sum(shard["failed"] for shard in shards)}
        manifest = {**self._manifest, "complete": True, **totals, "shards": shards}
        write_text(self._path, json.dumps(manifest, indent=2) + "\n")
        logger.info(f"all {len(shards)} shards are there: {self._path} is complete")
        try:
            self._pending.unlink()  # which only one can do
        except FileNotFoundError:
            return self._was_complete and share.process == 0
        return True


__all__ = [
    "LabelFolder",
    "ParquetStream",
    "Share",
    "add_shard_arguments",
    "broken_rows_file",
    "check_shard_arguments",
    "find_share",
    "launched_share",
    "log_share",
    "open_faces",
    "read_rows",
    "repeat_rows",
    "set_images",
    "split_rows",
]
