# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`diffiqa score --ray`: images of folders and Parquet files on storage that all machines see, on a Ray cluster."""

import argparse
import importlib.util
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..scoring.names import row_name
from .errors import CommandError, reason
from .progress import Progress
from .scoring import positive


if TYPE_CHECKING:
    import pyarrow as pa

    from ..labelling.score_parts import RowScorer

DEFAULTS = {
    "ray_actors": None,
    "ray_cpus": 1.0,
    "ray_gpus": 0.0,
    "shard_size": 500,
    "image_column": "image",
    "id_column": None,
}


def add_ray_arguments(parser: argparse.ArgumentParser) -> None:
    """Where else than here images are scored."""
    ray = parser.add_argument_group(
        "many machines",
        "With --ray the images are scored by a Ray cluster (pip install 'diffiqa-hf[ray]'), whose machines see the "
        "same folders and have the same package. Parquet files of images (.parquet) are taken as well. Rows come as "
        "they are done, and not in order; an image is scored once, also where a machine is lost.",
    )
    ray.add_argument("--ray", metavar="ADDRESS", help="of the cluster, such as auto or HOST:6379; local: here alone")
    ray.add_argument("--ray-actors", type=positive, metavar="N", help="that score (as many as there is room for)")
    ray.add_argument("--ray-cpus", type=float, metavar="N", help="of an actor (1)")
    ray.add_argument("--ray-gpus", type=float, metavar="N", help="of an actor, such as 0.5 (none)")
    ray.add_argument("--shard-size", type=positive, metavar="N", help="images that it takes at a time (500)")
    ray.add_argument("--image-column", metavar="NAME", help="of Parquet files (image)")
    ray.add_argument(
        "--id-column", metavar="NAME", help="of Parquet files: what rows are called (FILE#ROW, counted from 0)"
    )
    parser.set_defaults(**DEFAULTS)


@dataclass(frozen=True)
class Unit:
    """
    What an actor takes at a time.

    Args:
        names (`tuple[str]`): Of its images, as the table has them.
        path (`str`, *optional*): The Parquet file that they are in; without one they are files.
        group, rows (`int`, `tuple[int]`): Which row group of it, and which rows in that.
        column (`str`): Of the images.
    """

    names: tuple[str, ...]
    paths: tuple[str, ...] = ()
    path: str | None = None
    group: int = 0
    rows: tuple[int, ...] = ()
    column: str = "image"

    def images(self) -> list[Any]:
        """The images, or their files."""
        if self.path is None:
            return list(self.paths)
        import pyarrow.parquet as pq

        from ..labelling.score_parts import images_of_rows

        with pq.ParquetFile(self.path) as file:
            return images_of_rows(file.read_row_group(self.group, columns=[self.column]).take(self.rows), self.column)


