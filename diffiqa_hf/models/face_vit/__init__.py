# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
from .configuration_face_vit import FaceViTConfig
from .modeling_face_vit import FaceViTForFaceQuality, FaceViTModel, FaceViTOutput


__all__ = ["FaceViTConfig", "FaceViTForFaceQuality", "FaceViTModel", "FaceViTOutput"]
