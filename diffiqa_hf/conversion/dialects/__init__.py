# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""From the arrays of a published file, by their names, to the configuration and state dict of a model of ours."""
