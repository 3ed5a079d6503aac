# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Where the commands compute."""

import importlib.util
import os
import re
import sys
from pathlib import Path

from .errors import CommandError, reason


def place(device: str | None) -> str:
    """Where to compute: the device that is named, or an accelerator where there is one, or the CPU."""
    if device is not None or not _may_have_accelerator():
        return device or "cpu"
    import torch

    return str(torch.accelerator.current_accelerator(check_available=True) or "cpu")


def _may_have_accelerator() -> bool:
    # To ask torch takes longer than to score some hundred faces, so what can be told without it is told so.
    if (torch := sys.modules.get("torch")) is not None:
        return torch.accelerator.is_available()
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        said = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        said = ""
    local = re.search(r"\+(\w+)", said)
    build = local[1] if local else ""
    if build == "cpu":
        return False
    nodes = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # of NVIDIA, of it under Windows, and of AMD
    return build == "xpu" or not sys.platform.startswith("linux") or any(map(os.path.exists, nodes))


def placed(scorer, device: str | None, dtype: str | None = None):
    """A pipeline or method on a device, an accelerator where there is one, and in a dtype if one is named."""
    device = place(device)
    if getattr(scorer, "engine", "torch") == "onnx" and device == "cpu" and dtype in (None, "float32"):
        return scorer
    import torch

    try:
        scorer.to(device, *(() if dtype is None else (getattr(torch, dtype),)))
    except (RuntimeError, AssertionError) as error:  # a name that is no device; a torch built without that device
        raise CommandError(f"cannot use the device {device}: {reason(error)}") from error
    return scorer
