# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
from .modeling_dit_diffiqa import DifFIQADiTModel, DifFIQADiTOutput


__all__ = ["DifFIQADiTModel", "DifFIQADiTOutput"]
