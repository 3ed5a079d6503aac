#!/usr/bin/env bash
# diffusers 0.42.1: `from diffusers import UNet2DModel` imports every transformer that diffusers has, for video, sound and text
# (more than fifty modules), and torch._dynamo with sympy, although the package is lazy: unet_2d_blocks takes one small class out
# of diffusers.models.transformers, whose __init__ imports them all, and utils.torch_utils takes allow_in_graph from torch._dynamo.
# `import torch` alone does not import torch._dynamo's frame conversion. Where a script restores a few pictures with a small UNet on a
# CPU, this is most of its time: it was 4.4 of 6.3 seconds of the processor here. Counted are modules, not seconds.
# Seen with Python 3.11, torch 2.13.0 and transformers 5.24.0 on x86-64.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check diffusers==0.42.1 torch==2.13.0 accelerate==1.15.0 transformers==5.24.0 2>/dev/null
"$folder/venv/bin/python" - 2>/dev/null <<'P'
import sys

import torch

assert "torch._dynamo.convert_frame" not in sys.modules, "the behaviour has changed"
import diffusers
from diffusers import UNet2DModel

transformers_of_diffusers = sorted(name for name in sys.modules if name.startswith("diffusers.models.transformers."))
print("diffusers", diffusers.__version__, UNet2DModel.__name__, "imported", len(transformers_of_diffusers), "modules of transformers, such as")
print(", ".join(name.rsplit(".", 1)[1] for name in transformers_of_diffusers[:4]))
print("torch._dynamo:", "torch._dynamo.convert_frame" in sys.modules, "sympy:", "sympy" in sys.modules)
assert len(transformers_of_diffusers) > 50, "the behaviour has changed"
assert {"torch._dynamo.convert_frame", "sympy"} <= set(sys.modules), "the behaviour has changed"
P
