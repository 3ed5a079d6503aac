# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the benchmarks of networks share: time, peak memory, the machine in words, and the weights by rule."""

import ctypes
import datetime
import hashlib
import importlib.util
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import diffusers
import torch
import transformers


# The weights and images are those of the parity tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from fixtures.fill import fill_state_dict, make_images  # noqa: E402


def fill(module: torch.nn.Module, salt: str = "") -> None:
    """Weights by the rule of `tests/fixtures/fill.py`: every tensor from its name and shape alone."""
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    module.load_state_dict(fill_state_dict(shapes, salt), strict=True)


def load_file(path: Path, name: str) -> ModuleType:
    """Imports one file of somebody's checkout, under a name of its own."""
    if not path.is_file():
        raise SystemExit(f"{path} is not there: is the checkout the right one, and whole?")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digest(path: Path) -> str:
    """The first 12 digits of the SHA-256 of a file, to tell which version of somebody's code was measured."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved_times(
    routes: dict[str, Callable[[], object]], device: torch.device, rounds: int, seconds: float = 0.3
) -> dict[str, float]:
    """
    Seconds a call of each route, the median of the rounds. The routes take turns, so that other load on the machine
    falls on all of them; in a round each runs for at least `seconds`.
    """
    calls = {}
    for name, route in routes.items():
        route()
        synchronize(device)
        start = time.perf_counter()
        route()
        synchronize(device)
        calls[name] = max(1, round(seconds / (time.perf_counter() - start)))
    times = {name: [] for name in routes}
    for _ in range(rounds):
        for name, route in routes.items():
            start = time.perf_counter()
            for _ in range(calls[name]):
                route()
            synchronize(device)
            times[name].append((time.perf_counter() - start) / calls[name])
    return {name: statistics.median(values) for name, values in times.items()}


def peak_memory(function: Callable[[], object], device: torch.device) -> float | None:
    """
    MiB that a call needs at its peak over what stands in memory before it: feature maps and workspace, no weights.
    On a CPU from the resident memory, which Linux alone lets one reset; `None` elsewhere.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # or memory that is free but not given back would hide the peak
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    before = _resident("VmRSS")
    function()
    return (_resident("VmHWM") - before) / 2**10


def _resident(field: str) -> int:
    """In KiB."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field))


def megabytes(module: torch.nn.Module) -> float:
    """MiB of parameters and buffers."""
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 2**20


def machine(device: torch.device) -> str:
    """One line: what it ran on, with which versions, when, and how busy the machine was before."""
    if device.type == "cuda":
        hardware = torch.cuda.get_device_name(device)
    else:
        names = [platform.processor() or platform.machine()]
        if Path("/proc/cpuinfo").exists():
            lines = Path("/proc/cpuinfo").read_text().splitlines()
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")] or names
        hardware = f"{names[0]}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, diffusers {diffusers.__version__}, "
    versions += f"transformers {transformers.__version__}"
    load = f"load average before {_LOAD}" if _LOAD is not None else "load average not known"
    return f"{hardware}; {versions}; {datetime.date.today():%d %B %Y}; {load}"


_LOAD = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else None


def write_result(path: Path | None, text: str) -> None:
    """Prints the result and, where a path is given, writes it there, beside and renamed."""
    print(text)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}.new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)


__all__ = [
    "digest",
    "fill",
    "interleaved_times",
    "load_file",
    "machine",
    "make_images",
    "megabytes",
    "peak_memory",
    "synchronize",
    "write_result",
]
