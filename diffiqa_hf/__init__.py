# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Face image quality assessment in the Hugging Face ecosystem.

The public names are imported when they are first used (PEP 562), so that `import diffiqa_hf` loads neither torch nor
transformers. The Auto classes of transformers know the models of this package once `diffiqa_hf.models`, or any
class out of it, has been imported.
"""

import importlib
from typing import TYPE_CHECKING

from .version import __version__


# Public name -> the module that defines it; a module's own name is public as well.
_MODULE_OF = {
    "AdaFaceLoss": "losses",
    "ArcFaceLoss": "losses",
    "AutoModelForFaceQuality": "models",
    "BSRGANDegradation": "degradations",
    "CLIBFIQAConfig": "models",
    "CLIBFIQAForFaceQuality": "models",
    "CRFIQALoss": "losses",
    "CRFIQALossOutput": "losses",
    "Calibration": "calibration",
    "CosFaceLoss": "losses",
    "CurricularFaceLoss": "losses",
    "DifFIQADiTModel": "models",
    "DifFIQAPipeline": "pipeline_diffiqa",
    "DifFIQARModel": "models",
    "DifFIQAUNetModel": "models",
    "DlibResNetConfig": "models",
    "DlibResNetModel": "models",
    "EDCProtocol": "evaluation",
    "EDCResult": "evaluation",
    "FNMRLevel": "calibration",
    "FaceEmbeddingOutput": "models",
    "FaceExplanation": "explanation",
    "FaceImageError": "image_processing_face",
    "FaceImageProcessor": "image_processing_face",
    "FaceQgenConfig": "models",
    "FaceQgenForFaceQuality": "models",
    "FaceQnetConfig": "models",
    "FaceQnetForFaceQuality": "models",
    "FaceQualityMethod": "methods",
    "FaceQualityModelOutput": "models",
    "FaceQualityOutput": "pipeline_output",
    "FaceQualityPipeline": "transformers_pipeline",
    "FaceQualityRecord": "pipeline_output",
    "FaceViTConfig": "models",
    "FaceViTForFaceQuality": "models",
    "FaceViTModel": "models",
    "IResNetConfig": "models",
    "IResNetForFaceQuality": "models",
    "IResNetModel": "models",
    "LightQNetConfig": "models",
    "LightQNetForFaceQuality": "models",
    "MagFaceLoss": "losses",
    "MarginLoss": "losses",
    "MethodCard": "methods",
    "MobileFaceNetConfig": "models",
    "MobileFaceNetForFaceQuality": "models",
    "MobileFaceNetModel": "models",
    "NoFaceError": "image_processing_face",
    "PCNetConfig": "models",
    "PCNetForFaceQuality": "models",
    "PFEConfig": "models",
    "PFEForFaceQuality": "models",
    "QualityLabeller": "labelling",
    "RayQualityLabeller": "labelling.ray",
    "SDDFIQAConfig": "models",
    "SDDFIQAForFaceQuality": "models",
    "SphereNetConfig": "models",
    "SphereNetModel": "models",
    "best_faces": "labelling.best_shot",
    "blend": "degradations",
    "blend_weight": "degradations",
    "bootstrap_pauc": "evaluation",
    "degrade_at": "degradations",
    "degrade_face": "degradations",
    "draw_explanation": "explanation",
    "edc_curve": "evaluation",
    "edc_curves": "evaluation",
    "edc_from_embeddings": "evaluation",
    "explain": "explanation",
    "export_onnx": "inference.onnx",
    "fit_calibration": "calibration",
    "fold": "inference.folding",
    "join_score_parts": "labelling.score_parts",
    "label_ray_dataset": "labelling.ray",
    "load_method": "methods",
    "metrics_path": "metrics",
    "sample_classes": "losses",
    "score_ray_dataset": "labelling.ray",
}
_SUBMODULES = {"alignment", *(module.partition(".")[0] for module in _MODULE_OF.values())}

# Spelled out, and not made from the table, because type checkers and linters read it.
__all__ = [
    "AdaFaceLoss",
    "ArcFaceLoss",
    "AutoModelForFaceQuality",
    "BSRGANDegradation",
    "CLIBFIQAConfig",
    "CLIBFIQAForFaceQuality",
    "CRFIQALoss",
    "CRFIQALossOutput",
    "Calibration",
    "CosFaceLoss",
    "CurricularFaceLoss",
    "DifFIQADiTModel",
    "DifFIQAPipeline",
    "DifFIQARModel",
    "DifFIQAUNetModel",
    "DlibResNetConfig",
    "DlibResNetModel",
    "EDCProtocol",
    "EDCResult",
    "FNMRLevel",
    "FaceEmbeddingOutput",
    "FaceExplanation",
    "FaceImageError",
    "FaceImageProcessor",
    "FaceQgenConfig",
    "FaceQgenForFaceQuality",
    "FaceQnetConfig",
    "FaceQnetForFaceQuality",
    "FaceQualityMethod",
    "FaceQualityModelOutput",
    "FaceQualityOutput",
    "FaceQualityPipeline",
    "FaceQualityRecord",
    "FaceViTConfig",
    "FaceViTForFaceQuality",
    "FaceViTModel",
    "IResNetConfig",
    "IResNetForFaceQuality",
    "IResNetModel",
    "LightQNetConfig",
    "LightQNetForFaceQuality",
    "MagFaceLoss",
    "MarginLoss",
    "MethodCard",
    "MobileFaceNetConfig",
    "MobileFaceNetForFaceQuality",
    "MobileFaceNetModel",
    "NoFaceError",
    "PCNetConfig",
    "PCNetForFaceQuality",
    "PFEConfig",
    "PFEForFaceQuality",
    "QualityLabeller",
    "RayQualityLabeller",
    "SDDFIQAConfig",
    "SDDFIQAForFaceQuality",
    "SphereNetConfig",
    "SphereNetModel",
    "__version__",
    "best_faces",
    "blend",
    "blend_weight",
    "bootstrap_pauc",
    "degrade_at",
    "degrade_face",
    "draw_explanation",
    "edc_curve",
    "edc_curves",
    "edc_from_embeddings",
    "explain",
    "export_onnx",
    "fit_calibration",
    "fold",
    "join_score_parts",
    "label_ray_dataset",
    "load_method",
    "metrics_path",
    "sample_classes",
    "score_ray_dataset",
]


def __getattr__(name):
    if name in _SUBMODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_MODULE_OF, *_SUBMODULES})


if TYPE_CHECKING:
    from .calibration import Calibration, FNMRLevel, fit_calibration
    from .degradations import BSRGANDegradation, blend, blend_weight, degrade_at, degrade_face
    from .evaluation import EDCProtocol, EDCResult, bootstrap_pauc, edc_curve, edc_curves, edc_from_embeddings
    from .explanation import FaceExplanation, draw_explanation, explain
    from .image_processing_face import FaceImageError, FaceImageProcessor, NoFaceError
    from .inference.folding import fold
    from .inference.onnx import export_onnx
    from .labelling.best_shot import best_faces
    from .labelling.labeller import QualityLabeller
    from .labelling.ray import RayQualityLabeller, label_ray_dataset, score_ray_dataset
    from .labelling.score_parts import join_score_parts
    from .losses import (
        AdaFaceLoss,
        ArcFaceLoss,
        CosFaceLoss,
        CRFIQALoss,
        CRFIQALossOutput,
        CurricularFaceLoss,
        MagFaceLoss,
        MarginLoss,
        sample_classes,
    )
    from .methods import FaceQualityMethod, MethodCard, load_method
    from .metrics import metrics_path
    from .models import (
        AutoModelForFaceQuality,
        CLIBFIQAConfig,
        CLIBFIQAForFaceQuality,
        DifFIQADiTModel,
        DifFIQARModel,
        DifFIQAUNetModel,
        DlibResNetConfig,
        DlibResNetModel,
        FaceEmbeddingOutput,
        FaceQgenConfig,
        FaceQgenForFaceQuality,
        FaceQnetConfig,
        FaceQnetForFaceQuality,
        FaceQualityModelOutput,
        FaceViTConfig,
        FaceViTForFaceQuality,
        FaceViTModel,
        IResNetConfig,
        IResNetForFaceQuality,
        IResNetModel,
        LightQNetConfig,
        LightQNetForFaceQuality,
        MobileFaceNetConfig,
        MobileFaceNetForFaceQuality,
        MobileFaceNetModel,
        PCNetConfig,
        PCNetForFaceQuality,
        PFEConfig,
        PFEForFaceQuality,
        SDDFIQAConfig,
        SDDFIQAForFaceQuality,
        SphereNetConfig,
        SphereNetModel,
    )
    from .pipeline_diffiqa import DifFIQAPipeline
    from .pipeline_output import FaceQualityOutput, FaceQualityRecord
    from .transformers_pipeline import FaceQualityPipeline
