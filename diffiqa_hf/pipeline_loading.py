# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""From a folder or the Hub to a DifFIQA pipeline and back: every weight is read, and no code of the folder is run."""

import importlib
import inspect
import json
import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging
from huggingface_hub import snapshot_download

from .calibration import CalibrationMixin, find_calibration
from .conversion.networks import load_fr_model
from .default_weights import PIPELINE
from .face_check import FaceCheck
from .models.loading import LoadingError, load_pretrained, named_faults


logger = logging.get_logger(__name__)

NETWORKS = ("unet", "fr_model")
# The pipeline whose components were asked for last, by its UNet.
_LAST_OF: weakref.WeakKeyDictionary[torch.nn.Module, weakref.ref] = weakref.WeakKeyDictionary()


if TYPE_CHECKING:  # it stands before DiffusionPipeline among the bases, and calls that by `super()`
    from diffusers import DiffusionPipeline as _Base
else:
    _Base = object


class DifFIQALoaderMixin(CalibrationMixin, _Base):
    """What [`DifFIQAPipeline`] has of `DiffusionPipeline`'s loading and saving, and does beside it."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike = "default", **kwargs):
        """
        As in diffusers: a folder or a Hub id. `"default"` is the small pipeline that comes with the package. Its
        `fr_model` may be a name as well, as [`load_method`] takes it.
        """
        if isinstance(kwargs.get("fr_model"), (str, os.PathLike)):
            kwargs["fr_model"] = load_fr_model(kwargs["fr_model"])
        folder = pretrained_model_name_or_path
        if folder == "default":
            folder = PIPELINE
        with named_faults(folder, **{name: kwargs[name] for name in ("revision", "cache_dir") if name in kwargs}):
            if not os.path.isdir(folder):
                folder = cls.download(os.fspath(folder), **kwargs)
            loaded = _load_components(Path(folder), kwargs)
            if kwargs.get("device_map") is not None and kwargs.get("torch_dtype") is None:
                kwargs["dtype"] = (
                    kwargs.get("dtype") or torch.float32
                )  # models of transformers come as they were saved
            pipe = super().from_pretrained(folder, **{**loaded, **kwargs})
            for name in NETWORKS:
                # Those of classes that only diffusers knows where to find, and those that it has spread over devices.
                # Once more, since it keeps to itself what they lack.
                if name not in loaded and kwargs.get(name, pipe) is pipe and getattr(pipe, name) is not None:
                    load_pretrained(type(getattr(pipe, name)), Path(folder) / name, **_options(folder, name, kwargs))
        pipe.calibration = find_calibration(folder)
        if folder == PIPELINE:
            pipe.face_check = FaceCheck.load(action="lower")
        return pipe

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs) -> "DifFIQALoaderMixin":
        """As in diffusers: another pipeline of the same parts and settings; with the calibration, if there is one."""
        pipe = super().from_pipe(pipeline, **kwargs)
        if isinstance(pipeline, DifFIQALoaderMixin):
            pipe._take_calibration(pipeline)
        return pipe

    @property
    def components(self) -> dict[str, Any]:
        """
        As in diffusers. `DifFIQAPipeline(**pipe.components)` has the calibration of `pipe`, and, as in diffusers, the
        default settings: where that makes a difference a warning says so. [`~DifFIQAPipeline.from_pipe`] keeps both.
        """
        components = super().components
        if isinstance(self.unet, torch.nn.Module):
            _LAST_OF[self.unet] = weakref.ref(self)
        return components

    def _take_calibration(self, pipeline: "DifFIQALoaderMixin") -> None:
        # With the digests: a folded copy counts as the network that it was made of.
        self._digests = dict(pipeline.__dict__.get("_digests", {}))
        self.calibration = pipeline.calibration

    def _follow(self) -> None:
        """What a pipeline of the components of another has of that."""
        last = _LAST_OF.get(self.unet, lambda: None)() if isinstance(self.unet, torch.nn.Module) else None
        if last is None or last is self or last.fr_model is not self.fr_model:
            return
        self._take_calibration(last)
        defaults = inspect.signature(type(self).__init__).parameters
        lost = [
            f"{name} was {last.config[name]}, is {parameter.default}"
            for name, parameter in defaults.items()
            if parameter.default is not inspect.Parameter.empty
            and self.config[name] == parameter.default != last.config[name]
        ]
        if lost:
            logger.warning(
                f"the settings of the pipeline that the components are of are lost ({'; '.join(lost)}): "
                "DifFIQAPipeline.from_pipe keeps them"
            )

    @classmethod
    def download(cls, pretrained_model_name: str, **kwargs) -> str:
        """
        The folder of a Hub id in the cache. Not diffusers' own, which fetches no pipeline that has components of other
        libraries (`_get_custom_components_and_folders`, seen in 0.42), and no file with code.
        """
        names = ("cache_dir", "force_download", "local_files_only", "token", "revision")
        options = {name: kwargs[name] for name in names if name in kwargs}
        patterns = ["*.json", "*.safetensors"]
        return snapshot_download(pretrained_model_name, allow_patterns=patterns, **options)

    def save_pretrained(self, save_directory: str | os.PathLike, *args, **kwargs) -> None:
        """As in diffusers; with the calibration, if there is one."""
        # First, because the call below may push the folder.
        if self.calibration is not None and not os.path.isfile(save_directory):
            self.calibration.save_pretrained(save_directory)
        super().save_pretrained(save_directory, *args, **kwargs)


def _load_components(folder: Path, kwargs: dict[str, Any]) -> dict[str, Any]:
    """
    The networks of a folder, for `DiffusionPipeline.from_pretrained`, which would make up what they lack. And those of
    our components that lie beside their code, as `diffiqa_hf.hub` puts it there for `DiffusionPipeline`: from the
    package, so that no code of the folder is run.
    """
    if not (folder / "model_index.json").exists():
        other = "; it has the config.json of a single model" if (folder / "config.json").exists() else ""
        raise LoadingError(f"{folder} is no pipeline: it has no model_index.json{other}")
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    found = {}
    for name, entry in index.items():
        if name in kwargs or not isinstance(entry, list) or len(entry) != 2 or not all(map(_is_text, entry)):
            continue
        module, class_name = entry
        with_code = (folder / name / f"{module}.py").exists()
        if with_code and not module.startswith("diffiqa_hf."):
            continue  # diffusers asks for trust_remote_code
        if not with_code and (name not in NETWORKS or kwargs.get("device_map") is not None):
            continue
        try:
            component = getattr(importlib.import_module(module), class_name)
        except (ImportError, AttributeError, ValueError):
            continue  # diffusers knows other places, and says what it misses
        if issubclass(component, torch.nn.Module):
            found[name] = load_pretrained(component, folder / name, **_options(folder, name, kwargs))
        else:
            found[name] = component.from_pretrained(folder / name)
    return found


def _options(folder: str | os.PathLike, name: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """How the arguments of `DifFIQAPipeline.from_pretrained` apply to one of its networks."""
    dtype = kwargs.get("dtype") or kwargs.get("torch_dtype")
    if isinstance(dtype, dict):
        dtype = dtype.get(name, dtype.get("default"))
    options = {"dtype": dtype if isinstance(dtype, torch.dtype) else torch.float32}
    if kwargs.get("use_safetensors") is not None:
        options["use_safetensors"] = kwargs["use_safetensors"]
    if (variant := kwargs.get("variant")) is not None:
        files = [str(path.relative_to(folder)) for part in NETWORKS for path in (Path(folder) / part).glob("*")]
        of_variant = [file for file in files if f".{variant}." in file or f".{variant}-" in file]
        if not of_variant:
            raise LoadingError(f"{folder} has no files of the variant {variant!r}")
        if any(Path(file).parts[0] == name for file in of_variant):  # as in diffusers, the others are the plain ones
            options["variant"] = variant
    return options


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


__all__ = ["NETWORKS", "DifFIQALoaderMixin"]
