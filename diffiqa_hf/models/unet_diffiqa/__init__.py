# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
from .modeling_unet_diffiqa import DifFIQAUNetModel, DifFIQAUNetOutput


__all__ = ["DifFIQAUNetModel", "DifFIQAUNetOutput"]
