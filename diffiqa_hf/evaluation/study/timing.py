# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""How long a method takes for one image, and DifFIQA's stages of it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .config import MethodConfig


def as_timed(config: MethodConfig) -> tuple[MethodConfig, str]:
    """What is timed for a method, and how to call it where it isn't the method as it was computed."""
    if config.terms is None:
        return config, ""
    if config.method != "diffiqa":
        return config, "timed with all terms"
    # The score out of fewer terms is computed with the whole; on its own it would not need all of it.
    needed = {
        "flip": any("flipped" in term for term in config.terms),
        "forward": any("noisy" in term for term in config.terms),
        "backward": any("restored" in term for term in config.terms),
    }
    off = [f"use_{name}" for name, is_needed in needed.items() if not is_needed]
    if not off:
        return config, "timed with all terms"
    return replace(config, options={**config.options, **dict.fromkeys(off, False)}), f"timed with {', '.join(off)} off"


class StageClock:
    """Times a call, and the part of it that each stage of a DifFIQA pipeline takes."""

    # By what the paper's Table 8 calls them. They don't call each other.
    STAGES = {"forward": "forward_process", "backward": "backward_process", "embedding": "embed"}

    def __init__(self, device: Any):
        self.device = str(device)
        self.parts: dict[str, float] = {}

    def watch(self, pipeline: Any) -> None:
        """Times the stages of this pipeline from now on."""
        for stage, method in self.STAGES.items():
            self.parts[stage] = 0.0
            setattr(pipeline, method, self._timed(stage, getattr(pipeline, method)))

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args, **kwargs):
            start = self._now()
            result = function(*args, **kwargs)
            self.parts[stage] += self._now() - start
            return result

        return timed

    def _now(self) -> float:
        import torch

        if self.device != "cpu":
            torch.accelerator.synchronize()
        return 1000 * time.perf_counter()

    def measure(self, call: Callable[[], Any]) -> tuple[float, dict[str, float]]:
        self.parts = dict.fromkeys(self.parts, 0.0)
        start = self._now()
        call()
        return self._now() - start, dict(self.parts)


def measure_runtime(
    method: Any,
    config: MethodConfig,
    images: Sequence[Any],
    landmarks: Sequence[Any] | None,
    device: Any,
    bar: Callable[..., Any],
) -> dict[str, Any]:
    """
    Milliseconds of each of some images, one at a time, after two that warm up; of DifFIQA by the stages of
    Table 8. There the initialisation makes the copies as well; here the last one does, and draws the noise.
    """
    landmarks = landmarks or [None] * len(images)
    clock = StageClock(device)
    if hasattr(method, "pipeline"):
        clock.watch(method.pipeline)
    times, stages = [], []
    with bar(total=len(images), desc=f"timing {config.name}", unit="image") as progress:
        for at in (0, 0, *range(len(images))):
            method.image_processor.extract_faces(images[at], landmarks[at])  # the file is in memory from here on
            start = time.perf_counter()
            method.image_processor.extract_faces(images[at], landmarks[at])
            read = 1000 * (time.perf_counter() - start)

            def score(image=images[at], points=landmarks[at]):
                return list(method.stream([image], [points], batch_size=config.batch_size, seed=config.seed))

            total, parts = clock.measure(score)
            times.append(total)
            if parts:
                rest = total - read - sum(parts.values())
                stages.append({"initialisation (reading)": read, **parts, "quality (and the rest)": rest})
            progress.update()
    stages = stages[2:]
    return {
        "milliseconds": times[2:],
        "stages": {stage: [entry[stage] for entry in stages] for stage in (stages[0] if stages else ())},
    }


def device_in_words(device: Any, dtype: str) -> str:
    """What a run time was measured on."""
    import torch

    if str(device).startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, {dtype}"
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(":")[2] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = models[0].strip() if models else name
    return f"{name}, {torch.get_num_threads()} of {os.cpu_count()} threads, {dtype}"


__all__ = ["StageClock", "as_timed", "device_in_words", "measure_runtime"]
