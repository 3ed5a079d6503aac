# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Which folders can go to the Hub, what is checked of one, and which of its files go."""

import json
import os
from pathlib import Path
from typing import Any

from .record import HubError, first_line


TEMPLATES = {
    "diffiqa": "DifFIQAPipeline",
    "face_quality": "a face quality model",
    "face_recognition": "an FR model",
    "quality_labels": "faces with quality labels",
}
# What may hold code that runs when it is read, or weights in a form other than safetensors.
UNSAFE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".h5", ".msgpack", ".npz", ".npy")
# Of a run and not of a model: what a folder of a training script has besides.
NOT_PUSHED = (
    ".*",
    "**/.*",
    "*.tmp",
    "*.tmp/*",
    "*.old/*",
    "**/__pycache__/*",
    "checkpoint-*/*",
    "logs/*",
    "fr_embeddings/*",
)


def folder_kind(folder: str | os.PathLike) -> str:
    """
    Which of `TEMPLATES` a folder is.

    Raises:
        HubError: None of them.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise HubError(f"{folder} is no folder")
    try:
        if (folder / "model_index.json").exists():
            name = json.loads((folder / "model_index.json").read_text())["_class_name"]
            if name == "DifFIQAPipeline":
                return "diffiqa"
            raise HubError(f"{folder} is a {name} and no DifFIQAPipeline")
        if (folder / "manifest.json").exists():
            manifest = json.loads((folder / "manifest.json").read_text())
            if not manifest["complete"]:
                raise HubError(f"the labels in {folder} are not complete: start the script that makes them again")
            return "quality_labels"
        if (folder / "config.json").exists():
            names = json.loads((folder / "config.json").read_text()).get("architectures")
            if names:
                return "face_quality" if names[0].endswith("ForFaceQuality") else "face_recognition"
    except (OSError, ValueError, KeyError) as error:
        raise HubError(f"{folder}: {first_line(error)}") from error
    raise HubError(f"{folder} holds no pipeline, no face model and no labels (model_index.json, config.json, ...)")


def check_folder(folder: str | os.PathLike) -> str:
    """
    Whether a folder may be pushed: it loads, all its weights are safetensors, none of them is missing, left over, NaN
    or infinite.

    Returns:
        `str`: which of `TEMPLATES` it is.

    Raises:
        HubError: It may not.
    """
    # Here, because it needs torch.
    from ..models.loading import LoadingError

    folder = Path(folder)
    kind = folder_kind(folder)
    unsafe = sorted(str(path.relative_to(folder)) for path in pushed_files(folder) if path.suffix in UNSAFE_SUFFIXES)
    if unsafe:
        more = f" and {len(unsafe) - 1} more" if len(unsafe) > 1 else ""
        raise HubError(f"{folder}: {unsafe[0]}{more}: only safetensors are pushed (`diffiqa convert` makes them)")
    try:
        for name, component in _load(folder, kind).items():
            _check_weights(name, component)
    except HubError as error:
        raise HubError(f"{folder}: {error}") from error
    except LoadingError as error:
        raise HubError(str(error)) from error
    except Exception as error:  # whatever the libraries trip over in a folder that isn't whole
        raise HubError(f"{folder} does not load: {first_line(error)}") from error
    return kind


def _load(folder: Path, kind: str) -> dict[str, Any]:
    """The models of a folder by name."""
    if kind == "quality_labels":
        import pyarrow.parquet as pq

        for shard in json.loads((folder / "manifest.json").read_text())["shards"]:
            if pq.read_metadata(folder / shard["file"]).num_rows != shard["rows"]:
                raise HubError(f"{shard['file']} has another number of rows than the manifest says")
        return {}
    if kind == "diffiqa":
        from ..pipeline_diffiqa import DifFIQAPipeline
        from ..pipeline_loading import NETWORKS

        pipe = DifFIQAPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        return {name: getattr(pipe, name) for name in NETWORKS}
    from ..conversion.networks import load_fr_model, load_quality_model

    return {"the model": load_quality_model(folder) if kind == "face_quality" else load_fr_model(folder)}


def _check_weights(name: str, model: Any) -> None:
    broken = [key for key, tensor in model.state_dict().items() if not tensor.isfinite().all()]
    if broken:
        raise HubError(f"{name} has NaN or infinite weights ({broken[0]}, ...)")


def component_files(folder: str | os.PathLike) -> dict[str, str]:
    """
    What `DiffusionPipeline.from_pretrained(repo, custom_pipeline=...)` needs beside the components of a pipeline that
    are of another library: a module in the component's folder, since diffusers fetches no pipeline without it
    (`_get_custom_components_and_folders`, seen in 0.42). Each only imports the class from where it is installed. They
    go to the Hub and not into the folder, where diffusers would ask for `trust_remote_code` because of them.

    Returns:
        `dict[str, str]`: texts by the names of the files.
    """
    parts = {}
    for name, entry in json.loads((Path(folder) / "model_index.json").read_text()).items():
        if isinstance(entry, list) and entry[0] and entry[0].split(".")[0] not in ("diffusers", "transformers"):
            module, class_name = entry
            parts[f"{name}/{module}.py"] = (
                f'"""For `DiffusionPipeline.from_pretrained` with `custom_pipeline`: pip install '
                f'{module.split(".")[0]}."""\n\nfrom {module} import {class_name}\n\n\n__all__ = ["{class_name}"]\n'
            )
    return parts


def pushed_files(folder: Path) -> list[Path]:
    from huggingface_hub.utils import filter_repo_objects

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return list(
        filter_repo_objects(files, ignore_patterns=list(NOT_PUSHED), key=lambda p: p.relative_to(folder).as_posix())
    )


__all__ = ["TEMPLATES", "check_folder", "component_files", "folder_kind"]
