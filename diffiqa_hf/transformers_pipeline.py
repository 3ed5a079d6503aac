# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`transformers.pipeline("face-image-quality-assessment", model=...)` for the face quality models."""

import os
from types import GeneratorType
from typing import Any

import torch
from transformers import Pipeline

from .calibration import Calibration, find_calibration, weights_digest
from .inference.network_views import for_inference, one_at_a_time, output_of
from .inference.onnx_session import OnnxNetwork, has_onnx_runtime
from .methods.onnx_method import ENGINES
from .methods.regression import method_of
from .models import FaceQualityModelOutput
from .scoring.image_stream import as_iterable
from .scoring.onnx_forms import find_form, make_form, model_digest
from .scoring.threads import cores


class FaceQualityPipeline(Pipeline):
    """
    The quality of face images by one of the models that [`AutoModelForFaceQuality`] loads: DifFIQA(R), CR-FIQA, ...

    An image is whatever [`~diffiqa_hf.image_processing_face.load_image`] takes, an aligned crop unless the image
    processor aligns it. One image gives a dictionary, a list or a `datasets` column of N images a list of N, a
    generator or a torch dataset an iterator: `{"score": float}`, higher is better, on the model's own scale, and
    `"percentile"` in [0, 100] beside it where there is a calibration that was measured with this model. Of several
    faces in an image (`multiple_faces="all"` of the image processor) it is the largest that counts.

    Args:
        engine (`str`, *optional*, defaults to `"auto"`): What runs the model: `"torch"`, or `"onnx"`, ONNX Runtime, on
            a CPU in float32; the scores are the same to 1e-5. `"onnx"` makes the ONNX form of the model where there is
            none (`pip install "diffiqa_hf[onnx]"`); `"auto"` takes ONNX Runtime where the form is there, beside the
            model or in the cache, and the model is that of its files.

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

    def __init__(self, *args: Any, engine: str = "auto", **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._onnx = self._find_onnx(engine)
        try:
            # Of the commit that the model is of, where it is from the Hub.
            revision = getattr(self.model.config, "_commit_hash", None)
            found = self.model.name_or_path
            self.calibration = find_calibration(found, revision=revision) if found else None
        except OSError:  # the folder has gone, or the repository asks for the token, which transformers keeps
            self.calibration = None

    @property
    def engine(self) -> str:
        """What runs the model: `"torch"` or `"onnx"`."""
        return "torch" if self._onnx is None else "onnx"

    def _find_onnx(self, engine: str) -> OnnxNetwork | None:
        if engine not in ENGINES:
            raise ValueError(f"engine is one of {', '.join(ENGINES)}, not {engine!r}")
        if engine == "torch":
            return None
        if self.device.type != "cpu" or self.model.dtype != torch.float32:
            if engine == "onnx":
                raise ValueError(f"engine 'onnx' is for a CPU and float32, not {self.device} and {self.model.dtype}")
            return None
        found = self.model.name_or_path
        network = find_form(found) if found and os.path.isdir(found) and has_onnx_runtime() else None
        if network is not None and network.metadata["weights"] == weights_digest(self.model):
            return network
        return OnnxNetwork(make_form(self.model, model_digest(self.model))) if engine == "onnx" else None

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
        if self._onnx is not None:
            faces = input_tensors["pixel_values"].numpy()
            return FaceQualityModelOutput(scores=torch.from_numpy(self._onnx.run(faces, cores())["scores"]))
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

    def __init__(self, images: Any):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.images[index]


__all__ = ["FaceQualityPipeline"]
