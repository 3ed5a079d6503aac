# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Quality labels as a stage of a Ray Data pipeline, for face sets that live in a Ray cluster: the rows, their order and
their labels are those of `training/label_quality.py`, and reading, writing, scheduling and retrying are Ray's.

```python
import ray

from diffiqa_hf.labelling.ray import label_ray_dataset

rows = ray.data.read_parquet("s3://bucket/faces/")
labelled = label_ray_dataset(rows, num_actors=8, num_gpus=1, batch_size=400, model="default")
labelled.write_parquet("s3://bucket/labels/")
```

Ray keeps no features of `datasets`: who reads the files with it says `cast_column("image", datasets.Image())` to get
pictures (the training scripts read the column as it is).
"""

from typing import TYPE_CHECKING, Any

from .labeller import QualityLabeller


if TYPE_CHECKING:
    import pyarrow as pa
    import ray.data


class RayQualityLabeller(QualityLabeller):
    """
    A [`QualityLabeller`], with the same arguments, whose call is what `ray.data.Dataset.map_batches` wants with
    `batch_format="pyarrow"`: Arrow table to Arrow table, so that all other columns keep their types. Each actor of the
    pool makes one, which loads the model once. [`label_ray_dataset`] uses it; it stands for itself where a pipeline
    has batches of its own and the last bits of a score don't matter.
    """

    def __call__(self, batch: "pa.Table") -> "pa.Table":
        return self.label_table(batch)


def check_resources(actors: int, num_cpus: float, num_gpus: float) -> None:
    """
    Whether the cluster has room for so many actors and for what reads the rows, without which Ray waits for ever, and
    says nothing.

    Raises:
        ValueError: It has not.
    """
    import ray

    if not ray.is_initialized():
        return
    there = ray.cluster_resources()
    cpus, gpus = there.get("CPU", 0), there.get("GPU", 0)
    if actors * num_cpus + 1 > cpus:
        raise ValueError(
            f"{actors} actors of {num_cpus:g} CPUs leave none of the cluster's {cpus:g} to read the rows: give them "
            "less (num_actors, num_cpus), so that one is free"
        )
    if actors * num_gpus > gpus:
        raise ValueError(f"{actors} actors of {num_gpus:g} GPUs are asked for, and the cluster has {gpus:g}")


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
        ValueError: `shard_size` or `num_actors` makes no sense, or the cluster has not as many CPUs as the actors and
            one more, or not as many GPUs.
        ray.exceptions.RayTaskError: When it is consumed, with the reason as its cause: there are labels already, or
            what [`~diffiqa_hf.methods.load_method`] raises.
    """
    try:
        from ray.data import ActorPoolStrategy
    except ImportError as error:
        raise ImportError("labelling on a Ray cluster needs Ray Data: pip install 'diffiqa-hf[ray]'") from error
    if shard_size < 1:
        raise ValueError(f"shard_size has to be a positive number, got {shard_size}")
    if not num_gpus:
        labeller_options.setdefault("device", "cpu")  # Ray hides from an actor no GPU that it has not reserved
    least, most = (num_actors, num_actors) if isinstance(num_actors, int) else num_actors
    check_resources(least, 1 if num_cpus is None else num_cpus, num_gpus)
    # Without it, blocks are cut from rows in the order in which they happen to be read.
    rows.context.execution_options.preserve_order = True
    return rows.repartition(target_num_rows_per_block=shard_size, strict=True).map_batches(
        RayQualityLabeller,
        fn_constructor_kwargs=labeller_options,
        batch_size=shard_size,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=least, max_size=most),
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        udf_modifying_row_count=False,
    )


__all__ = ["RayQualityLabeller", "label_ray_dataset"]
