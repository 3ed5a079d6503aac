# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The page of this metric on the Hub; a Space installs Gradio by the version in README.md."""

from pathlib import Path

import evaluate
from evaluate.utils import launch_gradio_widget


launch_gradio_widget(evaluate.load(str(Path(__file__).with_name("pauc.py"))))
