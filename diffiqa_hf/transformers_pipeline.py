# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`transformers.pipeline("face-image-quality-assessment", model=...)` for the face quality models."""

import os
from collections.abc import Sequence
from types import GeneratorType
from typing import Any

import torch
from transformers import Pipeline

from .calibration import Calibration, find_calibration
from .inference.network_views import for_inference, one_at_a_time, output_of
from .methods.regression import method_of
from .models import FaceQualityModelOutput
from .scoring.image_stream import as_iterable


class FaceQualityPipeline(Pipeline):
    """
    The quality of face images by one of the models that [`AutoModelForFaceQuality`] loads: DifFIQA(R), CR-FIQA, ...

    An image is whatever [`~diffiqa_hf.image_processing_face.load_image`] takes, an aligned crop unless the image
    processor aligns it. One image gives a dictionary, a list or a `datasets` column of N images a list of N, a
    generator or a torch dataset an iterator: `{"score": float}`, higher is better, on the model's own scale, and
    `"percentile"` in [0, 100] beside it where there is a calibration that was measured with this model. Of several
    faces in an image (`multiple_faces="all"` of the image processor) it is the largest that counts.

    Raises:
        FaceImageError: An image can't be read, or has no face.
        ValueError: The `calibration.json` beside the model is none.

    Example:

    ```python
    >>> from transformers import pipeline
    >>> import diffiqa_hf.models  # makes the task known

    >>> assess = pipeline("face-image-quality-assessment", model="runs/diffiqa-r/best")  # doctest: +SKIP
    >>> assess(["face.png", "other.png"], batch_size=32)  # doctest: +SKIP
    [{'score': 0.71, 'percentile': 88.2}, {'score': 0.42, 'percentile': 23.5}]

    ```
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        try:
            # Of the commit that the model is of, where it is from the Hub.
            revision = getattr(self.model.config, "_commit_hash", None)
            found = self.model.name_or_path
            self.calibration = find_calibration(found, revision=revision) if found else None
        except OSError:  # the folder has gone, or the repository asks for the token, which transformers keeps
            self.calibration = None

    @property
    def calibration(self) -> Calibration | None:
        """What gives the percentiles: the `calibration.json` in the model's folder or repository, or what is set."""
        return None if self._method is None else self._method.calibration

    @calibration.setter
    def calibration(self, calibration: Calibration | None) -> None:
        self._method = None
        if calibration is not None:
            self._method = method_of(self.model)
            self._method.calibration = calibration

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """As in transformers; with the calibration, if there is one."""
        # First, because the call below may push the folder.
        if self.calibration is not None and not os.path.isfile(save_directory):
            self.calibration.save_pretrained(save_directory)
        super().save_pretrained(save_directory, **kwargs)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """
        As in transformers. Many images are a list or a tuple, a column of a `datasets.Dataset`, an array or tensor of
        four dimensions, all of which give a list, or a generator, a torch dataset or whatever else has no length,
        which give an iterator.
        """
        images, count = as_iterable(inputs)
        one = images is not inputs or not (hasattr(inputs, "__iter__") or hasattr(inputs, "__getitem__"))
        if one or isinstance(inputs, torch.utils.data.Dataset | GeneratorType):
            return super().__call__(inputs, *args, **kwargs)
        if count is None:
            return super().__call__((image for image in images), *args, **kwargs)
        return list(super().__call__(_Images(images), *args, **kwargs))

    def _sanitize_parameters(self, **parameters: Any) -> tuple[dict, dict, dict]:
        if parameters:
            raise TypeError(f"unknown arguments: {', '.join(parameters)}")
        return {}, {}, {}

    def preprocess(self, input_: Any) -> dict[str, torch.Tensor]:
        face = self.image_processor.extract_faces(input_)[0].pixel_values
        return {"pixel_values": torch.from_numpy(face)[None].to(self.dtype)}

    def _forward(self, input_tensors: dict[str, torch.Tensor]) -> FaceQualityModelOutput:
        with one_at_a_time(self.model):
            scores = output_of(for_inference(self.model), input_tensors["pixel_values"], "scores")
        return FaceQualityModelOutput(scores=scores)

    def postprocess(self, model_outputs: FaceQualityModelOutput) -> dict[str, float]:
        score = model_outputs["scores"].item()
        calibration = None if self._method is None else self._method.usable_calibration()
        return {"score": score} | (
            {} if calibration is None else {"percentile": float(calibration.percentiles(score))}
        )


class _Images(torch.utils.data.Dataset):
    """A sequence in the form that transformers reads item by item."""

    def __init__(self, images: Sequence):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.images[index]


__all__ = ["FaceQualityPipeline"]
