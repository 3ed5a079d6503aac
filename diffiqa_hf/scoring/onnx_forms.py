# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The ONNX form of weights: it lies beside them (`model.onnx`), or is made once and kept in the cache, by the digest of
the weights. Imported without torch.
"""

import hashlib
import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

from ..file_utils import replace_file
from ..fingerprints import config_digest, file_digest, folder_digest
from ..inference.onnx_session import PIPELINE_FORMS, TIMESTEP, OnnxError, OnnxNetwork


FORM_NAME = "model.onnx"
# Counts up when what export_onnx writes changes: a form of another number is not used.
FORM = 1
TOLERANCE = 1e-5  # of the scores, relative to the largest where that is above 1


def source_digest(source: str | os.PathLike, dialect: str | None = None, norms: bool = False) -> str | None:
    """
    What the form of a folder or a published file goes by: digits of its weights and of what decides how they are used.
    `None` where there is nothing of the kind, or it can't be told without torch.

    Args:
        source: The folder or file.
        dialect: Of a file.
        norms: Whether the form is that of an FR model, which gives the norm of the embedding.
    """
    path, ending = Path(source), f"norms-{FORM}" if norms else f"{FORM}"
    try:
        if path.is_file():
            return f"{file_digest(path)}-{dialect or 'any'}-{ending}"
        weights = folder_digest(path)
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        return None if weights is None else f"{weights}-{config_digest(config)}-{ending}"
    except (OSError, ValueError, AttributeError):
        return None


def model_digest(model: Any, norms: bool = False) -> str:
    """As [`source_digest`], of a model of torch, wherever it is from."""
    from ..calibration import weights_digest

    kind = "norms" if norms else "model"
    return f"{weights_digest(model)}-{config_digest(model.config.to_dict())}-{kind}-{FORM}"


def cached_form(digest: str) -> Path:
    """Where the form of weights of a digest lies in the cache, if it is there."""
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "diffiqa_hf" / "onnx" / f"{digest}.onnx"


def find_form(
    source: str | os.PathLike, dialect: str | None = None, norms: bool = False, provider: str = "CPUExecutionProvider"
) -> OnnxNetwork | None:
    """
    The form of a folder or published file, if there is one that belongs to it; an ONNX file is one itself. The
    arguments are those of [`source_digest`], and the provider of ONNX Runtime.

    Raises:
        OnnxError: Of an ONNX file: it can't be used.
    """
    if os.path.isfile(source) and os.fspath(source).lower().endswith(".onnx"):
        return OnnxNetwork(source, provider)
    digest = source_digest(source, dialect, norms)
    for path in () if digest is None else (Path(source) / FORM_NAME, cached_form(digest)):
        try:
            network = OnnxNetwork(path, provider) if path.is_file() else None
        except OnnxError:  # a damaged one is made anew
            continue
        if network is not None and network.metadata.get("source") == digest:
            return network
    return None


def make_form(model: Any, digest: str, norms: bool = False) -> Path:
    """
    Writes the form of a model of torch into the cache.

    Raises:
        ImportError: What exports is missing.
        OnnxError: The form would not have the scores of the model.
    """
    from ..inference.onnx import export_onnx, largest_difference

    def write(beside: Path) -> None:
        with quiet_export():
            export_onnx(model, beside, norms=norms, source=digest)
        difference = largest_difference(model, beside)
        if not difference < TOLERANCE:
            raise OnnxError(f"the scores of the ONNX form of {type(model).__name__} differ by {difference:.1e}")

    return replace_file(cached_form(digest), write)


# Where the weights of a pipeline's networks lie, below its folder.
PIPELINE_WEIGHTS = {"unet": "diffusion_pytorch_model.safetensors", "fr_model": "model.safetensors"}


def pipeline_digests(folder: str | os.PathLike) -> tuple[str, dict[str, str]] | None:
    """
    What the form of a [`DifFIQAPipeline`]'s folder goes by, and the digests of its weights by the names of its
    networks. `None` where it is none, or what it has can't be told without torch.
    """
    folder, weights = Path(folder), {}
    try:
        index = _config(folder / "model_index.json")
        # What is loaded is of the classes that are named there; of a scheduler only one's steps are in NumPy.
        parts = [":".join(index[name]) for name in ("unet", "fr_model", "scheduler", "image_processor")]
        if index["scheduler"][1] != "DDPMScheduler" or list((folder / "unet").glob("*.index.json")):
            return None
        for name, file in PIPELINE_WEIGHTS.items():
            digest = folder_digest(folder / name, file)
            if digest is None:
                return None
            weights[name] = digest
            parts += [digest, config_digest(_config(folder / name / "config.json"))]
        others = ("scheduler/scheduler_config.json", "image_processor/preprocessor_config.json")
        parts += [*(config_digest(_config(folder / file)) for file in others), str(FORM)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return hashlib.sha256("-".join(parts).encode()).hexdigest()[:32], weights


def _config(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def pipeline_form(folder: str | os.PathLike, digest: str) -> dict[str, OnnxNetwork] | None:
    """The networks of a pipeline by the names of its components, where there is a form of these digits."""
    for place in (Path(folder), cached_form(digest).with_suffix("")):
        try:
            networks = {
                name: OnnxNetwork(place / file, further=(TIMESTEP,) if name == "unet" else ())
                for name, file in PIPELINE_FORMS.items()
            }
        except OnnxError:  # there is none, or a damaged one
            continue
        if all(network.metadata.get("source") == digest for network in networks.values()):
            return networks
    return None


def make_pipeline_form(pipe: Any, digest: str) -> None:
    """
    Writes the form of a pipeline of torch into the cache.

    Raises:
        ImportError: What exports is missing.
        OnnxError: The form would not give what the networks give.
    """
    from ..inference.onnx_pipeline import export_pipeline

    folder = cached_form(digest).with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_export():
        export_pipeline(pipe, folder, digest)


class quiet_export(warnings.catch_warnings):
    """What torch's exporter says of itself, and of packages that it does not need, is not shown within."""

    def __enter__(self):
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        self._logger = logging.getLogger("torch.onnx")
        self._level = self._logger.level
        self._logger.setLevel(logging.ERROR)
        return entered

    def __exit__(self, *error) -> None:
        self._logger.setLevel(self._level)
        super().__exit__(*error)


__all__ = [
    "FORM",
    "FORM_NAME",
    "cached_form",
    "find_form",
    "make_form",
    "make_pipeline_form",
    "model_digest",
    "pipeline_digests",
    "pipeline_form",
    "quiet_export",
    "source_digest",
]
