# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints that are whole or absent, and what they hold besides model and optimizer."""

import copy
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from ..file_utils import replace_folder
from .held_out import NOBODY, HeldOut


logger = logging.getLogger(__name__)

# Written last: a checkpoint folder without it does not count.
MARKER = "complete"
BEST = "best"  # folder of the best model of a run, where it keeps one


def list_checkpoints(output_dir: str | os.PathLike) -> list[Path]:
    """The whole checkpoints `checkpoint-N` of a run, in the order of their steps."""
    found = [p for p in Path(output_dir).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name)]
    return sorted((p for p in found if (p / MARKER).exists()), key=lambda p: int(p.name.split("-")[1]))


def find_checkpoint(output_dir: str | os.PathLike, resume_from: str | None) -> Path | None:
    """
    The checkpoint to go on from.

    Args:
        output_dir: The folder of the run.
        resume_from: `None` (start anew), `"latest"` (the last whole one, or `None` where there is none yet), the name
            of one in that folder (`"checkpoint-6"`), or a path, of another run's perhaps.

    Raises:
        FileNotFoundError: What was named is no whole checkpoint.
        FileExistsError: A run that starts anew would write into the checkpoints of another.
    """
    if resume_from is None:
        if list_checkpoints(output_dir):
            raise FileExistsError(
                f"{output_dir} has the checkpoints of another run; go on from them with --resume_from_checkpoint "
                "latest, or name another --output_dir"
            )
        return None
    checkpoints = list_checkpoints(output_dir)
    if resume_from == "latest":
        return checkpoints[-1] if checkpoints else None
    path, inside = Path(resume_from), Path(output_dir) / resume_from
    if path.parent == Path() and (inside.exists() or not path.exists()):
        path = inside
    if not (path / MARKER).exists():
        there = f"; there are {', '.join(found.name for found in checkpoints)}" if checkpoints else ""
        raise FileNotFoundError(
            f"{path} is no checkpoint, or was not written to its end (no file {MARKER!r} in it){there}"
        )
    return path


def remove_checkpoint(path: Path) -> None:
    """Out of its name first: half a deleted folder must not pass for a whole one."""
    if path.exists():
        leaving = path.with_name(path.name + ".old")
        os.replace(path, leaving)
        shutil.rmtree(leaving)


