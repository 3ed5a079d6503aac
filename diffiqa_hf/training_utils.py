# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the training scripts share: checkpoints that are whole or absent, and datasets of faces."""

import argparse
import os
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from diffusers.training_utils import EMAModel


# Written last: a checkpoint folder without it does not count.
MARKER = "complete"


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
    """Unmarked first: half a deleted folder must not pass for a whole one."""
    (path / MARKER).unlink(missing_ok=True)
    if path.exists():
        shutil.rmtree(path)


def save_checkpoint(accelerator: Accelerator, output_dir: str | os.PathLike, step: int, limit: int | None) -> Path:
    """
    Saves the state as `checkpoint-{step}`: written beside, marked, renamed; older ones beyond `limit` go afterwards.
    All processes call it.
    """
    path = Path(output_dir) / f"checkpoint-{step}"
    temporary = path.with_name(path.name + ".tmp")
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(temporary))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (temporary / MARKER).touch()
        remove_checkpoint(path)
        os.replace(temporary, path)
        if limit is not None:
            # Not the later ones of a run that this one branched off from.
            so_far = list_checkpoints(output_dir)
            for old in so_far[: so_far.index(path) + 1][:-limit]:
                remove_checkpoint(old)
    accelerator.wait_for_everyone()
    return path


class ShuffledKeys:
    """Endless (epoch, index) keys from a given batch on, so that a resumed run sees what it would have seen."""

    def __init__(self, length: int, batch_size: int, seed: int, start_batch: int, process: int, num_processes: int):
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
    """The step and the EMA weights, which a checkpoint holds besides model and optimizer."""

    def __init__(self, ema: EMAModel):
        self.ema, self.step = ema, 0

    def state_dict(self) -> dict:
        return {"step": self.step, "ema": self.ema.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.step = state["step"]
        # Accelerate reads checkpoints to the CPU; the averages belong where the model is.
        device = self.ema.shadow_params[0].device
        self.ema.load_state_dict(state["ema"])
        self.ema.to(device)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what to train on: those of [`load_face_dataset`], and the columns."""
    data = parser.add_argument_group("data")
    data.add_argument("--dataset_name", help="Hub id, or path, of a dataset")
    data.add_argument("--train_data_dir", help="folder of aligned faces")
    data.add_argument("--train_parquet", nargs="+", help="Parquet files with a column of aligned faces")
    data.add_argument("--image_column", default="image", help="column of the faces (default: image)")
    data.add_argument("--identity_column", default="identity", help="column of the people (default: identity)")
    data.add_argument("--holdout_modulo", type=int, help="leave out people with crc32(name) %% M == 0, to choose by")
    data.add_argument("--dataloader_num_workers", type=int, default=0)


def load_face_dataset(
    dataset_name: str | None = None,
    train_data_dir: str | None = None,
    train_parquet: list[str] | None = None,
    split: str = "train",
    identity_column: str | None = None,
    holdout_modulo: int | None = None,
    heldout: bool = False,
):
    """
    A `datasets.Dataset` from exactly one of a Hub id (or local dataset), a folder of images and Parquet files.

    With `holdout_modulo` m, people whose CRC-32 of the identity's name is divisible by m are left out (or, with
    `heldout`, they alone are kept): a split by person that depends on nothing but the name.
    """
    from datasets import load_dataset

    if sum(source is not None for source in (dataset_name, train_data_dir, train_parquet)) != 1:
        raise ValueError("give exactly one of --dataset_name, --train_data_dir and --train_parquet")
    if dataset_name is not None:
        dataset = load_dataset(dataset_name, split=split)
    elif train_data_dir is not None:
        dataset = load_dataset("imagefolder", data_dir=train_data_dir, split=split)
    else:
        dataset = load_dataset("parquet", data_files={split: train_parquet}, split=split)
    if holdout_modulo is not None:
        dataset = hold_out(dataset, identity_column, holdout_modulo, heldout)
    if len(dataset) == 0:
        raise ValueError("the dataset is empty")
    return dataset


def hold_out(dataset, identity_column: str | None, modulo: int, heldout: bool):
    """The people whose name's CRC-32 is divisible by `modulo` (`heldout`), or all others."""
    if identity_column not in dataset.column_names:
        raise ValueError(f"the dataset has no column {identity_column!r}; it has {dataset.column_names}")
    out = [zlib.crc32(str(name).encode()) % modulo == 0 for name in dataset[identity_column]]
    return dataset.select([i for i, is_out in enumerate(out) if is_out == heldout])
