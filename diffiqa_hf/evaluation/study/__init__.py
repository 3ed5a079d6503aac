# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""What `diffiqa benchmark` does: methods x FR models x benchmarks, from their description to the report."""