def save_checkpoint(
    accelerator: Accelerator,
    output_dir: str | os.PathLike,
    step: int,
    limit: int | None,
    parts: Callable[[Path], object] | None = None,
) -> Path:
    """
    Saves the state as `checkpoint-{step}`: written beside, marked, renamed; older ones beyond `limit` go afterwards.
    All processes call it.

    The `best` of the run, where there is one, goes with it, so that a run that goes on from there has it, also in
    another folder.

    Args:
        limit: How many are kept, this one included; `None` or 0: all.
        parts: Writes what else belongs into the folder that it is given; the main process calls it.
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
            if parts is not None:
                parts(temporary)
            for file in temporary.rglob("*"):
                if file.is_file():
                    # Some file systems say only now that the disk is full.
                    with open(file, "rb") as written:
                        os.fsync(written.fileno())
            if (Path(output_dir) / BEST).exists():
                link_folder(Path(output_dir) / BEST, temporary / BEST)
            (temporary / MARKER).touch()
    except Exception:
        if accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)  # half a checkpoint takes room, and is good for nothing
        raise
    if accelerator.is_main_process:
        remove_checkpoint(path)
        os.replace(temporary, path)
        if limit:
            # Not the later ones of a run that this one branched off from.
            so_far = list_checkpoints(output_dir)
            for old in so_far[: so_far.index(path) + 1][:-limit]:
                remove_checkpoint(old)
    accelerator.wait_for_everyone()
    return path


def link_folder(source: Path, target: Path) -> None:
    """A second name for the files of a folder, which nobody writes into; a copy where the file system has no links."""

    def link(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:
            shutil.copy2(one, other)

    shutil.copytree(source, target, copy_function=link)


def restore_best(checkpoint: Path, output_dir: Path) -> None:
    """
    Has the `best` of a run be what it was at a checkpoint. A later one is that of a way that is left: its figures are
    not those that the checkpoint holds.
    """
    best, kept = output_dir / BEST, checkpoint / BEST
    if kept.exists():
        replace_folder(best, lambda beside: link_folder(kept, beside))
    elif best.exists():
        shutil.rmtree(best)


class TrainingState:
    """
    What a checkpoint holds besides model and optimizer: the step, how far the faces have been seen, who is held out,
    and the EMA weights, if any.

    Args:
        ema: The averages, or `None`.
        heldout: Whom the run does not train on; a checkpoint with others is refused.
        fixed: Options that a run can't change on its way, such as `{"seed": 0}`; a checkpoint with others is refused.
        faces: How many the run trains on, where it goes through them epoch by epoch.
        order: Which these are and in which order, as [`~diffiqa_hf.training.data.faces_digest`] has it.
    """

    def __init__(
        self,
        ema: EMAModel | None,
        heldout: HeldOut = NOBODY,
        fixed: Mapping[str, Any] | None = None,
        faces: int | None = None,
        order: str | None = None,
    ):
        self.ema, self.heldout, self.fixed, self.faces = ema, heldout, dict(fixed or {}), faces
        self.order = order
        self.step = 0
        # In the order of diffiqa_hf.training.data: of faces, or of batches.
        self.position: int | None = 0

    def place(self, taken: int) -> int:
        """
        The position to go on from.

        Args:
            taken: Positions of a step, by which it is counted for a checkpoint of an earlier version.
        """
        return self.step * taken if self.position is None else self.position

    def state_dict(self) -> dict:
        averages = None if self.ema is None else self.ema.state_dict()
        return {
            "step": self.step,
            "position": self.position,
            "faces": self.faces,
            "fixed": self.fixed,
            "order": self.order,
            "ema": averages,
            "heldout": asdict(self.heldout),
        }

    def load_state_dict(self, state: dict) -> None:
        if "heldout" not in state:
            logger.warning("the checkpoint, of an earlier version, does not say who was held out")
        elif state["heldout"]["digest"] != self.heldout.digest:
            raise ValueError(
                f"the checkpoint is that of a run with other people held out: {state['heldout']['what']} then, "
                f"{self.heldout.what} now. Some of those who are to be held out have been trained on; go on with the "
                "same, or begin a run of its own in another --output_dir"
            )
        for name, value in state.get("fixed", {}).items():
            if self.fixed.get(name, value) != value:
                raise ValueError(
                    f"the checkpoint is that of a run with --{name} {value}, this one has {self.fixed[name]}"
                )
        self.step, self.position = state["step"], state.get("position")
        before, others = state.get("faces"), None not in (state.get("order"), self.order)
        others = others and state["order"] != self.order
        if self.position and before and self.faces and (before != self.faces or others):
            epoch = -(-self.position // before)
            self.position = epoch * self.faces
            what = (
                "in another order, or others among them, are now" if before == self.faces else f"{self.faces} are now"
            )
            logger.warning(f"{before} faces were trained on then, {what}: goes on with epoch {epoch}")
        if (self.ema is None) != (state["ema"] is None):
            raise ValueError("the checkpoint is that of a run with another --ema_decay")
        if self.ema is not None:
            # Accelerate reads checkpoints to the CPU; the averages belong where the model is.
            device = self.ema.shadow_params[0].device
            self.ema.load_state_dict(state["ema"])
            self.ema.to(device)


def go_on_from(
    checkpoint: Path | None,
    accelerator: Accelerator,
    state: TrainingState,
    optimizer: torch.optim.Optimizer,
) -> None:
    """
    Has a run be what it was at a checkpoint, but for its options: rates, decays and the like of the optimizer are
    those of now. All processes call it, with everything prepared and registered; `None` leaves all as it is.
    """
    if checkpoint is None:
        return
    options = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    accelerator.load_state(str(checkpoint))
    for group, kept in zip(optimizer.param_groups, options, strict=True):
        group.update(kept)
    logger.info(f"goes on from {checkpoint}, step {state.step}")


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
