# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Networks as they run to score: views of one for many callers, folded copies, and files for ONNX Runtime."""
