# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What the scripts in training/ share. Needs the extra `train`."""
