# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The images and comparisons of a study: a published benchmark, or a person's own folder or Parquet files."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...file_utils import file_fault
from ...scoring.image_files import FoundImages, find_images
from ...scoring.names import Names
from ...scoring.people import People, PeopleError, parse_people
from ...scoring.tables import TableError, as_text
from ..benchmarks import Benchmark, load_benchmark
from ..pair_lists import read_pairs
from ..pair_sampling import sample_pairs
from .config import BenchmarkConfig, ConfigError


logger = logging.getLogger(__name__)


def open_benchmark(config: BenchmarkConfig, paired_only: bool = True) -> Benchmark:
    """
    The images and comparisons of one column, by its configuration.

    Raises:
        ConfigError: They can't be read as described; the message says why.
    """
    try:
        if config.benchmark is not None and config.root is not None:
            benchmark = load_benchmark(config.benchmark, config.root, **config.options)
        else:
            benchmark = _own_benchmark(config)
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise ConfigError(f"{config.name}: {error}") from error
    return replace(benchmark.paired_only() if paired_only else benchmark, name=config.name)


def _own_benchmark(config: BenchmarkConfig) -> Benchmark:
    if config.folder is not None:
        images, people = _folder_images(config.folder, config.identities, listed=config.pairs is not None)
    else:
        images, people = _parquet_images(config)
    if config.pairs is None:
        labels = images["identity"][:]
        known = [row for row, label in enumerate(labels) if label is not None]
        if not known:
            raise TableError("no image is of anybody known")
        images, identities = images.select(known), np.array([labels[row] for row in known])
        each = "person"
        if config.min_images > 1:
            each = f"person with {config.min_images} images or more"
            _, label, counts = np.unique(identities, return_inverse=True, return_counts=True)
            kept = np.flatnonzero(counts[label] >= config.min_images)
            if not len(kept):
                raise TableError(f"nobody has {config.min_images} images; the most are {counts.max()}")
            images, identities = images.select(kept), identities[kept]
        pairs, mated = sample_pairs(identities, config.mated_per_person, config.nonmated, config.seed)
        protocol = (
            f"all mated pairs, at most {config.mated_per_person} of each {each}, and up to {config.nonmated:,} "
            f"non-mated ones{' of the same people' if config.min_images > 1 else ''}, drawn with seed {config.seed}"
        )
    else:
        listed = read_pairs(config.pairs)
        index = Names(images["file"][:], config.parquet if isinstance(config.parquet, str) else str(config.folder))
        rows = index.find([*listed.first, *listed.second], listed.source, listed.identities is not None)
        pairs, mated, protocol = rows.reshape(2, -1).T.astype(np.int32), listed.mated, config.pairs
    protocol += f". {people}" if people else ""
    source = str(config.folder or config.parquet)
    return Benchmark(config.name, images, pairs, mated, protocol=protocol, generated=not config.pairs, source=source)


def _parquet_images(config: BenchmarkConfig):
    """The images, and what there is to say of the people."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = [config.parquet] if isinstance(config.parquet, str) else config.parquet or []
    tables = []
    for path in paths:
        if reason := file_fault(path):
            raise TableError(f"{path}: {reason}")
        names = pq.read_schema(path).names
        columns = [config.image_column, config.identity_column]
        if lacking := [name for name in columns if name not in names]:
            raise TableError(f"{path}: has no column {lacking[0]!r}; it has {', '.join(names)}")
        with_file = config.file_column in names
        table = pq.read_table(path, columns=columns + ([config.file_column] if with_file else []))
        if not with_file:
            rows = [f"{Path(path).name} row {row}" for row in range(len(table))]
            table = table.append_column(config.file_column, pa.array(rows))
        table = table.rename_columns(["image", "identity", "file"]).replace_schema_metadata(None)
        labels = pa.array([as_text(label) for label in table["identity"].to_pylist()], pa.string())
        tables.append(table.set_column(1, "identity", labels))
    table = pa.concat_tables(tables)
    people = People(table["identity"].to_pylist(), f"the column {config.identity_column}", table["file"].to_pylist())
    images = datasets.Dataset(table).cast_column("image", datasets.Image(decode=False))
    return images, people.said()


def _folder_images(folder: str, identities: str | None = None, listed: bool = False):
    """
    The images, and what there is to say of the people: those of a rule, as [`parse_people`] has it (`folder` unless
    given); where the pairs are `listed`, and folders leave open who is who, nobody is known.
    """
    import datasets

    found = find_images([folder], recursive=True) if Path(folder).is_dir() else FoundImages()
    if found.problems or not found.files:
        raise TableError(found.problems[0] if found.problems else f"{folder}: no images")
    names = [Path(path).relative_to(folder).as_posix() for path in found.files]
    try:
        people = parse_people(identities or "folder", "identities:", [folder])(found.files)
        labels, said = people.labels, replace(people, files=names).said()
    except PeopleError:
        if not listed or identities is not None:
            raise
        labels, said = [None] * len(found.files), ""
    for line in found.notes:
        logger.warning("%s: %s", folder, line)
    columns = {
        "image": found.files,
        "file": names,
        "identity": labels,
    }
    features = {"image": datasets.Image(decode=False), **dict.fromkeys(("file", "identity"), datasets.Value("string"))}
    return datasets.Dataset.from_dict(columns, datasets.Features(features)), said


def example_faces(folder: str):
    """Those of the report, which are nobody's."""
    import datasets

    found = find_images([folder], recursive=True) if Path(folder).is_dir() else FoundImages()
    if not found.files:
        raise TableError(found.problems[0] if found.problems else f"{folder}: no images")
    columns = {"image": found.files, "file": [Path(path).relative_to(folder).as_posix() for path in found.files]}
    features = {"image": datasets.Image(decode=False), "file": datasets.Value("string")}
    return datasets.Dataset.from_dict(columns, datasets.Features(features))


__all__ = ["example_faces", "open_benchmark"]
