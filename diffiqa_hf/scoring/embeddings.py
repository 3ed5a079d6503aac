# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Embeddings in `.npy` files, which know no names: a row belongs to the image of the same place."""

from __future__ import annotations

import os

import numpy as np

from ..file_utils import file_fault
from .tables import TableError, first_line


def read_embeddings(path: str | os.PathLike, count: int, of: str) -> np.ndarray:
    """
    Embeddings, mapped into the memory.

    Args:
        path: Of a `.npy` file.
        count: How many rows it has to have.
        of: What has so many, for the error, such as `"the dataset"`.

    Returns:
        (count, D) floating point.

    Raises:
        TableError: It can't be read, is no array of this kind, or has another number of rows: of which images they are
            cannot be known then.
    """
    try:
        if reason := file_fault(path):
            raise TableError(f"{path}: {reason}")
        embeddings = np.load(path, mmap_mode="r", allow_pickle=False)
    except TableError:
        raise
    except Exception as error:  # of a damaged header NumPy makes ValueError, SyntaxError, tokenize.TokenError, ...
        raise TableError(f"{path}: {getattr(error, 'strerror', None) or first_line(error)}") from error
    if not isinstance(embeddings, np.ndarray) or embeddings.ndim != 2 or embeddings.dtype.kind != "f":
        raise TableError(f"{path}: not one array (images, D) of floating point numbers")
    if len(embeddings) != count:
        raise TableError(
            f"{path} has {len(embeddings):,} rows and {of} {count:,}: they must be the same images in the same order"
        )
    return embeddings


__all__ = ["read_embeddings"]
