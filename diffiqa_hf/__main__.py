# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""`python -m diffiqa_hf`, for launchers that start a module: `accelerate launch -m diffiqa_hf benchmark CONFIG`."""

import sys

from .cli import main


if __name__ == "__main__":
    sys.exit(main())
