# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Quality labels and scores as a stage of a Ray Data pipeline, for face sets in a Ray cluster: reading, writing,
scheduling and retrying are Ray's. The labels are those of `training/label_quality.py`, the scores those of `diffiqa
score`.

```python
import ray

from diffiqa_hf.labelling.ray import label_ray_dataset, score_ray_dataset

rows = ray.data.read_parquet("s3://bucket/faces/")
labelled = label_ray_dataset(rows, num_actors=8, num_gpus=1, batch_size=400, model="default")
labelled.write_parquet("s3://bucket/labels/")

scored = score_ray_dataset(rows, method="diffiqa-r", num_actors=8, id_column="name", output="/shared/scores")
```

Ray keeps no features of `datasets`: who reads the files with it says `cast_column("image", datasets.Image())` to get
pictures (the training scripts read the column as it is).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..scoring.threads import use_cores
from .labeller import QualityLabeller


if TYPE_CHECKING:
    import pyarrow as pa
    import ray.data

    from .score_parts import RowScorer, ScoreParts


class RayQualityLabeller(QualityLabeller):
    """
    A [`QualityLabeller`], with the same arguments, whose call is what `ray.data.Dataset.map_batches` wants with
    `batch_format="pyarrow"`: Arrow table to Arrow table, so that all other columns keep their types. Each actor of the
    pool makes one, which loads the model once. [`label_ray_dataset`] uses it; it stands for itself where a pipeline
    has batches of its own and the last bits of a score don't matter.
    """

    def __call__(self, batch: "pa.Table") -> "pa.Table":
        return self.label_table(batch)


class RayScorer:
    """
    What each actor of [`score_ray_dataset`] is: rows of images to rows of scores, Arrow table to Arrow table. With a
    folder of parts it writes them there, and gives the names and errors alone.

    Args:
        image_column, id_column, landmarks_column: Of the rows.
        output: Folder of the parts, or `None`.
        threads: Processors that it may use.
        **options: Of [`~diffiqa_hf.labelling.score_parts.make_row_scorer`].
    """

    def __init__(
        self,
        image_column: str,
        id_column: str | None,
        landmarks_column: str | None,
        output: str | None,
        threads: int,
        **options: Any,
    ):
        self.image_column, self.id_column, self.landmarks_column = image_column, id_column, landmarks_column
        self.output, self.threads, self.options = output, threads, options
        self.scorer: RowScorer | None = None
        self.parts: ScoreParts | None = None

    def _load(self) -> "RowScorer":
        # Not when it is made: what an actor raises then is no reason in one line.
        if self.scorer is None:
            from .score_parts import ScoreParts, make_row_scorer

            use_cores(self.threads)
            scorer = make_row_scorer(**self.options)
            if self.output is not None:
                self.parts = ScoreParts(self.output)
                self.parts.begin(scorer.settings, scorer.columns)
            self.scorer = scorer
        return self.scorer

    def __call__(self, batch: "pa.Table") -> "pa.Table":
        from .score_parts import images_of_rows, names_of_rows

        scorer = self._load()
        names = names_of_rows(batch, self.image_column, self.id_column) if len(batch) else []
        table = None if self.parts is None or not names else self.parts.read(names)
        if table is None:
            landmarks = None if self.landmarks_column is None else batch[self.landmarks_column].to_pylist()
            images = images_of_rows(batch, self.image_column) if len(batch) else []
            table = scorer(images, names, landmarks)
            if self.parts is not None and names:
                self.parts.write(names, table)
        # Nobody needs what is in a part.
        return table if self.parts is None else table.select(["file", "error"])


def room_for_actors(nodes: Sequence[Mapping[str, float]], num_cpus: float, num_gpus: float) -> int:
    """
    How many actors a cluster has room for, where one CPU of a node is left for what reads the rows.

    Args:
        nodes: Of each node the `CPU`s and `GPU`s.
        num_cpus, num_gpus: Of an actor.
    """

    def fits(cpus: float, gpus: float) -> float:
        counts = [left // need for left, need in ((cpus, num_cpus), (gpus, num_gpus)) if need]
        return max(min(counts, default=float("inf")), 0)

    shares = [(node.get("CPU", 0), node.get("GPU", 0)) for node in nodes]
    room = sum(fits(*share) for share in shares)
    # The reader takes room for actors from the node where that costs the least.
    readers = [fits(cpus, gpus) - fits(cpus - 1, gpus) for cpus, gpus in shares if cpus >= 1 and room < float("inf")]
    if room == float("inf"):
        return 2**31
    return int(room - min(readers)) if readers else 0


def check_room(nodes: Sequence[Mapping[str, float]], actors: int, num_cpus: float, num_gpus: float) -> None:
    """
    Whether a cluster has room for so many actors and for what reads the rows, without which Ray waits for ever, and
    says nothing.

    Raises:
        ValueError: It has not.
    """
    cpus, gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    room = room_for_actors(nodes, num_cpus, num_gpus)
    if actors <= room:
        return
    if actors * num_gpus > gpus:
        raise ValueError(f"{actors} actors of {num_gpus:g} GPUs are asked for, and the cluster has {gpus:g}")
    if actors * num_cpus + 1 > cpus:
        raise ValueError(
            f"{actors} actors of {num_cpus:g} CPUs leave none of the cluster's {cpus:g} to read the rows: give them "
            "less (num_actors, num_cpus), so that one is free"
        )
    raise ValueError(
        f"{actors} actors of {num_cpus:g} CPUs and {num_gpus:g} GPUs do not fit the cluster's {len(nodes)} nodes with "
        f"a CPU left to read the rows: room for {room}"
    )


def living_nodes() -> list[Mapping[str, float]]:
    """The resources of each node of the cluster; none where Ray is not running."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]] if ray.is_initialized() else []


def _map_in_actors(
    rows: "ray.data.Dataset",
    actor: type,
    arguments: Mapping[str, Any],
    num_actors: int | tuple[int, int],
    num_cpus: float | None,
    num_gpus: float,
    shard_size: int,
    ordered: bool,
    same_rows: bool,
) -> "ray.data.Dataset":
    """
    Rows through a pool of actors, in batches of `shard_size`; where `ordered`, counted from the first row.
    """
    from ray.data import ActorPoolStrategy

    if shard_size < 1:
        raise ValueError(f"shard_size has to be a positive number, got {shard_size}")
    least, most = (num_actors, num_actors) if isinstance(num_actors, int) else num_actors
    if nodes := living_nodes():
        check_room(nodes, least, 1 if num_cpus is None else num_cpus, num_gpus)
    if ordered:
        # Without it, blocks are cut from rows in the order in which they happen to be read.
        rows.context.execution_options.preserve_order = True
        rows = rows.repartition(target_num_rows_per_block=shard_size, strict=True)
    return rows.map_batches(
        actor,
        fn_constructor_kwargs=dict(arguments),
        batch_size=shard_size,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=least, max_size=most),
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        udf_modifying_row_count=not same_rows,
    )


def _check_ray(what: str) -> None:
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{what} on a Ray cluster needs Ray Data: pip install 'diffiqa-hf[ray]'") from error


def label_ray_dataset(
    rows: "ray.data.Dataset",
    *,
    num_actors: int | tuple[int, int] = 1,
    num_cpus: float | None = None,
    num_gpus: float = 0,
    shard_size: int = 1000,
    **labeller_options: Any,
) -> "ray.data.Dataset":
    """
    Rows with the quality of their faces: `quality`, the five terms and `quality_error`, as [`QualityLabeller`] says.

    The rows go to the actors in blocks of `shard_size`, counted from the first row, and come out in their order. So
    the labels are to the bit those that `training/label_quality.py` gives the same rows with its `--shard_size`, on
    one kind of device and with as many threads (`OMP_NUM_THREADS`, or what Ray makes of it: `num_cpus`), with any
    number of actors, and also where one was lost and its block done again.

    Nothing runs before the dataset is consumed, as by its `write_parquet`.

    Args:
        rows (`ray.data.Dataset`): With a column of aligned faces: encoded images (bytes, or the `{"bytes", "path"}` of
            `datasets`), paths, or arrays (H, W, C), as `ray.data.read_images` gives them. Its execution option
            `preserve_order` is turned on.
        num_actors (`int` or `tuple[int, int]`): Actors, each with a model of its own; or the fewest and the most of a
            pool that grows and shrinks.
        num_cpus (`float`, *optional*): CPUs that Ray reserves for each; 1 when not given.
        num_gpus (`float`): GPUs that Ray reserves for each. Without one it runs on the CPU, unless the option `device`
            says otherwise.
        shard_size (`int`): Rows of a block: what an actor takes at a time, and what is lost with it.
        **labeller_options: Of [`QualityLabeller`]: `method`, `model`, `fr_model`, `batch_size`, `seed`,
            `image_column`... They travel to the actors, where folders of models have to be.

    Returns:
        `ray.data.Dataset`

    Raises:
        ImportError: Ray Data is not installed.
        ValueError: `shard_size` or `num_actors` makes no sense, or the nodes have no room for the actors and a CPU
            more.
        ray.exceptions.RayTaskError: When it is consumed, with the reason as its cause: there are labels already, or
            what [`~diffiqa_hf.methods.load_method`] raises.
    """
    _check_ray("labelling")
    if not num_gpus:
        labeller_options.setdefault("device", "cpu")  # Ray hides from an actor no GPU that it has not reserved
    pool = (num_actors, num_cpus, num_gpus, shard_size)
    return _map_in_actors(rows, RayQualityLabeller, labeller_options, *pool, ordered=True, same_rows=True)


def score_ray_dataset(
    rows: "ray.data.Dataset",
    *,
    method: str = "diffiqa-r",
    weights: str | None = None,
    fr_model: str | None = None,
    image_column: str = "image",
    id_column: str | None = None,
    landmarks_column: str | None = None,
    output: str | Path | None = None,
    num_actors: int | tuple[int, int] = 1,
    num_cpus: float | None = None,
    num_gpus: float = 0,
    shard_size: int = 1000,
    preserve_order: bool = False,
    **options: Any,
) -> "ray.data.Dataset":
    """
    A row for each face of rows of images, by any method: `file`, what the row is called; `face`, which of its image;
    `score`, higher is better; `percentile`, where the method has a calibration that holds; its terms; and `error`,
    the reason where there is no score. An image that can't be read is such a row and ends nothing. Within rounding
    (float32) the scores are those of `diffiqa score`, on any number of actors, and where one was lost.

    Without `output` nothing runs before the dataset is consumed, as by its `write_parquet`. With it rows are scored
    now, into parts that each are whole, and a run that was stopped goes on by the same call: what is in the folder is
    not scored again. [`~diffiqa_hf.labelling.score_parts.join_score_parts`] makes one table of them.

    Args:
        rows (`ray.data.Dataset`): With a column of images, as [`label_ray_dataset`] takes it.
        method, weights, fr_model (`str`): As [`~diffiqa_hf.methods.load_method`] takes them, on every node.
        image_column (`str`): Of the images.
        id_column (`str`, *optional*): What rows are called, each by another name; the path of its image where it is
            not given.
        landmarks_column (`str`, *optional*): Of five points (5, 2) in pixels, or `None`, to align by.
        output (`str` or `Path`, *optional*): Folder on storage that all nodes see.
        num_actors, num_cpus, num_gpus: As there. A cluster that may lose a node has to have room for the actors and a
            CPU more on those that are left.
        shard_size (`int`): Rows that an actor takes at a time, and rows of a part. What is lost with an actor is a few
            of them.
        preserve_order (`bool`): Whether the scores come in the order of the rows, which is slower: an actor waits for
            the rows before its own. Parts have no order.
        **options: `batch_size`, `seed`, `dtype`, `device`, `align`, `detector`, `faces` (`"largest"` or `"all"`), and
            the method's own.

    Returns:
        `ray.data.Dataset`: of the scores; with `output` of all that are in the folder, those of earlier runs too.

    Raises:
        ImportError: Ray Data is not installed.
        ValueError: As [`label_ray_dataset`].
        ray.exceptions.RayTaskError: With the reason as its cause: the rows have no such columns, the folder has scores
            made with other settings, or what [`~diffiqa_hf.methods.load_method`] raises.
    """
    _check_ray("scoring")
    if not num_gpus:
        options.setdefault("device", "cpu")
    options |= {"method": method, "weights": weights, "fr_model": fr_model}
    options |= {"image_column": image_column, "id_column": id_column, "landmarks_column": landmarks_column}
    options |= {"output": None if output is None else str(Path(output).absolute())}
    options |= {"threads": max(1, int(num_cpus or 1))}
    pool = (num_actors, num_cpus, num_gpus, shard_size)
    if output is None:
        return _map_in_actors(rows, RayScorer, options, *pool, ordered=preserve_order, same_rows=False)

    import ray

    from .score_parts import ScoreParts

    parts = ScoreParts(Path(output).absolute())
    written = parts.digests()
    if len(written):
        columns = {"image_column": image_column, "id_column": id_column, "written": ray.put(written)}
        rows = rows.map_batches(leave_out_written, fn_kwargs=columns, batch_format="pyarrow", batch_size=None)
    scored = _map_in_actors(rows, RayScorer, options, *pool, ordered=preserve_order, same_rows=False)
    for _ in scored.iter_batches(batch_size=None, batch_format="pyarrow"):
        pass
    parts.complete()
    if not parts.files():
        raise ValueError("there are no rows to score")
    return ray.data.read_parquet([str(path) for path in parts.files()])


def leave_out_written(batch: "pa.Table", image_column: str, id_column: str | None, written: Any) -> "pa.Table":
    """The rows of a batch whose names are not among those with these digests."""
    from .score_parts import name_digests, names_of_rows

    if not len(batch):
        return batch
    digests = written
    if not isinstance(written, np.ndarray):  # kept by the cluster
        import ray

        digests = ray.get(written)
    ours = name_digests(names_of_rows(batch, image_column, id_column))
    found = np.searchsorted(digests, ours)
    there = digests[np.minimum(found, len(digests) - 1)] == ours
    return batch.filter(~there)


__all__ = ["RayQualityLabeller", "label_ray_dataset", "score_ray_dataset"]
