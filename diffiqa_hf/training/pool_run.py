# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The loop of what is trained on a pool: its batches are made by the step alone, and its schedule is one."""

import argparse
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from tqdm.auto import tqdm

from ..file_utils import replace_folder
from .checkpoints import TrainingState, find_checkpoint, go_on_from, save_checkpoint, trained_copy
from .run import add_output_arguments, check_loss, is_due, positive, start_tracker


logger = logging.getLogger(__name__)

MAX_GRAD_NORM = 5.0


def add_pool_run_arguments(parser: argparse.ArgumentParser, train: argparse._ArgumentGroup) -> None:
    """The options of a [`PoolRun`]: those of its schedule into the group `train`, and those of what it leaves."""
    train.add_argument("--max_train_steps", type=positive, default=1000, help="default: %(default)s")
    train.add_argument("--learning_rate", type=float, default=1e-3, help="cosine schedule (default: %(default)s)")
    train.add_argument("--warmup_steps", type=int, default=50, help="default: %(default)s")
    train.add_argument("--ema_decay", type=float, default=0.99, help="default: %(default)s")
    train.add_argument(
        "--mixed_precision", choices=("no", "fp16", "bf16"), help="default: as accelerate is configured"
    )
    train.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    add_output_arguments(parser)
    parser.set_defaults(report_to="none")


class PoolRun:
    """
    AdamW with a rate that rises over `--warmup_steps` and falls with a cosine, averaged weights, and what is logged,
    looked at and kept on the way. A run that was stopped goes on from its checkpoint.

    Args:
        args: Options of the script, with those of [`add_pool_run_arguments`].
        accelerator: Of the run.
        model: What is trained, as far as its parameters require a gradient.
        name: Of the run, for its tracker.
        validate: Figures of the averaged model, to look at.

    Attributes:
        model: Prepared by the accelerator.
        state: How far the run has come.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        accelerator: Accelerator,
        model: torch.nn.Module,
        name: str,
        validate: Callable[[torch.nn.Module], Mapping[str, Any]],
    ):
        self.args, self.accelerator, self.validate = args, accelerator, validate
        self.output_dir = Path(args.output_dir)
        resume = find_checkpoint(self.output_dir, args.resume_from_checkpoint)
        self.ema = EMAModel(model.parameters(), decay=args.ema_decay)
        self.ema.to(accelerator.device)
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(self.trained, lr=args.learning_rate, weight_decay=0.01)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.state = TrainingState(self.ema, fixed={"seed": args.seed})
        accelerator.register_for_checkpointing(self.state)
        go_on_from(resume, accelerator, self.state, self.optimizer)
        start_tracker(accelerator, args, name)
        self._since_logged: list[torch.Tensor] = []
        self._progress: tqdm | None = None

    def steps(self) -> Iterator[int]:
        """The steps that are left; with each the rate is that of the step, and the caller makes one [`update`]."""
        total = self.args.max_train_steps
        with tqdm(total=total, initial=self.state.step, unit="step") as self._progress:
            while self.state.step < total:
                rate = min(1.0, (self.state.step + 1) / max(self.args.warmup_steps, 1))
                rate *= 0.5 * (1 + math.cos(math.pi * self.state.step / total))
                for group in self.optimizer.param_groups:
                    group["lr"] = self.args.learning_rate * rate
                yield self.state.step

    def update(self, loss: torch.Tensor, rows: Sequence[int], /, **parts: torch.Tensor) -> None:
        """
        One step of the optimizer, and what is due after it.

        Args:
            loss: Of the batch, a scalar.
            rows: Of the pool, which the batch is made of.
            parts: What is logged, scalars; their means since the last time.

        Raises:
            FloatingPointError: The loss is no number.
        """
        args, accelerator, state = self.args, self.accelerator, self.state
        check_loss(loss, state.step, rows)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(self.trained, MAX_GRAD_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.step(accelerator.unwrap_model(self.model).parameters())
        self._since_logged.append(torch.stack(list(parts.values())).detach())
        state.step += 1
        last = state.step == args.max_train_steps
        if self._progress is not None:
            self._progress.update()
        if is_due(state.step, args.logging_steps, last):
            means = dict(zip(parts, torch.stack(self._since_logged).mean(0).tolist(), strict=True))
            self._since_logged = []
            if self._progress is not None:
                self._progress.set_postfix({name: f"{value:.4f}" for name, value in means.items()})
            accelerator.log(means, step=state.step)
        if args.validation_steps and is_due(state.step, args.validation_steps, last):
            logger.info(f"step {state.step}: {self.validate(self.averaged().to(accelerator.device))}")
        if is_due(state.step, args.checkpointing_steps, last):
            save_checkpoint(accelerator, self.output_dir, state.step, args.checkpoints_total_limit)

    def averaged(self) -> torch.nn.Module:
        """A copy of the model with the averaged weights, in evaluation mode and float32."""
        return trained_copy(self.accelerator.unwrap_model(self.model), self.ema)

    def finish(self, save: Callable[[Path], object]) -> None:
        """Writes the folder `model`, by what is given the folder, and ends the run."""
        if self.accelerator.is_main_process:
            replace_folder(self.output_dir / "model", save)
            logger.info(f"saved {self.output_dir / 'model'}")
        self.accelerator.end_training()


__all__ = ["PoolRun", "add_pool_run_arguments"]
