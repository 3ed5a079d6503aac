# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The task of the quality models in `transformers.pipeline`. The class of its pipeline stands far above the models. It is
registered by its name, as transformers registers its own, and imported by the first who asks for the task. In 5.20,
the newest for Python 3.10, transformers takes no name in the place of the class; so a class stands for it here.
"""

import importlib
from typing import Any

from transformers.pipelines import PIPELINE_REGISTRY

from .modeling_face_quality import CompleteModel


TASK = "face-image-quality-assessment"
PIPELINE = ("transformers_pipeline", "FaceQualityPipeline")


class _ByName(type):
    def _named(cls) -> Any:
        module, name = PIPELINE
        return getattr(importlib.import_module(f"{__name__.partition('.')[0]}.{module}"), name)

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls._named(), name)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls._named()(*args, **kwargs)


class NamedPipeline(metaclass=_ByName):
    """Stands for the pipeline of the task: what is asked of it or made of it is that one's."""


def register_task() -> None:
    """Makes `transformers.pipeline` know the task."""
    task = {"impl": NamedPipeline, "pt": (CompleteModel,), "type": "image"}
    PIPELINE_REGISTRY.supported_tasks.setdefault(TASK, task)


__all__ = ["TASK", "NamedPipeline", "register_task"]
