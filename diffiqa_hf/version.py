# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The version of the package, below everything that writes it into what it saves."""

__version__ = "0.1.0"
