# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Folders of models and labelled faces to the Hugging Face Hub, with a card that is filled in from the folder and from
the record that a training run leaves in it (`training.json`), never by hand. Each file knows those above it here:
`record`, `folders`, `cards`, `push`, `options`.
"""

from .cards import CARD_FILE, add_results, complete_card, record_training, write_model_card
from .folders import check_folder, component_files, folder_kind
from .options import add_hub_arguments, check_hub_arguments, push_when_asked, training_facts
from .push import check_login, complete_folder, hub_reason, push_folder
from .record import DataFacts, HubError, ResultFacts, TrainingFacts, benchmark_results, read_training, training_source


__all__ = [
    "CARD_FILE",
    "DataFacts",
    "HubError",
    "ResultFacts",
    "TrainingFacts",
    "add_hub_arguments",
    "add_results",
    "benchmark_results",
    "check_folder",
    "check_hub_arguments",
    "check_login",
    "complete_card",
    "complete_folder",
    "component_files",
    "folder_kind",
    "hub_reason",
    "push_folder",
    "push_when_asked",
    "read_training",
    "record_training",
    "training_facts",
    "training_source",
    "write_model_card",
]
