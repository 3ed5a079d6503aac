# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The alternative to `diffiqa score`: the loop around ONNX Runtime that a person writes for a folder of face crops, one
image at a time. It imports nothing of this package; `engine_speed.py` lets the two take turns.

    python benchmarks/plain_onnx_loop.py MODEL.onnx FOLDER_OR_FILE SCORES.csv
"""

import csv
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime


def main() -> None:
    model, source, output = sys.argv[1:]
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    files = sorted(Path(source).glob("*.jpg")) if Path(source).is_dir() else [Path(source)]
    with open(output, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "score"])
        for path in files:
            image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            if image.shape[:2] != (112, 112):
                image = cv2.resize(image, (112, 112))
            face = (image.astype(np.float32) / 127.5 - 1.0).transpose(2, 0, 1)[None]
            score = session.run(["scores"], {name: face})[0]
            writer.writerow([path, float(score[0])])


if __name__ == "__main__":
    main()
