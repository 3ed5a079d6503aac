# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Whether a launcher asked for more processes than there are, and how several are started."""

import os
from collections.abc import Mapping


WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # those that Accelerate reads
LAUNCH_HELP = """\
Several processes: on GPUs `accelerate launch`. On CPUs `accelerate launch --cpu --num_processes 2` starts one; two are
started by `ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 SCRIPT ...` or, with `accelerate launch --cpu` and
`--mpirun_hostfile FILE`, by MPI. A script warns where it is alone and was not meant to be."""


def missing_processes(processes: int, environment: Mapping[str, str] = os.environ) -> str | None:
    """
    A line for who asked a launcher for several processes and has fewer; `None` where as many are there.

    Of `accelerate launch --cpu --num_processes 2` there is one process, which is told where to meet others
    (`MASTER_ADDR`), and not how many (accelerate 1.15: `prepare_simple_launcher_cmd_env`). Of `torchrun` without a GPU
    and without `ACCELERATE_USE_CPU`, and of `srun`, there are several, each of which takes itself for the only one.

    Args:
        processes: How many share the work, as the script knows it.
        environment: What the launcher has set.
    """
    sizes = [int(environment[name]) for name in WORLD_SIZES if environment.get(name, "").isdecimal()]
    if sizes:
        wanted = sizes[0]
        if processes >= wanted:
            return None
        remedy = "set ACCELERATE_USE_CPU=true, without which Accelerate joins processes on GPUs alone"
        return f"{wanted} processes were started, and each of them takes itself for one of {processes}: {remedy}"
    if processes > 1:
        return None
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "")
    if tasks.isdecimal() and int(tasks) > 1:
        return f"srun started {tasks} tasks, and each of them takes itself for the only one: start torchrun by it"
    if "MASTER_ADDR" in environment and "ACCELERATE_MIXED_PRECISION" in environment:
        return (
            "accelerate launch was asked for several processes and started one, as it does on CPUs: two are started "
            "by ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 SCRIPT ..., or by MPI (--mpirun_hostfile)"
        )
    return None


__all__ = ["LAUNCH_HELP", "missing_processes"]
