# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
from .configuration_mobilefacenet import MobileFaceNetConfig
from .modeling_mobilefacenet import MobileFaceNetModel


__all__ = ["MobileFaceNetConfig", "MobileFaceNetModel"]
