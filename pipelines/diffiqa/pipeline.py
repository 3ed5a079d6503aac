# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
DifFIQA for `DiffusionPipeline.from_pretrained`, beside the weights in a Hub repository:

    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(repo, custom_pipeline="pipeline", trust_remote_code=True)
    pipe(["face.png"]).scores

The code is that of the package, `pip install diffiqa_hf`, with which `DifFIQAPipeline.from_pretrained(repo)` does the
same and runs nothing of the repository.
"""

# The only pipeline class in this module, which is how diffusers finds it; its import makes the components' modules
# known, without which diffusers refuses to load them.
from diffiqa_hf import DifFIQAPipeline


__all__ = ["DifFIQAPipeline"]
