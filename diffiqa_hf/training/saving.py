# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What a run leaves of a face model: a folder that is whole or not there."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..calibration import Calibration
from ..file_utils import replace_folder
from ..image_processing_face import FaceImageProcessor


def save_trained(
    model: PreTrainedModel,
    figures: Mapping[str, Any],
    calibration: Calibration | None,
    path: Path,
    processor: FaceImageProcessor | None = None,
) -> None:
    """
    A folder with the model, its image processor, its validation (`validation.json`) and its calibration, if it has
    one; the folder before goes when the new one stands.
    """

    def write(folder: Path) -> None:
        model.save_pretrained(folder)
        (processor or FaceImageProcessor()).save_pretrained(folder)
        if calibration is not None:
            calibration.save_pretrained(folder)
        (folder / "validation.json").write_text(json.dumps(figures, indent=2) + "\n")

    replace_folder(path, write)


__all__ = ["save_trained"]
