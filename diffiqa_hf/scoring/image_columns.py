# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
What stands in a column of images. Parquet files hold pictures in many forms, with and without the features that
`datasets` writes beside them; every script that reads rows takes the same ones.
"""

from typing import Any

import numpy as np


FORMS = "image files (bytes, paths, or structs of the two) or pixels (H, W, C)"
DEGRADED_COLUMN = "degraded"  # true for the copies that label_quality.py makes, which lie behind their original


def as_image(value: Any) -> Any:
    """
    An item of a column as [`~diffiqa_hf.image_processing_face.load_image`] takes it: bytes as a file, nested lists as
    an array, anything else as it is.

    Args:
        value: Bytes of an image file, a path, a `{"bytes", "path"}` dictionary, lists or an array (H, W) or (H, W, C)
            of whole numbers from 0 to 255 or floats in [0, 1], `None`.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"bytes": bytes(value), "path": None}
    if isinstance(value, (list, tuple)):
        try:
            value = np.asarray(value)
        except ValueError:  # lists of unequal lengths are no picture, which load_image says
            return value
    if isinstance(value, np.ndarray) and value.dtype == object:  # rows of rows, as Arrow gives nested lists
        return as_image([list(row) for row in value])
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.size:
        if value.min() >= 0 and value.max() <= 255:
            return value.astype(np.uint8)
    return value


def check_image_column(features: Any, column: str) -> None:
    """
    Whether a column can hold images, by its type alone.

    Args:
        features (`datasets.Features`): Of the rows.

    Raises:
        ValueError: There is no such column, or it holds something else.
    """
    from datasets import Image, List, Value
    from datasets.features.features import _ArrayXD

    if column not in features:
        raise ValueError(f"the dataset has no column {column!r}; it has {list(features)}")
    kind, depth = features[column], 0
    if isinstance(kind, (Image, _ArrayXD)) or (isinstance(kind, dict) and {"bytes", "path"} & set(kind)):
        return
    while isinstance(kind, List):
        kind, depth = kind.feature, depth + 1
    if isinstance(kind, Value):
        numbers = kind.dtype.startswith(("int", "uint", "float"))
        if (depth in (2, 3) and numbers) or (depth == 0 and ("binary" in kind.dtype or "string" in kind.dtype)):
            return
    raise ValueError(f"the column {column!r} holds {features[column]}, and not {FORMS}")


def without_image(table: Any, column: str) -> np.ndarray:
    """
    The rows of an Arrow table that have no image, found without reading one.

    Returns:
        `np.ndarray`: their numbers, ascending.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    missing = []
    for chunk in table.column(column).chunks:
        empty = pc.is_null(chunk)
        if pa.types.is_struct(chunk.type):
            names = [field.name for field in chunk.type if field.name in ("bytes", "path")]
            parts = [pc.is_null(pc.struct_field(chunk, name)) for name in names]
            none = parts[0] if len(parts) == 1 else pc.and_(*parts)
            empty = pc.or_(empty, none)
        missing.append(np.asarray(empty))
    return np.flatnonzero(np.concatenate(missing)) if missing else np.arange(0)


__all__ = ["DEGRADED_COLUMN", "as_image", "check_image_column", "without_image"]
