# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Files and pictures to canonical faces, with NumPy, Pillow and OpenCV alone. Imported without torch."""
