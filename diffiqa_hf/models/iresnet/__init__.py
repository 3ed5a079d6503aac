# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
from .configuration_iresnet import IResNetConfig
from .modeling_iresnet import IResNetModel


__all__ = ["IResNetConfig", "IResNetModel"]
