# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Face recognition models and the UNet of DifFIQA's authors. Importing this module makes the former known to
transformers' `AutoConfig` and `AutoModel`.
"""

from transformers import AutoConfig, AutoModel

from .iresnet import IResNetConfig, IResNetModel
from .mobilefacenet import MobileFaceNetConfig, MobileFaceNetModel
from .modeling_face import FaceEmbeddingOutput, FaceModelConfig, FacePreTrainedModel
from .unet_diffiqa import DifFIQAUNetModel


for _config, _model in ((MobileFaceNetConfig, MobileFaceNetModel), (IResNetConfig, IResNetModel)):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModel.register(_config, _model, exist_ok=True)

__all__ = [
    "DifFIQAUNetModel",
    "FaceEmbeddingOutput",
    "FaceModelConfig",
    "FacePreTrainedModel",
    "IResNetConfig",
    "IResNetModel",
    "MobileFaceNetConfig",
    "MobileFaceNetModel",
]
