# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Published checkpoints to ours: each dialect is a function from a foreign state dict to (config, state dict)."""
