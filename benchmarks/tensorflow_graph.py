# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
A frozen TensorFlow graph in a process of its own, so that the benchmarks can have LightQNet's original take its turn.

TensorFlow needs an environment of its own, made once:

    python -m venv tfenv && tfenv/bin/pip install tensorflow-cpu

[`FrozenGraph`] starts this file under that Python (`--tensorflow tfenv/bin/python`). There it reads lines of JSON and
answers each with one. It imports nothing of this repository, and nothing but TensorFlow and NumPy.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np


INPUT, OUTPUT = "input:0", "confidence_st:0"  # of LightQNet's graphs


class FrozenGraph:
    """
    The process ends with this one.

    Args:
        python (`Path`): Of an environment with TensorFlow.
        graph (`Path`): The `.pb` file.
        threads (`int`): Of TensorFlow.
    """

    def __init__(self, python: Path, graph: Path, threads: int):
        command = [python, __file__, graph, str(threads)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.version = self._answer()["version"]

    def feed(self, inputs: np.ndarray) -> None:
        """What it runs on from now on, `(B, H, W, 3)` float32, as the graph takes it."""
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "inputs.npy", inputs)
            self._ask(feed=str(Path(folder) / "inputs.npy"))

    def run(self) -> None:
        """Runs the graph once on that, and leaves the scores where they are."""
        self._ask(run=True)

    def scores(self) -> np.ndarray:
        """`(B,)`, of the last run."""
        return np.array(self._ask(scores=True)["scores"])

    def _ask(self, **question: object) -> dict:
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the process with TensorFlow ended with exit status {self.process.wait()}")
        return json.loads(line)


def _serve(path: str, threads: int) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    definition = v1.GraphDef()
    with open(path, "rb") as file:
        definition.ParseFromString(file.read())
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(definition, name="")
    config = v1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
    session = v1.Session(graph=graph, config=config)
    run = session.make_callable(OUTPUT, [INPUT])
    print(json.dumps({"version": tf.__version__}), flush=True)
    inputs = scores = None
    for line in sys.stdin:
        question, answer = json.loads(line), {}
        if "feed" in question:
            inputs = np.load(question["feed"])
        elif "run" in question:
            scores = run(inputs)
        else:
            answer["scores"] = scores.reshape(-1).tolist()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
