# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the training scripts share: their options, checkpoints that are whole or absent, and datasets of faces."""

import argparse
import copy
import errno
import logging
import os
import re
import shutil
import sys
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, ProjectConfiguration
from diffusers.training_utils import EMAModel
from numpy.typing import ArrayLike
from tqdm.auto import tqdm

from .calibration import Calibration, CalibrationMixin, fit_calibration
from .file_utils import replace_file
from .hub import training_source
from .image_processing_face import FaceImageError, FaceImageProcessor


logger = logging.getLogger(__name__)

# Written last: a checkpoint folder without it does not count.
MARKER = "complete"

# What PyTorch and safetensors (in Rust) say of a full disk; they raise errors of their own, without a number.
FULL_DISK = re.compile(
    r"PytorchStreamWriter failed writing|unexpected pos \d+|basic_ios::clear|No space left|File too large"
)
ROWS_NAMED = 64  # of a batch whose loss is not finite
# The others wait at the next checkpoint while the main process alone measures on the faces held out, makes labels or
# pushes; NCCL would end the run after its 10 minutes. A process that died is noticed by the launcher, and not by this.
LONGEST_WAIT = timedelta(hours=6)


def list_checkpoints(output_dir: str | os.PathLike) -> list[Path]:
    """The whole checkpoints `checkpoint-N` of a run, in the order of their steps."""
    found = [p for p in Path(output_dir).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name)]
    return sorted((p for p in found if (p / MARKER).exists()), key=lambda p: int(p.name.split("-")[1]))


def find_checkpoint(output_dir: str | os.PathLike, resume_from: str | None) -> Path | None:
    """
    The checkpoint to go on from.

    Args:
        output_dir: The folder of the run.
        resume_from: `None` (start anew), `"latest"` (the last whole one, or `None` where there is none yet) or a path.

    Raises:
        FileNotFoundError: A path was named that is no whole checkpoint.
        FileExistsError: A run that starts anew would write into the checkpoints of another.
    """
    if resume_from is None:
        if list_checkpoints(output_dir):
            raise FileExistsError(
                f"{output_dir} has the checkpoints of another run; go on from them with --resume_from_checkpoint "
                "latest, or name another --output_dir"
            )
        return None
    if resume_from == "latest":
        checkpoints = list_checkpoints(output_dir)
        return checkpoints[-1] if checkpoints else None
    path = Path(resume_from)
    if not (path / MARKER).exists():
        raise FileNotFoundError(f"{path} is no checkpoint, or was not written to its end (no file {MARKER!r} in it)")
    return path


def remove_checkpoint(path: Path) -> None:
    """Out of its name first: half a deleted folder must not pass for a whole one."""
    if path.exists():
        leaving = path.with_name(path.name + ".old")
        os.replace(path, leaving)
        shutil.rmtree(leaving)


def save_checkpoint(accelerator: Accelerator, output_dir: str | os.PathLike, step: int, limit: int | None) -> Path:
    """
    Saves the state as `checkpoint-{step}`: written beside, marked, renamed; older ones beyond `limit` go afterwards.
    All processes call it.
    """
    path = Path(output_dir) / f"checkpoint-{step}"
    temporary = path.with_name(path.name + ".tmp")
    if accelerator.is_main_process:
        # What runs that were killed while they wrote or deleted have left.
        for left in [*Path(output_dir).glob("checkpoint-*.tmp"), *Path(output_dir).glob("checkpoint-*.old")]:
            shutil.rmtree(left)
        temporary.mkdir(parents=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(temporary))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            for file in temporary.rglob("*"):
                if file.is_file():
                    # Some file systems say only now that the disk is full.
                    with open(file, "rb") as written:
                        os.fsync(written.fileno())
            (temporary / MARKER).touch()
    except Exception:
        if accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)  # half a checkpoint takes room, and is good for nothing
        raise
    if accelerator.is_main_process:
        remove_checkpoint(path)
        os.replace(temporary, path)
        if limit is not None:
            # Not the later ones of a run that this one branched off from.
            so_far = list_checkpoints(output_dir)
            for old in so_far[: so_far.index(path) + 1][:-limit]:
                remove_checkpoint(old)
    accelerator.wait_for_everyone()
    return path


@contextmanager
def full_disk_in_one_line(output_dir: str | os.PathLike, remedy: str | None = None) -> Iterator[None]:
    """
    Has a run that finds the disk full, or is allowed no larger file, end with one line: what could not be written, and
    where to go on.

    Args:
        output_dir: The folder of the run.
        remedy: What is there, and what to do (default: the last whole checkpoint, from which a run goes on).

    Raises:
        SystemExit: In place of the error.
    """
    try:
        yield
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


