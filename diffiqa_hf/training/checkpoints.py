# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints that are whole or absent, and what they hold besides model and optimizer."""

import copy
import logging
import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from .held_out import NOBODY, HeldOut


logger = logging.getLogger(__name__)

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


class TrainingState:
    """
    What a checkpoint holds besides model and optimizer: the step, who is held out, and the EMA weights, if any.

    Args:
        ema: The averages, or `None`.
        heldout: Whom the run does not train on; a checkpoint with others is refused.
    """

    def __init__(self, ema: EMAModel | None, heldout: HeldOut = NOBODY):
        self.ema, self.heldout, self.step = ema, heldout, 0

    def state_dict(self) -> dict:
        averages = None if self.ema is None else self.ema.state_dict()
        return {"step": self.step, "ema": averages, "heldout": asdict(self.heldout)}

    def load_state_dict(self, state: dict) -> None:
        if "heldout" not in state:
            logger.warning("the checkpoint, of an earlier version, does not say who was held out")
        elif state["heldout"]["digest"] != self.heldout.digest:
            raise ValueError(
                f"the checkpoint is that of a run with other people held out: {state['heldout']['what']} then, "
                f"{self.heldout.what} now. Some of those who are to be held out have been trained on; go on with the "
                "same, or begin a run of its own in another --output_dir"
            )
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
