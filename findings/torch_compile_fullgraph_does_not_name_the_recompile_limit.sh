#!/usr/bin/env bash
# torch 2.13.0: of the modules of one class, torch.compile compiles eight in a process (torch._dynamo.config.recompile_limit counts
# by code, and the modules share their class's forward). The ninth with fullgraph=True raises "found no compiled frames ... was
# not attempted and no cached compiled code was found", which names neither the limit nor the class, once the limit was hit by a
# module compiled without fullgraph: that one had a line in the log and ran uncompiled. A program that loads and compiles models
# one after the other meets it far from the cause. torch.compiler.reset() between them helps.
# Seen with Python 3.11 on x86-64.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 2>/dev/null
"$folder/venv/bin/python" - 2>/dev/null <<'P'
import torch


class Layer(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = torch.nn.Linear(4, width)

    def forward(self, x):
        return self.linear(x)


compiled = []


def backend(graph, inputs):
    compiled.append(graph)
    return graph.forward


x = torch.ones(2, 4)
for width in range(1, 10):
    torch.compile(Layer(width), backend=backend)(x)
print("torch", torch.__version__, "models:", 9, "compiled:", len(compiled))
assert len(compiled) == 8, "the behaviour has changed"
try:
    torch.compile(Layer(20), backend=backend, fullgraph=True)(x)
except RuntimeError as error:
    print("fullgraph=True:", error)
    assert "found no compiled frames" in str(error) and "limit" not in str(error), "the behaviour has changed"
else:
    raise AssertionError("the behaviour has changed")
torch.compiler.reset()
torch.compile(Layer(20), backend=backend, fullgraph=True)(x)
print("after torch.compiler.reset() it compiles")
P