class ShuffledKeys:
    """Endless (epoch, index) keys from a given batch on, so that a resumed run sees what it would have seen."""

    def __init__(self, length: int, batch_size: int, seed: int, start_batch: int, process: int, num_processes: int):
        if not length:
            raise ValueError("there is no face to train on")
        self.length, self.seed = length, seed
        self.batch_size, self.start_batch = batch_size, start_batch
        self.process, self.num_processes = process, num_processes

    def __iter__(self):
        # Batch b of process p is the (b * processes + p)-th of the whole sequence.
        batch, epoch, order = self.start_batch, None, None
        while True:
            first = (batch * self.num_processes + self.process) * self.batch_size
            keys = []
            for position in range(first, first + self.batch_size):
                if epoch != position // self.length:
                    epoch = position // self.length
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
                keys.append((epoch, int(order[position % self.length])))
            yield keys
            batch += 1


class TrainingState:
    """The step and the EMA weights, if there are any, which a checkpoint holds besides model and optimizer."""

    def __init__(self, ema: EMAModel | None):
        self.ema, self.step = ema, 0

    def state_dict(self) -> dict:
        return {"step": self.step, "ema": None if self.ema is None else self.ema.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.step = state["step"]
        if (self.ema is None) != (state["ema"] is None):
            raise ValueError("the checkpoint is that of a run with another --ema_decay")
        if self.ema is not None:
            # Accelerate reads checkpoints to the CPU; the averages belong where the model is.
            device = self.ema.shadow_params[0].device
            self.ema.load_state_dict(state["ema"])
            self.ema.to(device)


def trained_copy(model: torch.nn.Module, ema: EMAModel | None) -> torch.nn.Module:
    """An unwrapped model in evaluation mode and float32, with the averaged weights where there are any."""
    # Not a deep copy, because Accelerate has put a wrapper for mixed precision around `forward`. What initialises the
    # new model must not move the generator that dropout uses.
    with torch.random.fork_rng(devices=[]):
        build = getattr(type(model), "from_config", type(model))  # diffusers' way, and transformers'
        new = build(copy.deepcopy(model.config))
    new.load_state_dict(model.state_dict())
    if ema is not None and ema.optimization_step:
        ema.copy_to(new.parameters())
    return new.eval()


def add_source_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The options that say where faces come from, those of [`face_dataset_source`], in a group for more."""
    data = parser.add_argument_group("data")
    data.add_argument("--dataset_name", help="Hub id, or path, of a dataset")
    data.add_argument("--train_data_dir", help="folder of aligned faces")
    data.add_argument("--train_parquet", nargs="+", help="Parquet files with a column of aligned faces")
    data.add_argument("--image_column", default="image", help="column of the faces (default: image)")
    return data


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what to train on: those of [`load_face_dataset`], and the columns."""
    data = add_source_arguments(parser)
    data.add_argument("--identity_column", default="identity", help="column of the people (default: identity)")
    data.add_argument("--holdout_modulo", type=int, help="leave out people with crc32(name) %% M == 0, to choose by")
    data.add_argument(
        "--dataloader_num_workers", type=int, default=0, help="processes that read faces; 0: the training process"
    )


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what a run leaves behind, and how it goes on."""
    output = parser.add_argument_group("output")
    output.add_argument("--output_dir", required=True, help="folder of the run")
    output.add_argument("--checkpointing_steps", type=int, default=500, help="every so many steps (default: 500)")
    output.add_argument("--checkpoints_total_limit", type=int, default=2, help="how many are kept (default: 2)")
    output.add_argument("--resume_from_checkpoint", help='"latest", or the path of a checkpoint')
    output.add_argument(
        "--validation_steps", type=int, default=500, help="steps between looks at the result; 0: none (default: 500)"
    )
    output.add_argument("--logging_steps", type=int, default=50, help="steps that a logged loss is the mean of")
    output.add_argument(
        "--report_to",
        default="tensorboard",
        help='a tracker that Accelerate knows (tensorboard, trackio, wandb, ...), or "none" (default: tensorboard)',
    )


def make_accelerator(args: argparse.Namespace, **kwargs) -> Accelerator:
    """The Accelerator of a run with the options of [`add_output_arguments`]; only its main process logs lines."""
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
    return accelerator


def _drop_wrapper_names(models: list, weights: list[dict], output_dir: str) -> None:
    # In the order of memory that safetensors asks for: those of a channels-last model have another.
    weights[:] = [
        {name.removeprefix("module."): value.contiguous() for name, value in tensors.items()} for tensors in weights
    ]


def start_tracker(accelerator: Accelerator, args: argparse.Namespace, name: str) -> None:
    """Starts the tracker of `--report_to`, with the options of the run as its configuration."""
    if args.report_to != "none":
        config = {option: value for option, value in vars(args).items() if isinstance(value, (int, float, str))}
        accelerator.init_trackers(name, config=config)


def face_dataset_source(
    dataset_name: str | None, train_data_dir: str | None, train_parquet: list[str] | None, split: str
) -> dict:
    """
    What `datasets.load_dataset` and `load_dataset_builder` take for exactly one of a Hub id (or local dataset), a
    folder of images and Parquet files.

    Raises:
        ValueError: None of them is given, or several are.
    """
    if sum(source is not None for source in (dataset_name, train_data_dir, train_parquet)) != 1:
        raise ValueError("give exactly one of --dataset_name, --train_data_dir and --train_parquet")
    if dataset_name is not None:
        return {"path": dataset_name}
    if train_data_dir is not None:
        return {"path": "imagefolder", "data_dir": train_data_dir}
    return {"path": "parquet", "data_files": {split: train_parquet}}


def load_face_dataset(
    dataset_name: str | None = None,
    train_data_dir: str | None = None,
    train_parquet: list[str] | None = None,
    split: str = "train",
):
    """A `datasets.Dataset` from the source that [`face_dataset_source`] tells."""
    from datasets import load_dataset

    dataset = load_dataset(**face_dataset_source(dataset_name, train_data_dir, train_parquet, split), split=split)
    if len(dataset) == 0:
        raise ValueError("the dataset is empty")
    return dataset


def hold_out(dataset, identity_column: str | None, modulo: int, heldout: bool):
    """
    The people whose name's CRC-32 is divisible by `modulo` (`heldout`), or all others: a split by person that depends
    on nothing but the name.
    """
    if identity_column not in dataset.column_names:
        raise ValueError(f"the dataset has no column {identity_column!r}; it has {dataset.column_names}")
    out = [zlib.crc32(str(name).encode()) % modulo == 0 for name in dataset[identity_column]]
    return dataset.select([i for i, is_out in enumerate(out) if is_out == heldout])


def read_face(dataset, index: int, image_column: str, processor: FaceImageProcessor) -> np.ndarray:
    """
    The canonical face (3, H, W) of one row.

    Raises:
        FaceImageError: It cannot be read; the message names the row, because a run of days should not end in a riddle.
    """
    try:
        return processor.extract_faces(dataset[index][image_column])[0].pixel_values
    except (FaceImageError, OSError, SyntaxError) as error:  # Pillow, where `datasets` decodes: OSError, SyntaxError
        raise FaceImageError(f"row {source_row(dataset, index)} of the training data: {error}") from error


def source_row(dataset, index: int) -> int:
    """The row of the source: of a part of it the scripts keep the numbers in a column `row`."""
    return dataset["row"][index] if "row" in dataset.column_names else index


@torch.no_grad()
def predict(model: torch.nn.Module, faces, rows: range, what: str) -> dict[str, torch.Tensor]:
    """
    What a model gives for clean faces.

    Args:
        model: In evaluation mode, from canonical faces to a transformers output.
        faces: Has them as `faces.clean(index)`, arrays (3, H, W).
        rows: Which of them.
        what: What the progress bar says.

    Returns:
        `dict[str, torch.Tensor]`: the fields of the output, each of `len(rows)` rows, float32 on the CPU.
    """
    device = next(model.parameters()).device
    size = 16 if device.type == "cpu" else 64  # a small batch stays in the cache of a CPU: about twice as fast there
    outputs = []
    for start in tqdm(range(rows.start, rows.stop, size), desc=what, leave=False):
        batch = np.stack([faces.clean(i) for i in range(start, min(start + size, rows.stop))])
        output = model(torch.from_numpy(batch).to(device))
        outputs.append({name: value.float().cpu() for name, value in output.items()})
    return {name: torch.cat([output[name] for output in outputs]) for name in outputs[0]}


def calibrate_held_out(
    method: CalibrationMixin,
    scores: ArrayLike,
    what: str,
    args: argparse.Namespace,
    *,
    embeddings: ArrayLike | None = None,
    identities: ArrayLike | None = None,
    embedded_by: str = "",
    **options,
) -> Calibration | None:
    """
    What the scores of a network mean, measured on the faces that its run has held out; it goes into the network's
    folder.

    Args:
        method: Of the network as it is saved, which the settings of the calibration are of.
        scores: (N,) of the faces.
        what: What they are: `"faces of 403 people"`.
        args: Of the run, with the options that say where its faces come from.
        embeddings, identities: (N, D) and (N,), for an FNMR; see [`~diffiqa_hf.calibration.fit_calibration`].
        embedded_by: What the embeddings are of.
        **options: More of `fit_calibration`.

    Returns:
        `None` where there are fewer than two faces.
    """
    if len(scores) < 2:
        return None
    data = f"{what} held out of {training_source(args)}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        settings = method.calibration_settings()
        calibration = fit_calibration(scores, embeddings, identities, settings=settings, data=data, **options)
    for warning in caught:  # too few pairs for an FNMR
        logger.warning(f"calibration: {warning.message}")
    if calibration.levels:
        calibration = replace(calibration, data=f"{data}; FNMR of {embedded_by}")
    return calibration
