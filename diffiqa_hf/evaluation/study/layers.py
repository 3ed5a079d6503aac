# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""FROQ's layers in place of the images that they are chosen by."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ...file_utils import write_text
from ...scoring.image_files import find_images
from .cache import key_of
from .config import MethodConfig
from .files import StudyImages


def with_layers(
    config: MethodConfig, fr_model: str | None, options: dict[str, Any], folder: Path, bar: Callable[..., Any]
) -> dict[str, Any]:
    """The options with the layers that `calibration` chooses, which takes minutes: they are kept in the folder."""
    import datasets

    from ...conversion.networks import load_fr_model
    from ...fingerprints import fingerprint
    from ...image_processing_face import FaceImageProcessor
    from ...methods import load_method

    model = load_fr_model("default" if fr_model is None else fr_model)
    given = options["calibration"]
    files, _ = find_images([given] if isinstance(given, str) else given, recursive=True)
    images = datasets.Dataset.from_dict({"image": files}, datasets.Features({"image": datasets.Image()}))
    others = {name: value for name, value in options.items() if name != "calibration"}
    settings = {
        "kind": "layers",
        "method": config.method,
        "options": others,
        "weights": fingerprint(SimpleNamespace(model=model, image_processor=FaceImageProcessor())),
        "images": StudyImages(images).digest(bar),
    }
    path = folder / f"{key_of(settings)}.json"
    if not path.exists():
        froq: Any = load_method(config.method, config.weights, model, align=False, **options)
        write_text(path, json.dumps({**settings, "layers": froq.layers}, indent=2, default=str) + "\n")
    return {**others, "layers": json.loads(path.read_text(encoding="utf-8"))["layers"]}


__all__ = ["with_layers"]
