# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
from .configuration_dlib_resnet import DlibResNetConfig
from .modeling_dlib_resnet import DlibResNetModel


__all__ = ["DlibResNetConfig", "DlibResNetModel"]
