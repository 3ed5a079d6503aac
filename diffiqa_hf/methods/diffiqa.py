# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""DifFIQA itself, called like the others: [`DifFIQAPipeline`] is the whole of it."""

import os
from collections.abc import Iterator
from typing import Any

import torch

from ..calibration import Calibration
from ..conversion.networks import load_fr_model
from ..face_check import FaceCheck
from ..image_processing_face import FaceImageProcessor
from ..images.extraction import FaceExtractor
from ..pipeline_diffiqa import DifFIQAPipeline
from ..pipeline_output import TERMS, FaceQualityRecord
from ..quality_record import used_terms
from .cards import MethodCard
from .network_method import NetworkMethod


class DifFIQAMethod(NetworkMethod):
    """
    The score of a [`DifFIQAPipeline`].

    Args:
        card ([`MethodCard`]): Of the method.
        pipeline ([`DifFIQAPipeline`]): What scores.
        preset (`str`, *optional*): As for [`~DifFIQAPipeline.set_preset`].
        **options: What each call passes on to the pipeline, such as `num_repeats`.
    """

    def __init__(
        self,
        card: MethodCard,
        pipeline: DifFIQAPipeline,
        image_processor: FaceImageProcessor | None = None,
        preset: str | None = None,
        **options: Any,
    ):
        super().__init__(card, pipeline.fr_model, image_processor or pipeline.image_processor)
        self.pipeline = pipeline
        pipeline.register_modules(image_processor=self.image_processor)
        if preset is not None:
            pipeline.set_preset(preset)
        self.options = options

    @classmethod
    def load(
        cls,
        card: MethodCard,
        *,
        weights: str | os.PathLike | DifFIQAPipeline = "default",
        fr_model: str | os.PathLike | torch.nn.Module | None = None,
        image_processor: FaceImageProcessor | None = None,
        **options: Any,
    ) -> "DifFIQAMethod":
        replaced = {} if fr_model is None else {"fr_model": load_fr_model(fr_model)}
        if isinstance(weights, DifFIQAPipeline):
            # Another pipeline of the same parts: what is set here is not set in the caller's.
            pipeline = DifFIQAPipeline(**{**weights.components, **replaced}, **_settings(weights))
            pipeline.calibration = weights.calibration
        else:
            pipeline = DifFIQAPipeline.from_pretrained(weights, **replaced)
        return cls(card, pipeline, image_processor, **options)

    def stream(
        self,
        images: Any,
        landmarks: Any = None,
        *,
        batch_size: int | None = None,
        seed: int = 0,
        on_error: str = "nan",
    ) -> Iterator[FaceQualityRecord]:
        """As [`~NetworkMethod.stream`]; `batch_size` counts the noisy copies that go through the UNet."""
        self.pipeline.reading_threads = self.reading_threads
        return self.pipeline.stream(
            images, landmarks, batch_size=batch_size, seed=seed, on_error=on_error, **self.options
        )

    @property
    def calibration(self) -> Calibration | None:
        """The pipeline's."""
        return self.pipeline.calibration

    @calibration.setter
    def calibration(self, calibration: Calibration | None) -> None:
        self.pipeline.calibration = calibration

    @property
    def face_check(self) -> FaceCheck | None:
        """The pipeline's."""
        return self.pipeline.face_check

    @face_check.setter
    def face_check(self, face_check: FaceCheck | None) -> None:
        self.pipeline.face_check = face_check

    def calibration_settings(self) -> dict[str, Any]:
        """As [`~DifFIQAPipeline.calibration_settings`], with the options of the method."""
        names = ("num_timesteps", "num_inference_steps", "num_repeats")
        used = {name: value for name, value in self.options.items() if name.startswith("use_")}
        return self.pipeline.calibration_settings(
            **{name: self.options.get(name) for name in names}, terms=used_terms(**used)
        )

    def term_names(self) -> tuple[str, ...]:
        """Those of the similarities that the options of the method leave."""
        used = used_terms(**{name: value for name, value in self.options.items() if name.startswith("use_")})
        return tuple(term for term in TERMS if term in used)

    def _set_image_processor(self, processor: FaceExtractor) -> None:
        super()._set_image_processor(processor)
        self.pipeline.register_modules(image_processor=processor)

    def enable_folding(self, winograd: bool = False) -> None:
        self.pipeline.enable_folding(winograd)
        self.model = self.pipeline.fr_model

    def to(self, device: Any = None, dtype: torch.dtype | None = None) -> "DifFIQAMethod":
        self.pipeline.to(*(argument for argument in (device, dtype) if argument is not None))
        return self

    def set_progress_bar_config(self, **kwargs) -> None:
        self.pipeline.set_progress_bar_config(**kwargs)


def _settings(pipeline: DifFIQAPipeline) -> dict[str, Any]:
    settings = dict(pipeline.config)
    return {name: settings[name] for name in settings if name not in pipeline.components and name[0] != "_"}


__all__ = ["DifFIQAMethod"]
