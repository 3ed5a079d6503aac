#!/usr/bin/env bash
# torch 2.13.0, torch.onnx.export(dynamo=True): a module that writes t.expand(len(x)) is exported with the batch of the example, although
# dynamic_shapes asks for any batch, and neither an error nor a warning says so; with x.shape[0], which is the same number, the batch is
# free. The graph takes the example's batch alone, and ONNX Runtime refuses any other one when it is run, not when it is loaded.
# torch.export.export with the same arguments refuses the module, with a line that says so.
# Seen with Python 3.11, onnx 1.23.2 and onnxscript 0.7.2 on x86-64.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 numpy==2.4.6 2>/dev/null
"$folder/venv/bin/python" - 2>/dev/null <<'P'
import torch


class ByLength(torch.nn.Module):
    def forward(self, x, time):
        return x + time.reshape(-1).expand(len(x))[:, None]


class ByShape(torch.nn.Module):
    def forward(self, x, time):
        return x + time.reshape(-1).expand(x.shape[0])[:, None]


batch = torch.export.Dim("batch")
found = {}
for module in (ByLength(), ByShape()):
    example = (torch.zeros(2, 3), torch.zeros(2))
    program = torch.onnx.export(module, example, dynamo=True, dynamic_shapes=({0: batch}, {0: batch}), verbose=False)
    side = program.model_proto.graph.input[0].type.tensor_type.shape.dim[0]
    found[type(module).__name__] = side.dim_param or side.dim_value
print("torch", torch.__version__, "batch of the exported graph:", found)
try:
    torch.export.export(ByLength(), (torch.zeros(2, 3), torch.zeros(2)), dynamic_shapes=({0: batch}, {0: batch}))
    refused = None
except Exception as error:
    refused = str(error).strip().splitlines()[0]
print("torch.export.export:", refused)
assert refused is not None, "the behaviour has changed"
assert found == {"ByLength": 2, "ByShape": "batch"}, "the behaviour has changed"
P
