# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Filters and noise for [`BSRGANDegradation`], faster than those of OpenCV and NumPy by what need not be exact."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

import cv2
import numpy as np


# Gives float32 arrays of a shape, with anything in them.
New = Callable[[tuple[int, ...]], np.ndarray]

TRIMMED_WEIGHT = 4e-3  # of a kernel: what may be left out
_DIRECT_TAPS = 129


def new_array(shape: tuple[int, ...]) -> np.ndarray:
    return np.empty(shape, np.float32)


class Buffers(threading.local):
    """
    A few arrays by turns, in place of new ones, for which the operating system has to find 3 MB of cleared pages each
    time: a quarter of all time went there. An array is good until `COUNT` others have been given.
    """

    COUNT = 6  # a step takes three at most, and returns one of its last three

    def __init__(self):
        self.flat = [np.empty(0, np.float32)] * self.COUNT
        self.turn = 0

    def new(self, shape: tuple[int, ...]) -> np.ndarray:
        self.turn = (self.turn + 1) % self.COUNT
        size = math.prod(shape)
        if len(self.flat[self.turn]) < size:
            self.flat[self.turn] = np.empty(size, np.float32)
        return self.flat[self.turn][:size].reshape(shape)


BUFFERS = Buffers()


def trimmed(kernel: np.ndarray) -> np.ndarray:
    """Cut a symmetric 1-D kernel down to the middle that holds all but `TRIMMED_WEIGHT`."""
    cut = negligible(kernel)
    kernel = kernel[cut : len(kernel) - cut]
    return kernel / kernel.sum()


