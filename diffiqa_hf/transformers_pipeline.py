# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`transformers.pipeline("face-image-quality-assessment", model=...)` for the face quality models."""

from typing import Any

import torch
from transformers import Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

# The module and not what is in it: it imports the models, and these import this module. It has to be imported, for
# that is what makes the image processor known to AutoImageProcessor.
from . import image_processing_face  # noqa: F401
from .models.modeling_face_quality import AutoModelForFaceQuality, FaceQualityModelOutput


TASK = "face-image-quality-assessment"


class FaceQualityPipeline(Pipeline):
    """
    The quality of face images by one of the models that [`AutoModelForFaceQuality`] loads: DifFIQA(R), CR-FIQA, ...

    An image is whatever [`~diffiqa_hf.image_processing_face.load_image`] takes, an aligned crop unless the image
    processor aligns it. One image gives a dictionary, a list of N images a list of N, a generator or a dataset an
    iterator: `{"score": float}`, higher is better, on the model's own scale. Of several faces in an image
    (`multiple_faces="all"` of the image processor) it is the largest that counts.

    Raises:
        FaceImageError: An image can't be read, or has no face.

    Example:

    ```python
    >>> from transformers import pipeline
    >>> import diffiqa_hf.models  # makes the task known

    >>> assess = pipeline("face-image-quality-assessment", model="runs/diffiqa-r/best")  # doctest: +SKIP
    >>> assess(["face.png", "other.png"], batch_size=32)  # doctest: +SKIP
    [{'score': 0.71}, {'score': 0.42}]

    ```
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False

    def _sanitize_parameters(self, **parameters: Any) -> tuple[dict, dict, dict]:
        if parameters:
            raise TypeError(f"unknown arguments: {', '.join(parameters)}")
        return {}, {}, {}

    def preprocess(self, input_: Any) -> dict[str, torch.Tensor]:
        face = self.image_processor.extract_faces(input_)[0].pixel_values
        return {"pixel_values": torch.from_numpy(face)[None].to(self.dtype)}

    def _forward(self, input_tensors: dict[str, torch.Tensor]) -> FaceQualityModelOutput:
        output = self.model(**input_tensors)
        return FaceQualityModelOutput(scores=output.scores)

    def postprocess(self, model_outputs: FaceQualityModelOutput) -> dict[str, float]:
        return {"score": model_outputs["scores"].item()}


if TASK not in PIPELINE_REGISTRY.supported_tasks:
    PIPELINE_REGISTRY.register_pipeline(TASK, FaceQualityPipeline, AutoModelForFaceQuality, type="image")
    # Without this mark `save_pretrained` of the pipeline writes the model alone. With it, it would write this file
    # beside it and name it in the model's configuration, and the folder would need `trust_remote_code` from then on.
    del FaceQualityPipeline._registered_impl

__all__ = ["TASK", "FaceQualityPipeline"]
