# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Datasets of faces, and the order in which a run sees them."""

import numpy as np

from ..image_processing_face import FaceImageError, FaceImageProcessor


def face_dataset_source(
    dataset_name: str | None, train_data_dir: str | None, train_parquet: list[str] | None, split: str
) -> dict:
    """
    What `datasets.load_dataset` and `load_dataset_builder` take for exactly one of a Hub id (or local dataset), a
    folder of images and Parquet files.

    Raises:
        ValueError: None of them is given, or several are.
    """
    if sum(source is not None for source in (dataset_name, train_data_dir, train_parquet)) != 1:
        raise ValueError("give exactly one of --dataset_name, --train_data_dir and --train_parquet")
    if dataset_name is not None:
        return {"path": dataset_name}
    if train_data_dir is not None:
        return {"path": "imagefolder", "data_dir": train_data_dir}
    return {"path": "parquet", "data_files": {split: train_parquet}}


def load_face_dataset(
    dataset_name: str | None = None,
    train_data_dir: str | None = None,
    train_parquet: list[str] | None = None,
    split: str = "train",
):
    """A `datasets.Dataset` from the source that [`face_dataset_source`] tells."""
    from datasets import load_dataset

    dataset = load_dataset(**face_dataset_source(dataset_name, train_data_dir, train_parquet, split), split=split)
    if len(dataset) == 0:
        raise ValueError("the dataset is empty")
    return dataset


def read_face(dataset, index: int, image_column: str, processor: FaceImageProcessor) -> np.ndarray:
    """
    The canonical face (3, H, W) of one row.

    Raises:
        FaceImageError: It cannot be read; the message names the row, because a run of days should not end in a riddle.
    """
    try:
        return processor.extract_faces(dataset[index][image_column])[0].pixel_values
    except (FaceImageError, OSError, SyntaxError) as error:  # Pillow, where `datasets` decodes: OSError, SyntaxError
        raise FaceImageError(f"row {source_row(dataset, index)} of the training data: {error}") from error


def source_row(dataset, index: int) -> int:
    """The row of the source: of a part of it the scripts keep the numbers in a column `row`."""
    return dataset["row"][index] if "row" in dataset.column_names else index


class ShuffledKeys:
    """Endless (epoch, index) keys from a given batch on, so that a resumed run sees what it would have seen."""

    def __init__(self, length: int, batch_size: int, seed: int, start_batch: int, process: int, num_processes: int):
        if not length:
            raise ValueError("there is no face to train on")
        self.length, self.seed = length, seed
        self.batch_size, self.start_batch = batch_size, start_batch
        self.process, self.num_processes = process, num_processes

    def __iter__(self):
        # Batch b of process p is the (b * processes + p)-th of the whole sequence.
        batch, epoch, order = self.start_batch, None, None
        while True:
            first = (batch * self.num_processes + self.process) * self.batch_size
            keys = []
            for position in range(first, first + self.batch_size):
                if epoch != position // self.length:
                    epoch = position // self.length
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
                keys.append((epoch, int(order[position % self.length])))
            yield keys
            batch += 1
