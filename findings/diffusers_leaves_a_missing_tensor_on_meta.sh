#!/usr/bin/env bash
# diffusers 0.42.1: a model folder whose safetensors file lacks a tensor loads by from_pretrained without an error, with a line
# in the log. The parameter that is missing stays on the meta device, without a value, where transformers draws one: the first
# call, or .to("cpu"), raises NotImplementedError, which names no tensor. With low_cpu_mem_usage=False the same folder loads too,
# and the parameter has random values: so what the load gives depends on a switch that is about memory.
# Seen with Python 3.11, torch 2.13.0 and accelerate 1.15.0 on x86-64.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check diffusers==0.42.1 torch==2.13.0 accelerate==1.15.0 transformers==5.24.0 2>/dev/null
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - 2>/dev/null <<'P'
import diffusers
import torch
from diffusers import UNet2DModel
from safetensors.torch import load_file, save_file

UNet2DModel(
    sample_size=8,
    block_out_channels=(4,),
    norm_num_groups=2,
    down_block_types=("DownBlock2D",),
    up_block_types=("UpBlock2D",),
    add_attention=False,
).save_pretrained("model")
path = "model/diffusion_pytorch_model.safetensors"
tensors = load_file(path)
del tensors["conv_out.bias"]
save_file(tensors, path, metadata={"format": "pt"})

model = UNet2DModel.from_pretrained("model")
print("diffusers", diffusers.__version__, "conv_out.bias after from_pretrained:", model.conv_out.bias.device)
assert model.conv_out.bias.device.type == "meta", "the behaviour has changed"
try:
    model.to("cpu")
except NotImplementedError as error:
    print(".to('cpu'): NotImplementedError:", str(error)[:60])
    assert "conv_out" not in str(error), "the behaviour has changed"
else:
    raise AssertionError("the behaviour has changed")

first, second = (UNet2DModel.from_pretrained("model", low_cpu_mem_usage=False).conv_out.bias for _ in range(2))
print("with low_cpu_mem_usage=False:", first.device, "the same twice:", torch.equal(first, second))
assert first.device.type == "cpu" and not torch.equal(first, second), "the behaviour has changed"
P
