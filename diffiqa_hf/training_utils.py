# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
What a training script of your own needs, under one name as in diffusers: checkpoints that are whole or absent,
datasets of faces, people held out, the options that go with them. The parts are in `diffiqa_hf.training`.
"""

from .training.batches import ShuffledKeys
from .training.checkpoints import (
    MARKER,
    TrainingState,
    find_checkpoint,
    list_checkpoints,
    remove_checkpoint,
    save_checkpoint,
    trained_copy,
)
from .training.data import face_dataset_source, load_face_dataset, read_face, source_row
from .training.held_out import HeldOut, calibrate_held_out, hold_out, people_of, predict, split_people
from .training.run import (
    add_data_arguments,
    add_output_arguments,
    add_source_arguments,
    check_loss,
    full_disk_in_one_line,
    make_accelerator,
    save_array,
    start_tracker,
)


__all__ = [
    "MARKER",
    "HeldOut",
    "ShuffledKeys",
    "TrainingState",
    "add_data_arguments",
    "add_output_arguments",
    "add_source_arguments",
    "calibrate_held_out",
    "check_loss",
    "face_dataset_source",
    "find_checkpoint",
    "full_disk_in_one_line",
    "hold_out",
    "list_checkpoints",
    "load_face_dataset",
    "make_accelerator",
    "people_of",
    "predict",
    "read_face",
    "remove_checkpoint",
    "save_array",
    "save_checkpoint",
    "source_row",
    "split_people",
    "start_tracker",
    "trained_copy",
]
