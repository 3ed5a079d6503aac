# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
from .configuration_clib_fiqa import CLIBFIQAConfig
from .modeling_clib_fiqa import CLIBFIQAForFaceQuality, CLIBFIQAModelOutput


__all__ = ["CLIBFIQAConfig", "CLIBFIQAForFaceQuality", "CLIBFIQAModelOutput"]
