# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
from .configuration_faceqgen import FaceQgenConfig
from .modeling_faceqgen import FaceQgenForFaceQuality, FaceQgenModelOutput, ssim


__all__ = ["FaceQgenConfig", "FaceQgenForFaceQuality", "FaceQgenModelOutput", "ssim"]
