# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What a call of DifFIQA goes by, whatever runs its networks. Imported without torch."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..quality_record import TERMS, FaceQualityRecord


if TYPE_CHECKING:
    from ..face_check import FaceCheck

# Where the paper and its authors' code differ at inference (the README has the whole table). Training has its own
# switch, the blend's T; which weights are used, EMA or raw, was decided when the checkpoint was made.
PRESETS: dict[str, dict[str, bool | int | None]] = {
    "paper": {"off_by_one": False, "duplicate_last_step": False},
    "official": {"off_by_one": True, "duplicate_last_step": True},
}
for _preset in PRESETS.values():
    _preset.update(num_timesteps=5, num_inference_steps=None, num_repeats=10)


def get_preset(name: str) -> dict[str, bool | int | None]:
    """Raises `ValueError` for a name that is none."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; there are {', '.join(map(repr, PRESETS))}")
    return PRESETS[name]


def resolve_times(
    config: Mapping[str, Any], num_timesteps: int | None, num_inference_steps: int | None, num_repeats: int | None
) -> tuple[int, int | None, int]:
    """t, the steps back and n of a call, those of a pipeline's configuration where it does not say."""
    num_timesteps = config["num_timesteps"] if num_timesteps is None else num_timesteps
    if num_inference_steps is None:
        num_inference_steps = config["num_inference_steps"]
        if isinstance(num_inference_steps, int) and isinstance(num_timesteps, int):
            num_inference_steps = min(num_inference_steps, num_timesteps)
    return num_timesteps, num_inference_steps, config["num_repeats"] if num_repeats is None else num_repeats


def check_times(
    config: Mapping[str, Any], train_timesteps: int, num_timesteps: Any, num_inference_steps: Any, num_repeats: Any
) -> None:
    """Raises `ValueError` for times that make no sense with a scheduler of so many."""
    top = train_timesteps - (1 if config["off_by_one"] else 0)
    for name, value, most in (
        ("num_timesteps", num_timesteps, top),
        ("num_inference_steps", num_inference_steps, num_timesteps),
        ("num_repeats", num_repeats, None),
    ):
        if value is None and name == "num_inference_steps":
            continue
        if not isinstance(value, int) or value < 1 or (most is not None and value > most):
            bound = "a positive integer" if most is None else f"an integer from 1 to {most}"
            raise ValueError(f"{name} has to be {bound}, got {value!r}")


def check_terms(terms: set[str]) -> None:
    """Raises `ValueError` where there are none."""
    if not terms:
        raise ValueError("nothing is left to compare: use_flip, use_forward and use_backward are all off")


def scored_with(
    config: Mapping[str, Any],
    times: tuple[int, int | None, int],
    terms: Iterable[str],
    scheduler: Mapping[str, Any],
    weights: Mapping[str, str | None],
) -> dict[str, Any]:
    """What the scores of a call depend on besides the faces and the seed, for [`fit_calibration`]; JSON."""
    num_timesteps, num_inference_steps, num_repeats = times
    return {
        "num_timesteps": num_timesteps,
        "num_inference_steps": num_inference_steps or num_timesteps,
        "num_repeats": num_repeats,
        "off_by_one": config["off_by_one"],
        "scheduler": scheduler,
        "terms": [name for name in TERMS if name in terms],
        "weights": weights,
    }


def times_back(num_timesteps: int, num_inference_steps: int | None) -> list[int]:
    """The times of the backward process, evenly spread from t - 1 to 0, and -1, which is the clean image."""
    steps = num_inference_steps or num_timesteps
    return np.linspace(num_timesteps - 1, -1, steps + 1).round().astype(int).tolist()


def noise_seeds(face: np.ndarray, seed: int, num_repeats: int, flipped: bool) -> list[int]:
    """One seed for each noisy copy of a face (or of its mirror image), made of `seed` and the pixels alone."""
    digest = hashlib.blake2b(np.ascontiguousarray(face, np.float32).tobytes(), digest_size=32).digest()
    keys = (digest + f"{seed} {int(flipped)} {repeat}".encode() for repeat in range(num_repeats))
    # torch takes seeds of 64 bits; the sign bit is left out.
    return [int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1 for key in keys]


def take_terms(record: FaceQualityRecord, terms: dict[str, float], face_check: "FaceCheck | None") -> None:
    """Gives a record its similarities, and the score that they make, or the reason why there is none."""
    record.terms = terms
    if not all(math.isfinite(value) for value in terms.values()):
        record.error = "the embedding is not finite (NaN or infinite weights?)"
        return
    record.score = sum(terms.values()) / len(terms)
    if face_check is not None:
        record.score = face_check.lowered(record)


__all__ = [
    "PRESETS",
    "check_terms",
    "check_times",
    "get_preset",
    "noise_seeds",
    "resolve_times",
    "scored_with",
    "take_terms",
    "times_back",
]
