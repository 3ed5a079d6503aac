# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Face recognition models. Importing this module makes them known to transformers' `AutoConfig` and `AutoModel`."""

from transformers import AutoConfig, AutoModel

from .iresnet import IResNetConfig, IResNetModel
from .mobilefacenet import MobileFaceNetConfig, MobileFaceNetModel
from .modeling_face import FaceEmbeddingOutput, FaceModelConfig, FacePreTrainedModel


for _config, _model in ((MobileFaceNetConfig, MobileFaceNetModel), (IResNetConfig, IResNetModel)):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModel.register(_config, _model, exist_ok=True)

__all__ = [
    "FaceEmbeddingOutput",
    "FaceModelConfig",
    "FacePreTrainedModel",
    "IResNetConfig",
    "IResNetModel",
    "MobileFaceNetConfig",
    "MobileFaceNetModel",
]
