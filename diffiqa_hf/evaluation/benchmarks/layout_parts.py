# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What several layouts have: images with names, images in Parquet files, lists of pairs, points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ...file_utils import file_fault
from .benchmark import BenchmarkError
from .cards import BenchmarkCard
from .files import FileTree, dataset_of_files, dataset_of_table, decode_lines
from .pair_files import PairList


def find_bin_file(tree: FileTree, card: BenchmarkCard) -> str | None:
    """The package of insightface that the tree is, or has where it has no images."""
    if tree.root.is_file() and tree.root.suffix == ".bin":
        return str(tree.root)
    if card.bin_file is None or tree.images():
        return None
    place = tree.find(card.bin_file)
    return tree.path(place) if place and not tree.is_packed(place) else None


def lfw_images(tree: FileTree, people: set[str] | None):
    """The images `Name/Name_0001.jpg`, and the row of each by `Name_0001`."""
    names = []
    for name in tree.images():
        person = PurePosixPath(name).parent.name
        stem, _, number = stem_of(name).rpartition("_")
        if stem == person and number.isdecimal() and (people is None or person in people):
            names.append(name)
    row_of = unique_rows([stem_of(name) for name in names], names, tree)
    return dataset_of_files(tree, names, identity=[PurePosixPath(name).parent.name for name in names]), row_of


def parquet_images(tree: FileTree, tables: Sequence[str], people: set[str] | None):
    """
    The images of parquet files with the columns `image` and `identity`, and the row of each by its name: the column
    `name`, or the path in `image`, without ending.

    Landmarks of such a file aren't taken: those that we know of belong to the picture before it was aligned.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    places = [place for table in tables if (place := tree.find(table))]
    if tree.root.suffix == ".parquet" or len(places) < len(tables) or not tables:
        places = tree.with_suffix(".parquet")
    if not places:
        raise BenchmarkError(f"{tree.root}: neither images nor parquet files are there")
    parts = []
    for place in places:
        try:
            parts.append(_parquet_table(pq, pa, pc, tree.path(place)))
        except (pa.ArrowException, OSError) as error:
            raise BenchmarkError(f"{place}: cannot be read as parquet ({str(error).splitlines()[0]})") from error
    table = pa.concat_tables(parts)
    if people is not None:
        table = table.filter(pc.is_in(table["identity"], pa.array(sorted(people), pa.string())))
    names = table["name"].to_pylist()
    row_of = unique_rows(names, names, tree)
    return dataset_of_table(table, file=names, identity=table["identity"].to_pylist()), row_of


def _parquet_table(pq, pa, pc, path: str):
    if reason := file_fault(path):
        raise BenchmarkError(f"{path}: {reason}")
    schema = pq.read_schema(path)
    if lacking := {"image", "identity"} - set(schema.names):
        raise BenchmarkError(f"{path}: the column {sorted(lacking)[0]} is missing")
    columns = [name for name in ("image", "identity", "name") if name in schema.names]
    table = pq.read_table(path, columns=columns)
    if not pa.types.is_struct(table["image"].type):
        raise BenchmarkError(f"{path}: the column image is not one of datasets.Image")
    if "name" in columns:
        names = table["name"].cast(pa.string())
    else:
        names = pa.array(
            [path and stem_of(path) for path in pc.struct_field(table["image"], "path").to_pylist()], pa.string()
        )
    if names.null_count:
        raise BenchmarkError(f"{path}: images without a name, in the column name or in the path of image")
    return pa.table({"image": table["image"], "identity": table["identity"].cast(pa.string()), "name": names})


def read_pairs_of(tree: FileTree, basename: str | None, options: Mapping[str, Any], parse: Callable) -> PairList:
    if options["pairs_file"] is not None:
        path = Path(options["pairs_file"])
        try:
            return parse(decode_lines(path.read_bytes(), str(path)), str(path))
        except OSError as error:
            raise BenchmarkError(f"{path}: {error.strerror or error}") from error
    if basename is None:
        raise BenchmarkError(f"{tree.root}: a list of pairs has to be named (pairs_file)")
    place = tree.find(basename)
    if place is None:
        raise BenchmarkError(f"{tree.root}: {basename} is missing; put it there or name it (pairs_file)", (basename,))
    return parse(tree.read_lines(place), place)


def required_file(tree: FileTree, basename: str, card: BenchmarkCard) -> str:
    place = tree.find(basename)
    if place is None:
        raise BenchmarkError(f"{tree.root}: {basename} of {card.title} is missing", (basename,))
    return place


def choose_images(images: str | None, kinds: Mapping[str, Any], tree: FileTree) -> str:
    if not kinds:
        raise BenchmarkError(f"{tree.root}: no images are there")
    if images is None:
        return next(iter(kinds))
    if images not in kinds:
        raise BenchmarkError(f"{tree.root}: there are no {images} images, only {' and '.join(kinds)} ones")
    return images


def unique_rows(keys: Sequence[str], names: Sequence[str], tree: FileTree) -> dict[str, int]:
    row_of: dict[str, int] = {}
    for row, key in enumerate(keys):
        if row_of.setdefault(key, row) != row:
            other = names[row_of[key]]
            raise BenchmarkError(
                f"{tree.root}: {key} is there twice, as {other} and {names[row]}; name one of the folders"
            )
    return row_of


def read_points(tree: FileTree, packed: Mapping[str, bytes], place: str | None) -> list[list[float]] | None:
    """Five points, from a file of five lines `x y`."""
    if place is None:
        return None
    lines = decode_lines(packed[place], place) if place in packed else tree.read_lines(place)
    try:
        points = [[float(value) for value in line.split()] for line in lines if line.strip()]
    except ValueError:
        points = []
    if [len(point) for point in points] != [2] * 5:
        raise BenchmarkError(f"{place}: not five lines 'x y'")
    return points


def stem_of(name: str) -> str:
    return PurePosixPath(name).stem


__all__ = [
    "choose_images",
    "find_bin_file",
    "lfw_images",
    "parquet_images",
    "read_pairs_of",
    "read_points",
    "required_file",
    "stem_of",
    "unique_rows",
]
