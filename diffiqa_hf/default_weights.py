# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Where the weights lie that come with the package: what `"default"` stands for. Read without torch."""

from pathlib import Path


PIPELINE = Path(__file__).parent / "checkpoints" / "default"  # a DifFIQAPipeline
FR_MODEL = PIPELINE / "fr_model"
QUALITY_MODEL = Path(__file__).parent / "checkpoints" / "diffiqa_r"  # DifFIQA(R)
DEFAULT_METHOD = "diffiqa-r"  # what scores where no method is named

__all__ = ["DEFAULT_METHOD", "FR_MODEL", "PIPELINE", "QUALITY_MODEL"]
