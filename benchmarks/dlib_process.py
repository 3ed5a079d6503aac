# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
dlib in a process of its own, so that the benchmarks can have its face recognition take its turn.

It needs an environment of its own, made once:

    python -m venv dlibenv && dlibenv/bin/pip install dlib-bin face_recognition_models

[`DlibProcess`] starts this file under that Python (`--dlib dlibenv/bin/python`). There it reads lines of JSON and
answers each with one. It imports nothing of this repository, and nothing but dlib and NumPy.
"""

import importlib.metadata
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


# Where a face detector's box lies in a crop of 112 pixels on the ArcFace template: left, top, right, bottom.
BOX = (11, 22, 101, 112)
MARGIN = 34


class DlibProcess:
    """
    The process ends with this one.

    Args:
        python (`Path`): Of an environment with dlib and face_recognition_models.
    """

    def __init__(self, python: Path):
        command = [python, __file__]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        found = self._answer()
        self.version, self.network = found["version"], Path(found["network"])

    def feed(self, chips: np.ndarray) -> None:
        """What it embeds from now on, `(B, 150, 150, 3)` uint8, RGB."""
        self._ask(feed=chips)

    def run(self) -> float:
        """Embeds that once, leaves the embeddings where they are, and gives the seconds of processor time."""
        return self._ask(run=True)["seconds"]

    def embeddings(self) -> np.ndarray:
        """`(B, 128)`, float64, of the last run."""
        return np.array(self._ask(embeddings=True)["embeddings"])

    def own_chips(self, crops: np.ndarray) -> np.ndarray:
        """Chips of crops `(B, 112, 112, 3)` by dlib's 68 landmarks, which it finds in a box that fits the template."""
        with tempfile.TemporaryDirectory() as folder:
            self._ask(chips=crops, to=str(Path(folder) / "chips.npy"))
            return np.load(Path(folder) / "chips.npy")

    def _ask(self, **question: object) -> dict:
        with tempfile.TemporaryDirectory() as folder:
            for name, value in question.items():
                if isinstance(value, np.ndarray):
                    np.save(Path(folder) / "value.npy", value)
                    question[name] = str(Path(folder) / "value.npy")
            print(json.dumps(question), file=self.process.stdin, flush=True)
            return self._answer()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the process with dlib ended with exit status {self.process.wait()}")
        return json.loads(line)


def _serve() -> None:
    import dlib

    package = importlib.metadata.distribution("face_recognition_models")
    models = Path(package.locate_file("face_recognition_models/models"))
    path = models / "dlib_face_recognition_resnet_model_v1.dat"
    network = dlib.face_recognition_model_v1(str(path))
    predictor = None
    print(json.dumps({"version": dlib.__version__, "network": str(path)}), flush=True)
    chips, embeddings = [], []
    for line in sys.stdin:
        question, answer = json.loads(line), {}
        if "feed" in question:
            chips = list(np.load(question["feed"]))
        elif "run" in question:
            start = time.process_time()
            embeddings = network.compute_face_descriptor(chips, 0)
            answer["seconds"] = time.process_time() - start
        elif "chips" in question:
            predictor = predictor or dlib.shape_predictor(str(models / "shape_predictor_68_face_landmarks.dat"))
            box = dlib.rectangle(*(side + MARGIN for side in BOX))
            found = []
            for crop in np.load(question["chips"]):
                image = np.pad(crop, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)))
                found.append(dlib.get_face_chip(image, predictor(image, box), 150, 0.25))
            np.save(question["to"], np.stack(found))
        else:
            answer["embeddings"] = [list(embedding) for embedding in embeddings]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
