# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Face recognition and face quality models, the UNet of DifFIQA's authors, and a transformer in its place. Importing this
module makes the first known to transformers' `AutoConfig` and `AutoModel`, the second to [`AutoModelForFaceQuality`],
the image processor of both to `AutoImageProcessor`, and the task "face-image-quality-assessment" to
`transformers.pipeline`.
"""

from transformers import AutoConfig, AutoModel

from .. import image_processing_face  # noqa: F401 - makes AutoImageProcessor know it
from .clib_fiqa import CLIBFIQAConfig, CLIBFIQAForFaceQuality
from .dit_diffiqa import DifFIQADiTModel
from .dlib_resnet import DlibResNetConfig, DlibResNetModel
from .face_vit import FaceViTConfig, FaceViTForFaceQuality, FaceViTModel
from .faceqgen import FaceQgenConfig, FaceQgenForFaceQuality
from .faceqnet import FaceQnetConfig, FaceQnetForFaceQuality
from .iresnet import IResNetConfig, IResNetModel
from .lightqnet import LightQNetConfig, LightQNetForFaceQuality
from .mobilefacenet import MobileFaceNetConfig, MobileFaceNetModel
from .modeling_face import FaceEmbeddingOutput, FaceModelConfig, FacePreTrainedModel
from .modeling_face_quality import (
    AutoModelForFaceQuality,
    DifFIQARModel,
    FaceQualityModelOutput,
    IResNetForFaceQuality,
    MobileFaceNetForFaceQuality,
    SDDFIQAConfig,
    SDDFIQAForFaceQuality,
)
from .pcnet import PCNetConfig, PCNetForFaceQuality
from .pfe import PFEConfig, PFEForFaceQuality, SphereNetConfig, SphereNetModel
from .task import register_task
from .unet_diffiqa import DifFIQAUNetModel


for _config, _model in (
    (DlibResNetConfig, DlibResNetModel),
    (FaceViTConfig, FaceViTModel),
    (MobileFaceNetConfig, MobileFaceNetModel),
    (IResNetConfig, IResNetModel),
):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModel.register(_config, _model, exist_ok=True)

register_task()


__all__ = [
    "AutoModelForFaceQuality",
    "CLIBFIQAConfig",
    "CLIBFIQAForFaceQuality",
    "DifFIQADiTModel",
    "DifFIQARModel",
    "DifFIQAUNetModel",
    "DlibResNetConfig",
    "DlibResNetModel",
    "FaceEmbeddingOutput",
    "FaceModelConfig",
    "FacePreTrainedModel",
    "FaceQgenConfig",
    "FaceQgenForFaceQuality",
    "FaceQnetConfig",
    "FaceQnetForFaceQuality",
    "FaceQualityModelOutput",
    "FaceViTConfig",
    "FaceViTForFaceQuality",
    "FaceViTModel",
    "IResNetConfig",
    "IResNetForFaceQuality",
    "IResNetModel",
    "LightQNetConfig",
    "LightQNetForFaceQuality",
    "MobileFaceNetConfig",
    "MobileFaceNetForFaceQuality",
    "MobileFaceNetModel",
    "PCNetConfig",
    "PCNetForFaceQuality",
    "PFEConfig",
    "PFEForFaceQuality",
    "SDDFIQAConfig",
    "SDDFIQAForFaceQuality",
    "SphereNetConfig",
    "SphereNetModel",
]
