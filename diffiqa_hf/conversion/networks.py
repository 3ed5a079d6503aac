# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The networks that people name: by a folder, a Hub id, a published file or `"default"`. Every command, method and script
takes them through these functions, and so all take the same.
"""

import os
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from .. import models  # noqa: F401 - makes our FR models known to AutoModel
from ..default_weights import FR_MODEL, QUALITY_MODEL
from ..models import AutoModelForFaceQuality, FacePreTrainedModel
from ..models.loading import LoadingError, load_pretrained, named_faults


def load_fr_model(source: str | os.PathLike | nn.Module, dialect: str | None = None) -> nn.Module:
    """
    An FR model in float32: the one that comes with the package (`"default"`), dlib's of the installed package
    `face_recognition_models` (`"dlib"`), a folder or Hub id (of a quality model that has one as its backbone as well),
    a published file, or the model itself, which is given back as it is.

    Args:
        source: Of the model.
        dialect (`str`, *optional*): Of a published file; told from the names of its tensors when not given.

    Raises:
        LoadingError: It can't be loaded as it is there, or is no FR model.
        OSError: There is no such folder or repository, or dlib's package is not installed.
    """
    if isinstance(source, nn.Module):
        return source
    if os.path.isfile(source):
        model = load_published(source, dialect)
    else:
        folder = FR_MODEL if source == "default" else source
        if source == "dlib":
            from .installed import dlib_model_folder

            folder = dlib_model_folder()
        with named_faults(folder):
            architectures = AutoConfig.from_pretrained(folder).architectures or ()
        # The head of a quality model is left out. Elsewhere it is a weight that no part of the network is for.
        unused = ("head.",) if any(str(name).endswith("ForFaceQuality") for name in architectures) else ()
        model = load_pretrained(AutoModel, folder, what="FR model", unused=unused)
    what, name = type(model).__name__, os.fspath(source)
    if what.endswith("ForFaceQuality"):
        raise LoadingError(f"{name} is no FR model but a {what}")
    if not isinstance(model, FacePreTrainedModel):
        try:
            with torch.no_grad():
                model(torch.zeros(1, 3, 112, 112)).embeddings.shape  # noqa: B018
        except Exception as error:  # a text model, a model of other sizes: anything may come
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise LoadingError(f"{name} is no FR model but a {what}: {reason}") from error
    return model


def load_quality_model(
    source: str | os.PathLike | nn.Module = "default",
    dialect: str | None = None,
    *,
    new_head: bool = False,
    **kwargs: Any,
) -> nn.Module:
    """
    A face quality model in float32: the one that comes with the package (`"default"`), a folder or Hub id, a published
    file, or the model itself, which is given back as it is.

    Args:
        source: Of the model.
        dialect (`str`, *optional*): Of a published file; told from the names of its tensors when not given.
        new_head (`bool`, *optional*, defaults to `False`): Whether an FR model will do, which gets a new head, to be
            trained.
        **kwargs: `config`, `revision`, ... as `from_pretrained` takes them.

    Raises:
        LoadingError: It can't be loaded as it is there, or is no face quality model.
        OSError: There is no such folder or repository.
    """
    if isinstance(source, nn.Module):
        return source
    if os.path.isfile(source):
        model = load_published(source, dialect)
        if not type(model).__name__.endswith("ForFaceQuality"):
            raise LoadingError(f"{os.fspath(source)} is no face quality model but a {type(model).__name__}")
        return model
    source = QUALITY_MODEL if source == "default" else source
    new = ("head.",) if new_head else ()
    return load_pretrained(AutoModelForFaceQuality, source, what="face quality model", new=new, **kwargs)


def load_published(source: str | os.PathLike, dialect: str | None = None) -> nn.Module:
    """
    The model in a file as its authors share it.

    Raises:
        LoadingError: The file can't be converted.
    """
    from .checkpoint import load_foreign
    from .errors import CheckpointError

    try:
        return load_foreign(source, dialect).model
    except CheckpointError as error:
        raise LoadingError(f"{os.fspath(source)}: {error}") from error


__all__ = ["load_fr_model", "load_published", "load_quality_model"]
