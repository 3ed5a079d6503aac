# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Face image quality assessment in the Hugging Face ecosystem.

The public names are imported when they are first used (PEP 562), so that `import diffiqa_hf` loads neither torch nor
transformers. The Auto classes of transformers know the models of this package once `diffiqa_hf.models`, or any
class out of it, has been imported.
"""

import importlib
from typing import TYPE_CHECKING


__version__ = "0.1.0"

# Public name -> the module that defines it; a module's own name is public as well.
_MODULE_OF = {
    "BSRGANDegradation": "degradations",
    "DifFIQAPipeline": "pipeline_diffiqa",
    "DifFIQAUNetModel": "models",
    "FaceEmbeddingOutput": "models",
    "FaceImageError": "image_processing_face",
    "FaceImageProcessor": "image_processing_face",
    "FaceQualityOutput": "pipeline_output",
    "FaceQualityRecord": "pipeline_output",
    "IResNetConfig": "models",
    "IResNetModel": "models",
    "MobileFaceNetConfig": "models",
    "MobileFaceNetModel": "models",
    "NoFaceError": "image_processing_face",
    "blend": "degradations",
    "blend_weight": "degradations",
    "degrade_at": "degradations",
    "degrade_face": "degradations",
}
_SUBMODULES = {"alignment", *_MODULE_OF.values()}

# Spelled out, and not made from the table, because type checkers and linters read it.
__all__ = [
    "BSRGANDegradation",
    "DifFIQAPipeline",
    "DifFIQAUNetModel",
    "FaceEmbeddingOutput",
    "FaceImageError",
    "FaceImageProcessor",
    "FaceQualityOutput",
    "FaceQualityRecord",
    "IResNetConfig",
    "IResNetModel",
    "MobileFaceNetConfig",
    "MobileFaceNetModel",
    "NoFaceError",
    "__version__",
    "blend",
    "blend_weight",
    "degrade_at",
    "degrade_face",
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
    from .degradations import BSRGANDegradation, blend, blend_weight, degrade_at, degrade_face
    from .image_processing_face import FaceImageError, FaceImageProcessor, NoFaceError
    from .models import (
        DifFIQAUNetModel,
        FaceEmbeddingOutput,
        IResNetConfig,
        IResNetModel,
        MobileFaceNetConfig,
        MobileFaceNetModel,
    )
    from .pipeline_diffiqa import DifFIQAPipeline
    from .pipeline_output import FaceQualityOutput, FaceQualityRecord
