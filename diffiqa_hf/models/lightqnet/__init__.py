# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
from .configuration_lightqnet import LightQNetConfig
from .modeling_lightqnet import LightQNetForFaceQuality


__all__ = ["LightQNetConfig", "LightQNetForFaceQuality"]
