# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Which schedulers DifFIQA runs with, and what of one a score depends on."""

import hashlib
from typing import Any

import numpy as np
from diffusers import DDIMScheduler, DDPMScheduler, SchedulerMixin


# With any other value the backward process is not that of Eq. 3 and 4, or not that of a UNet which predicts the clean
# face; it would give a score all the same.
_REQUIRED = {
    "prediction_type": "sample",
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "thresholding": False,
    "rescale_betas_zero_snr": False,
}
_REQUIRED_OF = {DDPMScheduler: _REQUIRED | {"variance_type": "fixed_small"}, DDIMScheduler: _REQUIRED}


def check_scheduler(scheduler: SchedulerMixin) -> None:
    """
    Raises:
        ValueError: It is neither a DDPM nor a DDIM scheduler, or has settings with which it is another process.
    """
    if type(scheduler) not in _REQUIRED_OF:
        raise ValueError(f"DifFIQA runs with DDPMScheduler or DDIMScheduler, not with {type(scheduler).__name__}")
    for name, value in _REQUIRED_OF[type(scheduler)].items():
        if (here := scheduler.config.get(name, value)) != value:
            raise ValueError(f"DifFIQA runs with {name}={value!r}, this {type(scheduler).__name__} has {here!r}")
    betas, steps = scheduler.betas, scheduler.config.num_train_timesteps
    if betas.shape != (steps,):
        raise ValueError(
            f"this {type(scheduler).__name__} has {tuple(betas.shape)} betas (trained_betas), "
            f"not num_train_timesteps, {steps}"
        )
    if not ((betas >= 0) & (betas < 1)).all():
        raise ValueError(f"this {type(scheduler).__name__} has betas that are no parts of noise from 0 to 1")


def scheduler_settings(scheduler: SchedulerMixin) -> dict[str, Any]:
    """
    What scores depend on of a scheduler that [`check_scheduler`] lets pass, as JSON. The spacing of its timesteps is
    not in it, since the pipeline sets them itself.
    """
    config = scheduler.config
    names = ["num_train_timesteps", "beta_schedule"]
    if config.trained_betas is None and config.beta_schedule != "squaredcos_cap_v2":
        names += ["beta_start", "beta_end"]
    settings = {"class": type(scheduler).__name__} | {name: config[name] for name in names}
    if config.trained_betas is not None:
        betas = np.asarray(config.trained_betas, dtype=np.float32)
        settings["beta_schedule"] = f"trained_betas {hashlib.sha256(betas.tobytes()).hexdigest()[:16]}"
    if isinstance(scheduler, DDIMScheduler):
        settings["set_alpha_to_one"] = config.set_alpha_to_one
    return settings


__all__ = ["check_scheduler", "scheduler_settings"]
