# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Readers of foreign files: from a file to arrays by their names. None of them knows a model."""
