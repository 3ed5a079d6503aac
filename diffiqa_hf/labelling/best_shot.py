# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The best faces of each person or track."""

import heapq
import math
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, TypeVar

from ..default_weights import DEFAULT_METHOD


if TYPE_CHECKING:
    import datasets

    from .labeller import QualityLabeller


Group = TypeVar("Group", bound=Hashable)


def best_of_groups(
    groups: Iterable[Group | None], scores: Iterable[float | None], top: int = 1
) -> dict[Group, list[int]]:
    """
    The positions of the best scores of each group.

    Args:
        groups: One label for each face; a face with `None` is in no group.
        scores: One for each face, higher is better; NaN or `None` is never among the best.
        top: How many of each group, at most.

    Returns:
        By group, in the order in which they first occur, positions from the highest score down, equal ones in their
        order. Empty where a group has no score.

    Example:

    ```python
    >>> from diffiqa_hf.labelling.best_shot import best_of_groups

    >>> best_of_groups(["a", "b", "a", "a"], [0.1, 0.5, 0.3, 0.2], top=2)
    {'a': [2, 3], 'b': [1]}

    ```
    """
    if top < 1:
        raise ValueError(f"top has to be at least 1, got {top}")
    # Of each group a heap of its best, the worst of them first.
    best: dict[Group, list[tuple[float, int]]] = {}
    for at, (group, score) in enumerate(zip(groups, scores, strict=True)):
        if group is None:
            continue
        heap = best.setdefault(group, [])
        if score is not None and not math.isnan(score):
            if len(heap) < top:
                heapq.heappush(heap, (score, -at))
            else:
                heapq.heappushpop(heap, (score, -at))
    return {group: [-at for _, at in sorted(heap, reverse=True)] for group, heap in best.items()}


def best_faces(
    dataset: "datasets.Dataset",
    group_column: str,
    top: int = 1,
    *,
    quality_column: str = "quality",
    labeller: "QualityLabeller | None" = None,
    batch_size: int = 64,
) -> "datasets.Dataset":
    """
    The rows of a dataset with the best faces of each group, such as a person or a track.

    Args:
        dataset: With a column of images, or of qualities.
        group_column: Whose values say what belongs together; rows with `None` are left out.
        top: Rows of each group, at most.
        quality_column: Column of scores, higher is better. Where the dataset has none of this name, the faces are
            scored, and the result has the columns of [`QualityLabeller`].
        labeller: Scores the faces; when not given, DifFIQA(R) with the weights of the package, and images in the
            column `image`, which are aligned where they are no aligned crops.
        batch_size: Rows that are handed to the labeller at a time.

    Returns:
        `datasets.Dataset`: the groups in the order in which they first occur, in each the best first. A face that
        could not be scored is in none.

    Raises:
        ValueError: There is no such column, or `top` is below 1.

    Example:

    ```python
    >>> from datasets import Dataset
    >>> from diffiqa_hf.labelling.best_shot import best_faces

    >>> tracks = Dataset.from_dict({"track": [1, 1, 2], "file": ["a", "b", "c"], "quality": [0.3, 0.8, 0.5]})
    >>> best_faces(tracks, "track")["file"][:]
    ['b', 'c']

    ```
    """
    if top < 1:
        raise ValueError(f"top has to be at least 1, got {top}")
    if group_column not in dataset.column_names:
        raise ValueError(f"there is no column {group_column!r}; there are {', '.join(dataset.column_names)}")
    if quality_column not in dataset.column_names:
        from .labeller import QualityLabeller, labelled_features

        labeller = labeller or QualityLabeller(DEFAULT_METHOD, align="auto")
        if quality_column != "quality":
            raise ValueError(f"there is no column {quality_column!r}; there are {', '.join(dataset.column_names)}")
        if labeller.image_column not in dataset.column_names:
            raise ValueError(f"there is neither a column {quality_column!r} nor one {labeller.image_column!r}")
        features = labelled_features(dataset.features)
        dataset = dataset.map(labeller.label, batched=True, batch_size=batch_size, features=features)
    best = best_of_groups(dataset[group_column], dataset[quality_column], top)
    return dataset.select([at for positions in best.values() for at in positions])


__all__ = ["best_faces", "best_of_groups"]
