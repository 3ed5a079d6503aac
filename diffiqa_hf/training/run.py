# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The options of a run, its Accelerator and tracker, and what ends it: a full disk, a loss that is no number."""

import argparse
import errno
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import InitProcessGroupKwargs, LoggerType, ProjectConfiguration

from ..file_utils import replace_file
from ..models.loading import LoadingError
from .checkpoints import list_checkpoints
from .launch import LAUNCH_HELP, missing_processes


logger = logging.getLogger(__name__)

# What PyTorch and safetensors (in Rust) say of a full disk; they raise errors of their own, without a number.
FULL_DISK = re.compile(
    r"PytorchStreamWriter failed writing|unexpected pos \d+|basic_ios::clear|No space left|File too large"
)
ROWS_NAMED = 64  # of a batch whose loss is not finite
# The others wait at the next checkpoint while the main process alone measures on the faces held out, makes labels or
# pushes; NCCL would end the run after its 10 minutes. A process that died is noticed by the launcher, and not by this.
LONGEST_WAIT = timedelta(hours=6)


def count_or_none(text: str) -> int:
    """The type of an option that counts, of which 0 and less, as -1 in other programs, say the same: none, or all."""
    return max(int(text), 0)


def positive(text: str) -> int:
    """The type of an option of which nothing below 1 makes sense."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is no positive number")
    return number


def is_due(step: int, every: int, last: bool) -> bool:
    """Whether what is done every so many steps (0: at the last one alone) is done after this one."""
    return last or bool(every and step % every == 0)


def add_source_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """
    The options that say where faces come from, those of [`~diffiqa_hf.training.data.source_of`], in a group for more.
    """
    data = parser.add_argument_group("data")
    data.add_argument("--dataset_name", help="Hub id, or path, of a dataset")
    data.add_argument("--dataset_config_name", help="which of its configurations, if it has several")
    data.add_argument("--revision", help="of a dataset on the Hub: branch, tag or commit")
    data.add_argument(
        "--split",
        default="train",
        help="of the dataset, with a slice perhaps: 'train[:1000]'; a folder and Parquet files are one split, "
        "whatever their names (default: train)",
    )
    data.add_argument("--train_data_dir", help="folder of aligned faces, at any depth")
    data.add_argument("--train_parquet", nargs="+", help="Parquet files with a column of aligned faces")
    data.add_argument(
        "--image_column",
        default="image",
        help="column of the faces: image files (bytes or paths) or pixels (H, W, C) (default: image)",
    )
    return data


def add_skip_argument(data: argparse._ArgumentGroup, otherwise: str) -> None:
    """`--skip_broken_rows`, with what happens without it."""
    data.add_argument(
        "--skip_broken_rows",
        action="store_true",
        help="read every face once before, and leave out the rows that have none or one that can't be read; "
        f"broken_rows.json has them all (default: {otherwise})",
    )


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what to train on: those of [`~diffiqa_hf.training.data.training_faces`]."""
    data = add_source_arguments(parser)
    data.add_argument("--identity_column", default="identity", help="column of the people (default: identity)")
    data.add_argument(
        "--holdout_modulo",
        type=count_or_none,
        help="leave out people with crc32(name) %% M == 0, to choose by; 0: nobody (default: nobody)",
    )
    add_skip_argument(data, "such a row ends the run, by a line that names it")
    data.add_argument(
        "--dataloader_num_workers", type=int, default=0, help="processes that read faces; 0: the training process"
    )


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what a run leaves behind, and how it goes on; and the help on how to start it."""
    parser.epilog = LAUNCH_HELP
    output = parser.add_argument_group("output")
    output.add_argument("--output_dir", required=True, help="folder of the run")
    output.add_argument(
        "--checkpointing_steps",
        type=count_or_none,
        default=500,
        help="a checkpoint every so many steps; 0: after the last one alone (default: 500)",
    )
    output.add_argument(
        "--checkpoints_total_limit",
        type=count_or_none,
        default=2,
        help="how many are kept, the latest; 0: all (default: 2)",
    )
    output.add_argument(
        "--resume_from_checkpoint",
        help='"latest", the name of a checkpoint of --output_dir ("checkpoint-500"), or the path of another one',
    )
    output.add_argument(
        "--validation_steps",
        type=count_or_none,
        default=500,
        help="steps between looks at the result, the last one among them; 0: none (default: 500)",
    )
    output.add_argument(
        "--logging_steps",
        type=count_or_none,
        default=50,
        help="steps that a logged loss is the mean of; 0: of all, at the end (default: 50)",
    )
    output.add_argument(
        "--report_to",
        default="tensorboard",
        help='a tracker that Accelerate knows (tensorboard, trackio, wandb, ...), or "none" (default: tensorboard)',
    )


def make_accelerator(args: argparse.Namespace, **kwargs) -> Accelerator:
    """
    The Accelerator of a run with the options of [`add_output_arguments`]; only its main process logs lines.

    Raises:
        ValueError: The tracker of `--report_to` is unknown, or not installed, where Accelerate would do without it.
    """
    check_tracker(args.report_to)
    accelerator = Accelerator(
        mixed_precision=args.mixed_precision,
        log_with=None if args.report_to == "none" else args.report_to,
        project_config=ProjectConfiguration(
            project_dir=args.output_dir, logging_dir=os.path.join(args.output_dir, "logs")
        ),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)],
        **kwargs,
    )
    # A run may go on with another number of processes: its files hold no name of a wrapper around the model.
    accelerator.register_save_state_pre_hook(_drop_wrapper_names)
    accelerator.register_load_state_pre_hook(
        lambda models, _: models.__setitem__(slice(None), [accelerator.unwrap_model(model) for model in models])
    )
    level = logging.INFO if accelerator.is_main_process else logging.ERROR
    logging.basicConfig(level=level, format="%(asctime)s %(message)s")
    if line := missing_processes(accelerator.num_processes):
        logger.warning(line)
    return accelerator


def _drop_wrapper_names(models: list, weights: list[dict], output_dir: str) -> None:
    # In the order of memory that safetensors asks for: those of a channels-last model have another.
    weights[:] = [
        {name.removeprefix("module."): value.contiguous() for name, value in tensors.items()} for tensors in weights
    ]


def check_tracker(name: str) -> None:
    """
    Raises:
        ValueError: There is no tracker of this name, or it is not installed.
    """
    known = [str(tracker) for tracker in LoggerType.list()]
    installed = [str(tracker) for tracker in get_available_trackers()]
    if name in ("none", "all", *installed):
        return
    if name not in known:
        raise ValueError(f"--report_to {name}: there is no such tracker; there are {', '.join(known)} and none")
    there = f"; installed: {', '.join(installed)}" if installed else ""
    raise ValueError(f"--report_to {name}: the tracker is not installed (pip install {name}){there}, or none")


def start_tracker(accelerator: Accelerator, args: argparse.Namespace, name: str) -> None:
    """Starts the tracker of `--report_to`, with the options of the run as its configuration."""
    if args.report_to != "none":
        config = {option: value for option, value in vars(args).items() if isinstance(value, (int, float, str))}
        accelerator.init_trackers(name, config=config)


@contextmanager
def full_disk_in_one_line(output_dir: str | os.PathLike, remedy: str | None = None) -> Iterator[None]:
    """
    Has a run that finds the disk full, or is allowed no larger file, end with one line: what could not be written, and
    where to go on. So does one whose networks can't be loaded.

    Args:
        output_dir: The folder of the run.
        remedy: What is there, and what to do (default: the last whole checkpoint, from which a run goes on).

    Raises:
        SystemExit: In place of the error.
    """
    try:
        yield
    except LoadingError as error:
        raise SystemExit(str(error)) from error
    except Exception as error:
        cause = _full_disk_error(error)
        if cause is None:
            raise
        if remedy is None:
            kept = list_checkpoints(output_dir)
            whole = f"the last whole checkpoint is {kept[-1]}" if kept else "there is no checkpoint yet"
            remedy = f"{whole}; make room, and go on with --resume_from_checkpoint latest"
        free = shutil.disk_usage(output_dir).free / 1e6
        what = str(cause).strip().splitlines()[0]
        print(file=sys.stderr)  # below a progress bar
        raise SystemExit(
            f"the disk is full, or a file would be larger than is allowed ({what}; {free:,.0f} MB are free at "
            f"{output_dir}): {remedy}"
        ) from error


def _full_disk_error(error: BaseException | None) -> BaseException | None:
    """The error itself, or the one behind it, that a full disk, a quota or a limit on files is the cause of."""
    numbers = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    while error is not None:
        if (isinstance(error, OSError) and error.errno in numbers) or FULL_DISK.search(str(error)):
            return error
        error = error.__cause__ or error.__context__
    return None


def save_array(path: str | os.PathLike, array: np.ndarray) -> None:
    """An `.npy` file, whole or not at all."""

    def write(beside: Path) -> None:
        with open(beside, "wb") as file:
            # To a file that it knows NumPy writes through C's buffers, and is silent when the last of them finds the
            # disk full.
            np.save(SimpleNamespace(write=file.write), array)

    replace_file(path, write)


def check_loss(loss: torch.Tensor, step: int, rows: Sequence[int], batch: str = "") -> None:
    """
    Stops a run whose loss is no number, before it moves the weights.

    Args:
        loss: Of one batch, a scalar.
        step: Optimizer steps done.
        rows: Of the dataset, which the batch is made of.
        batch: Which batch of the step, where there are several: `"batch 1 of 4"`.

    Raises:
        FloatingPointError: It is infinite or NaN; the message names the step and the rows.
    """
    if torch.isfinite(loss):
        return
    rows = [int(row) for row in rows]
    more = f" and {len(rows) - ROWS_NAMED} more" if len(rows) > ROWS_NAMED else ""
    raise FloatingPointError(
        f"the loss is {loss.item()} at step {step}{batch and ', ' + batch}, on a batch of {len(rows)} faces (rows "
        f"{', '.join(map(str, rows[:ROWS_NAMED]))}{more} of the dataset)"
    )
