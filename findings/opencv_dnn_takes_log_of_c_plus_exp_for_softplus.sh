#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: cv2.dnn takes the ONNX nodes Exp, Add of a constant and Log for softplus, log(1 + exp(x)),
# whatever the constant is. log(1e-6 + exp(x)), as a network writes it that guards a logarithm, comes out as softplus without
# a word: at x = -9 as .0001 where -8.99 is right.
# Seen with Python 3.11 on x86-64 and onnx 1.23.2.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check opencv-python-headless==5.0.0.93 onnx==1.23.2 numpy==2.4.6 2>/dev/null
cd "$folder"
"$folder/venv/bin/python" - <<'P'
import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

x = np.array([[-9, -3, 0, 3]], np.float32)
nodes = [
    helper.make_node("Exp", ["x"], ["e"]),
    helper.make_node("Add", ["e", "c"], ["a"]),
    helper.make_node("Log", ["a"], ["y"]),
]
ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4])] for name in "xy"]
constant = numpy_helper.from_array(np.float32(1e-6), "c")
graph = helper.make_graph(nodes, "graph", *ends, [constant])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), "graph.onnx")
onnx.checker.check_model("graph.onnx")
network = cv2.dnn.readNetFromONNX("graph.onnx")
network.setInput(x)
found, right, softplus = network.forward().ravel(), np.log(1e-6 + np.exp(x)).ravel(), np.log1p(np.exp(x)).ravel()
print(f"opencv {cv2.__version__}: {found}; log(1e-6 + exp(x)) is {right}, softplus {softplus}")
assert np.abs(found - softplus).max() < 1e-4 < np.abs(found - right).max(), "the behaviour has changed"
P