def negligible(weights: np.ndarray) -> int:
    # A quarter each for the two ends of the two axes.
    return int(np.searchsorted(np.cumsum(weights[: len(weights) // 2]), TRIMMED_WEIGHT / 4))


def thinned(kernel: np.ndarray) -> np.ndarray:
    """Set the least taps of a 2-D kernel to 0, which weigh `TRIMMED_WEIGHT` together: OpenCV leaves them out."""
    ascending = np.sort(kernel, axis=None)
    kernel = np.where(kernel >= ascending[np.searchsorted(np.cumsum(ascending), TRIMMED_WEIGHT)], kernel, 0)
    return (kernel / kernel.sum()).astype(np.float32)


def correlate(image: np.ndarray, kernel: np.ndarray, new: New) -> np.ndarray:
    """
    A square image filtered with a 2-D kernel (mirror border), by what is fastest: as a sum of separable filters, which
    takes few where the kernel lies along the axes or is nearly round; or tap by tap, where it is narrow and aslant and
    nearly all of its square is 0. Either leaves out a weight of `TRIMMED_WEIGHT`. OpenCV's own choice for more than
    `_DIRECT_TAPS` is a Fourier transform, which takes three times as long.
    """
    thin = thinned(kernel)
    strips = _strips(thin)
    # In taps for which a direct filter takes as long, measured on one core.
    direct = np.count_nonzero(thin) + 14 * len(strips)
    separable = 30 + 2 * len(kernel)
    terms = _separable(kernel, min(3, int(direct / separable)))
    return _add_terms(image, terms, new) if terms else _add_strips(image, thin, strips, new)


def _separable(kernel: np.ndarray, most: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Column and row filters, at most so many, whose outer products add up to the kernel; none where it needs more."""
    if not most:
        return []
    columns, weights, rows = np.linalg.svd(kernel)
    for count in range(1, most + 1):
        lacking = kernel - (columns[:, :count] * weights[:count]) @ rows[:count]
        if np.abs(lacking).sum() < TRIMMED_WEIGHT:
            scale = weights[:count] / (1 - lacking.sum())  # so that they add up to 1, as the kernel does
            return list(zip((columns[:, :count] * scale).T, rows[:count], strict=True))
    return []


def _add_terms(image: np.ndarray, terms: list[tuple[np.ndarray, np.ndarray]], new: New) -> np.ndarray:
    total = None
    for column, row in terms:
        filtered = new(image.shape)
        cv2.sepFilter2D(image, -1, row, column, dst=filtered, borderType=cv2.BORDER_REFLECT_101)
        total = filtered if total is None else cv2.add(total, filtered, dst=total)
    return total


def _add_strips(
    image: np.ndarray, kernel: np.ndarray, strips: list[tuple[int, int, int, int]], new: New
) -> np.ndarray:
    height, width = image.shape[:2]
    down, right = kernel.shape[0] // 2, kernel.shape[1] // 2
    if len(strips) == 1:
        top, bottom, left, end = strips[0]
        strip, anchor = np.ascontiguousarray(kernel[top:bottom, left:end]), (right - left, down - top)
        return cv2.filter2D(image, -1, strip, dst=new(image.shape), anchor=anchor, borderType=cv2.BORDER_REFLECT_101)
    padded = new((height + 2 * down, width + 2 * right, 3))
    padded = cv2.copyMakeBorder(image, down, down, right, right, cv2.BORDER_REFLECT_101, dst=padded)
    room, total = new(padded.shape).reshape(-1), new(image.shape)
    for at, (top, bottom, left, end) in enumerate(strips):
        part = padded[top : height + bottom - 1, left : width + end - 1]
        strip = np.ascontiguousarray(kernel[top:bottom, left:end])
        filtered = room[: part.size].reshape(part.shape)
        cv2.filter2D(part, -1, strip, dst=filtered, anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)
        filtered = filtered[:height, :width]
        if at == 0:
            np.copyto(total, filtered)
        else:
            cv2.add(total, filtered, dst=total)
    return total


def _strips(kernel: np.ndarray) -> list[tuple[int, int, int, int]]:
    """First and last row (exclusive) and column of boxes of whole rows that hold all taps of a kernel."""
    taken = kernel != 0
    rows = np.flatnonzero(taken.any(1)).tolist()
    firsts, lasts = taken.argmax(1).tolist(), (kernel.shape[1] - taken[:, ::-1].argmax(1)).tolist()
    strips: list[tuple[int, int, int, int]] = []
    for row in rows:
        if strips:
            top, _, left, end = strips[-1]
            left, end = min(left, firsts[row]), max(end, lasts[row])
            if (row + 1 - top) * (end - left) <= _DIRECT_TAPS:
                strips[-1] = (top, row + 1, left, end)
                continue
        strips.append((row, row + 1, firsts[row], lasts[row]))
    return strips


def filter_every(image: np.ndarray, kernel: np.ndarray, anchor: int, step: int, border: int, new: New) -> np.ndarray:
    """Every `step`-th row and column of a separable filter: across the rows that are left alone."""
    kernel = kernel.astype(np.float32)
    filtered = cv2.filter2D(image, -1, kernel[:, None], dst=new(image.shape), anchor=(0, anchor), borderType=border)
    rows = filtered[::step]
    few = new(rows.shape)
    np.copyto(few, rows)
    filtered = cv2.filter2D(few, -1, kernel[None], dst=new(few.shape), anchor=(anchor, 0), borderType=border)
    columns = filtered[:, ::step]
    result = new(columns.shape)
    np.copyto(result, columns)
    return result


@lru_cache(maxsize=1)
def _normal_quantiles() -> np.ndarray:
    """65,536 numbers, each as likely, of the mean 0 and the variance 1."""
    half = [NormalDist().inv_cdf((at + 0.5) / 65536) for at in range(32768)]
    quantiles = np.array([*half, *(-value for value in reversed(half))])
    return (quantiles / quantiles.std()).astype(np.float32)[None]


def draw_normal(rng: np.random.Generator, out: np.ndarray) -> np.ndarray:
    """Fills `out`, float32 and contiguous, with standard normal numbers: in an eighth of `standard_normal`'s time."""
    flat, quantiles = out.reshape(1, -1), _normal_quantiles()
    for start in range(0, flat.shape[1], 1 << 16):  # what fits the cache
        part = flat[:, start : start + (1 << 16)]
        bits = rng.integers(0, 2**64, size=-(-part.size // 4), dtype=np.uint64).view(np.uint16)
        cv2.LUT(bits[None, : part.size], quantiles, dst=part)
    return out
