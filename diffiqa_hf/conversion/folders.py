# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""A folder of a model whose tensors were saved from inside of a wrapper: `module.conv1.weight` for `conv1.weight`."""

import json
import os
import shutil
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from ..models import DifFIQADiTModel, DifFIQAUNetModel
from ..models.loading import LoadingError, load_pretrained, named_faults
from .checkpoint import check_dest, written_beside
from .errors import CheckpointError
from .loading import read_checkpoint
from .networks import load_fr_model, load_quality_model


def unwrap_folder(
    source: str | os.PathLike, dest: str | os.PathLike, *, overwrite: bool = False
) -> tuple[nn.Module, str]:
    """
    Writes the folder once more with the names that its network has. What else is in it is copied.

    Args:
        source: A folder with `config.json` and safetensors, or weights as transformers and diffusers pickled them,
            which are written as safetensors.
        dest: The folder to write; with `overwrite` it may be `source`.
        overwrite (`bool`, *optional*, defaults to `False`): Whether a model in `dest` is replaced.

    Returns:
        The model, and the prefix that was taken off.

    Raises:
        CheckpointError: There is nothing to take off, or what is left is not the network. The message is the reason.
        OSError: `dest` is in the way or can't be written.
    """
    source, dest = Path(source), Path(dest)
    check_dest(dest, overwrite)
    if (source / "model_index.json").exists():
        raise CheckpointError("a pipeline: name the folder of its part, unet or fr_model")
    if not (source / "config.json").exists():
        raise CheckpointError("a directory without config.json: name the checkpoint file in it")
    try:
        _load(source)
    except LoadingError as error:
        prefix = error.prefix
        if not prefix:
            raise CheckpointError(str(error)) from error
    else:
        raise CheckpointError("a folder that is loaded as it is: there is nothing to convert")
    safe = any(source.glob("*.safetensors"))  # beside them the libraries read no pickles
    with written_beside(dest.resolve()) as folder:
        for path in source.iterdir():
            if path.is_dir():
                shutil.copytree(path, folder / path.name)
            elif safe and ".bin" in path.suffixes:
                continue
            elif path.suffix == ".safetensors" or (path.suffix == ".bin" and "pytorch_model" in path.name):
                tensors = {name.removeprefix(prefix): x.clone() for name, x in read_checkpoint(path).items()}
                save_file(tensors, folder / _safe_name(path.name), metadata={"format": "pt"})
            elif path.name.endswith((".safetensors.index.json", ".bin.index.json")):
                index = json.loads(path.read_text(encoding="utf-8"))
                files = {name.removeprefix(prefix): _safe_name(file) for name, file in index["weight_map"].items()}
                (folder / _safe_name(path.name)).write_text(json.dumps({**index, "weight_map": files}, indent=2))
            else:
                shutil.copyfile(path, folder / path.name)
        try:
            model = _load(folder)
        except LoadingError as error:
            raise CheckpointError(str(error).replace(str(folder), str(source))) from error
    return model, prefix


def _safe_name(name: str) -> str:
    """What the libraries call a file of weights as safetensors: `model.safetensors` for `pytorch_model.bin`."""
    return name.removeprefix("pytorch_").replace(".bin", ".safetensors") if ".bin" in name else name


def _load(folder: Path) -> nn.Module:
    with named_faults(folder):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if "_class_name" in config:
            from diffusers import UNet2DModel

            ours = {cls.__name__: cls for cls in (DifFIQAUNetModel, DifFIQADiTModel)}
            return load_pretrained(ours.get(config["_class_name"], UNet2DModel), folder)
        if (config.get("architectures") or [""])[0].endswith("ForFaceQuality"):
            return load_quality_model(folder)
        return load_fr_model(folder)


__all__ = ["unwrap_folder"]
