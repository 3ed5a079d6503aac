# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
from .configuration_faceqnet import FaceQnetConfig
from .modeling_faceqnet import FaceQnetForFaceQuality


__all__ = ["FaceQnetConfig", "FaceQnetForFaceQuality"]