def split_tables(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """The Parquet files among what is named, those in folders too, and all that is named and no such file."""
    tables, others = [], []
    for path in paths:
        inside = []
        if path.endswith(".parquet") and os.path.isfile(path):
            tables.append(path)
            continue
        if os.path.isdir(path):
            inside = sorted(entry.path for entry in os.scandir(path) if entry.name.endswith(".parquet"))
            tables += inside
        if not inside:
            others.append(path)
    return tables, others


def table_units(path: str, args: argparse.Namespace) -> Iterator[Unit]:
    """
    Units of a Parquet file, of whose columns only the ids are read.

    Raises:
        CommandError: It can't be read, has no such columns, or a row has no id.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for column in (args.image_column, args.id_column):
                if column is not None and column not in file.schema_arrow.names:
                    has = ", ".join(file.schema_arrow.names)
                    raise CommandError(f"{path}: no column {column!r}; it has {has}: --image-column, --id-column")
            first = 0
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                names: list[Any] = [f"{path}#{row}" for row in range(first, first + count)]
                if args.id_column is not None:
                    names = file.read_row_group(group, columns=[args.id_column])[args.id_column].to_pylist()
                    if None in names:
                        raise CommandError(f"{path}: row {first + names.index(None)} has no {args.id_column!r}")
                first += count
                for start in range(0, count, args.shard_size):
                    rows = range(start, min(start + args.shard_size, count))
                    called = tuple(str(names[row]) for row in rows)
                    yield Unit(called, (), os.path.abspath(path), group, tuple(rows), args.image_column)
    except (OSError, pa.ArrowInvalid) as error:
        raise CommandError(f"{path}: {reason(error)}") from error


def left_of(units: Iterable[Unit], todo: set[str]) -> Iterator[Unit]:
    """Units of Parquet files without the images whose names are not among these."""
    for unit in units:
        left = [at for at, name in enumerate(unit.names) if name in todo]
        if left:
            names, rows = tuple(unit.names[at] for at in left), tuple(unit.rows[at] for at in left)
            yield replace(unit, names=names, rows=rows)


def file_units(files: Sequence[str], size: int) -> Iterator[Unit]:
    """Units of image files."""
    for start in range(0, len(files), size):
        part = files[start : start + size]
        yield Unit(tuple(map(row_name, part)), tuple(map(os.path.abspath, part)))


def take_tables(args: argparse.Namespace) -> list[Unit]:
    """Units of the Parquet files that are named, which leaves the paths of images alone."""
    tables, args.paths = split_tables(args.paths)
    return [unit for path in tables for unit in table_units(path, args)]


def units_left(files: Sequence[str], tables: Iterable[Unit], todo: set[str], size: int) -> list[Unit]:
    """Of image files and of units of Parquet files those that are to be scored."""
    return [*file_units([file for file in files if file in todo], size), *left_of(tables, todo)]


def for_actors(args: argparse.Namespace) -> argparse.Namespace:
    """Options as they travel: files by their whole paths, and on CPUs where an actor has no GPU."""
    values = {name: value for name, value in vars(args).items() if name not in ("paths", "run", "usage_error")}
    for name in ("model", "fr_model", "calibration", "detector"):
        if values[name] and os.path.exists(values[name]):
            values[name] = os.path.abspath(values[name])
    if not args.ray_gpus:
        values["device"] = values["device"] or "cpu"
    return argparse.Namespace(**values)


class UnitScorer:
    """
    An actor: a row with a pickled [`Unit`] to the rows of its images.

    Args:
        load: Makes the [`RowScorer`], on the actor's machine.
        threads: Processors that it may use.
    """

    def __init__(self, load: "Callable[[], RowScorer]", threads: int):
        self.load, self.threads = load, threads
        self.scorer: RowScorer | None = None

    def __call__(self, batch: dict[str, Any]) -> "pa.Table":
        import pyarrow as pa

        from ..scoring.threads import use_cores

        if self.scorer is None:
            use_cores(self.threads)
            self.scorer = self.load()
        return pa.concat_tables([self.scorer(unit.images(), unit.names) for unit in batch["item"]])


@contextmanager
def cluster(args: argparse.Namespace) -> Iterator[int]:
    """
    Is connected to the cluster, with the number of actors that are to score.

    Raises:
        CommandError: There is no such cluster, or it has no room.
    """
    import logging

    import ray

    from ..labelling.ray import check_room, living_nodes, room_for_actors

    ours = not ray.is_initialized()
    if ours:
        here = {"include_dashboard": False} if args.ray == "local" else {}
        try:
            ray.init(args.ray, log_to_driver=False, logging_level=logging.ERROR, **here)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise CommandError(f"--ray {args.ray}: {reason(error)}") from error
    try:
        nodes = living_nodes()
        actors = args.ray_actors or max(1, room_for_actors(nodes, args.ray_cpus, args.ray_gpus))
        try:
            check_room(nodes, actors, args.ray_cpus, args.ray_gpus)
        except ValueError as error:
            raise CommandError(f"--ray {args.ray}: {error}") from error
        yield actors
    finally:
        if ours:
            ray.shutdown()


def score_units(
    units: Sequence[Unit], load: "Callable[[], RowScorer]", args: argparse.Namespace
) -> Iterator[list[dict]]:
    """
    The rows of units, those of one image together.

    Args:
        load: As for [`UnitScorer`]; it travels to the actors.

    Raises:
        CommandError: As [`cluster`].
        RuntimeError: The cluster could not do it, with the reason.
    """
    if not units:
        return
    with cluster(args) as actors:
        import ray
        from ray.data import ActorPoolStrategy, DataContext

        DataContext.get_current().enable_progress_bars = False
        scored = ray.data.from_items(list(units), override_num_blocks=len(units)).map_batches(
            UnitScorer,
            fn_constructor_args=(load, max(1, int(args.ray_cpus))),
            batch_size=1,
            compute=ActorPoolStrategy(size=min(actors, len(units))),
            num_cpus=args.ray_cpus,
            num_gpus=args.ray_gpus,
        )
        total = sum(len(unit.names) for unit in units)
        with Progress(total, args.quiet) as bar:
            try:
                for table in scored.iter_batches(batch_size=None, batch_format="pyarrow"):
                    for _, rows in itertools.groupby(table.to_pylist(), key=lambda row: row["file"]):
                        yield list(rows)
                        bar.update()
            except ray.exceptions.RayError as error:
                raise RuntimeError(reason(_cause(error))) from error


def _cause(error: BaseException) -> BaseException:
    """What went wrong in an actor, and not where."""
    cause = getattr(error, "cause", None) or error.__cause__
    return error if cause is None else _cause(cause)


def check_ray_options(args: argparse.Namespace) -> None:
    """
    Raises:
        CommandError: An option of this group is given without `--ray`, or one with it that does not go with it; there
            is no Ray.
    """
    if not args.ray:
        given = [name for name, value in DEFAULTS.items() if getattr(args, name) != value]
        if given:
            raise CommandError(f"--{given[0].replace('_', '-')} goes with --ray")
        return
    if any(importlib.util.find_spec(name) is None for name in ("ray", "pyarrow")):
        raise CommandError("--ray needs Ray Data: pip install 'diffiqa-hf[ray]'")
    if args.ray_cpus <= 0 or args.ray_gpus < 0:
        raise CommandError("--ray-cpus is a positive number, and --ray-gpus none below 0")
    for name in ("shard", "plot"):
        if getattr(args, name):
            raise CommandError(f"--{name} does not go with --ray")


__all__ = [
    "Unit",
    "add_ray_arguments",
    "check_ray_options",
    "cluster",
    "file_units",
    "for_actors",
    "left_of",
    "score_units",
    "split_tables",
    "table_units",
    "take_tables",
    "units_left",
]
