# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The page of `diffiqa app` for a Space, with smaller bounds: many share the machine."""

from diffiqa_hf.app import create_app
from diffiqa_hf.app.uploads import Limits


app = create_app(
    limits=Limits(megabytes=50, unpacked=250, files=200),
    # The Hub shows a Space inside of its own page.
    frame_ancestors="https://huggingface.co",
)
