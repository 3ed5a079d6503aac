# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Who is on an image, as labels of any kind; and who is not known."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike


UNKNOWN = -1


def identity_codes(identities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """
    Labels of people as whole numbers.

    Nobody is named by `None`, a NaN (or pandas' `NA` and `NaT`), or an empty or blank string. Two images of which it
    isn't known who they show may show one person or two: they make neither a mated nor a non-mated pair.

    Args:
        identities: (I,) labels of any kind, equal for the images of one person. Strings and numbers are different
            people, also where they look alike.

    Returns:
        (I,) int64, from 0 in ascending order of the labels, and `UNKNOWN`; and (P,) the label of each code.
    """
    labels = as_labels(identities)
    known = is_known(labels)
    codes = np.full(len(labels), UNKNOWN, np.int64)
    if labels.dtype != object:
        people, codes[known] = np.unique(labels[known], return_inverse=True)
        return codes, people
    try:
        people = sorted(set(labels[known].tolist()))
    except TypeError:  # of kinds that have no order among each other
        people = sorted(set(labels[known].tolist()), key=lambda label: (type(label).__name__, str(label)))
    code_of = {label: code for code, label in enumerate(people)}
    codes[known] = [code_of[label] for label in labels[known].tolist()]
    found = np.empty(len(people), object)
    found[:] = people
    return codes, found


def as_labels(identities: ArrayLike) -> np.ndarray:
    """
    Labels as an array; a list of strings and NaN as objects, out of which NumPy would make the string `'nan'`.

    Raises:
        ValueError: It has more than one dimension.
    """
    if not isinstance(identities, np.ndarray) and not hasattr(identities, "__array__"):
        identities = list(identities)
        kinds = set(map(type, identities))
        if len(kinds) > 1 and not all(issubclass(kind, (int, float, np.number)) for kind in kinds):
            labels = np.empty(len(identities), object)
            labels[:] = identities
            return labels
    labels = np.asarray(identities)
    if labels.ndim != 1:
        raise ValueError(f"identities must have one dimension, not the shape {labels.shape}.")
    return labels


def is_known(identities: ArrayLike) -> np.ndarray:
    """(I,) bool: whether somebody is named."""
    labels = as_labels(identities)
    if labels.dtype.kind == "f":
        return ~np.isnan(labels)
    if labels.dtype.kind in "US":
        return np.char.str_len(np.char.strip(labels)) > 0
    if labels.dtype.kind == "M":
        return ~np.isnat(labels)
    if labels.dtype.kind in "iub":
        return np.ones(len(labels), bool)
    return np.fromiter((not _is_missing(label) for label in labels.tolist()), bool, len(labels))


def _is_missing(label: Any) -> bool:
    if label is None:
        return True
    if isinstance(label, (str, bytes)):
        return not label.strip()
    try:
        return bool(label != label)
    except (TypeError, ValueError):  # pandas.NA says neither yes nor no
        return True


__all__ = ["UNKNOWN", "as_labels", "identity_codes", "is_known"]
