# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Which tests run: all but `slow` ones (`--run-slow` runs them) and, without DIFFIQA_SHARED, all but `shared` ones."""

import os
from pathlib import Path

import pytest


# No test may need the network; huggingface_hub reads this when it is first imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_addoption(parser):
    parser.addoption("--run-slow", action="store_true", help="run the tests marked slow as well")


def pytest_collection_modifyitems(config, items):
    shared = os.environ.get("DIFFIQA_SHARED")
    if shared and not Path(shared).is_dir():
        raise pytest.UsageError(f"DIFFIQA_SHARED={shared} is not a directory")
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("--run-slow"):
            item.add_marker(pytest.mark.skip(reason="slow: runs with --run-slow"))
        if item.get_closest_marker("shared") and not shared:
            item.add_marker(pytest.mark.skip(reason="needs the shared data: set DIFFIQA_SHARED to its folder"))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder that DIFFIQA_SHARED names; only tests marked `shared` use it."""
    return Path(os.environ["DIFFIQA_SHARED"])
