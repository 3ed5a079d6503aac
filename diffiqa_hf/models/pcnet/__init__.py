# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
from .configuration_pcnet import PCNetConfig
from .modeling_pcnet import PCNetForFaceQuality, pair_loss


__all__ = ["PCNetConfig", "PCNetForFaceQuality", "pair_loss"]
