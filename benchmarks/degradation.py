# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Time per image of the BSRGAN degradation, ours and, in the same run, that of the DifFIQA authors.

    python benchmarks/degradation.py [--original CHECKOUT] [--images 60] [--threads 1]

`--original` is a checkout of https://github.com/LSIbabnikz/DifFIQA. Its code is imported from there as it is. Two
names that it needs are gone from today's SciPy (`scipy.finfo`, and `interp2d`, which still imports but raises) and are
put back for this process, the second as the `RectBivariateSpline` of first degree that SciPy names as its successor.
torchvision, of which it imports a function that it does not use here, may be missing. The routes take turns image by
image, so that other load on the machine falls on all of them.
"""

import argparse
import platform
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from diffiqa_hf.degradations import BSRGANDegradation, degrade_face


def load_original(checkout: Path) -> Callable[[np.ndarray], object]:
    """The authors' `auto_degrade`."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        utils = types.ModuleType("torchvision.utils")
        utils.make_grid = None
        sys.modules["torchvision"] = types.ModuleType("torchvision")
        sys.modules["torchvision.utils"] = utils
    import scipy
    from scipy.interpolate import RectBivariateSpline

    sys.path.insert(0, str(checkout / "diffiqa"))
    import bsrgan.degrade as original

    def interp2d(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        spline = RectBivariateSpline(x, y, z.T, kx=1, ky=1)
        return lambda new_x, new_y: spline(new_x, new_y).T

    if not hasattr(scipy, "finfo"):
        scipy.finfo = np.finfo
        original.interp2d = interp2d
    return original.auto_degrade


def make_faces(count: int) -> list[np.ndarray]:
    """112x112 images with smooth areas, edges and texture; the time depends on the pixels only through JPEG."""
    rng = np.random.default_rng(0)
    faces = []
    for _ in range(count):
        smooth = cv2.resize(rng.random((6, 6, 3), dtype=np.float32), (112, 112), interpolation=cv2.INTER_CUBIC)
        image = (smooth * 255 + rng.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8)
        cv2.ellipse(image, (56, 60), (34, 46), 0, 0, 360, rng.integers(0, 256, 3).tolist(), 3)
        faces.append(image)
    return faces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--original", type=Path, help="checkout of LSIbabnikz/DifFIQA")
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--threads", type=int, help="threads of OpenCV and torch (default: theirs)")
    args = parser.parse_args()

    if args.threads is not None:
        cv2.setNumThreads(args.threads)
    rng = np.random.default_rng(0)
    degradation = BSRGANDegradation()
    routes = {
        "ours, BSRGANDegradation": lambda face: degradation(face, rng),
        "ours, degrade_face (1.21 passes, to 112x112)": lambda face: degrade_face(face, rng),
    }
    if args.original:
        if args.threads is not None:
            import torch

            torch.set_num_threads(args.threads)
        routes["the authors', auto_degrade"] = load_original(args.original)

    faces = make_faces(args.images)
    times: dict[str, list[float]] = {name: [] for name in routes}
    for route in routes.values():
        route(faces[0])
    for face in faces:
        for name, route in routes.items():
            start = time.perf_counter()
            route(face)
            times[name].append(1000 * (time.perf_counter() - start))

    print(f"{args.images} images, OpenCV threads {cv2.getNumThreads()}, Python {platform.python_version()}, ", end="")
    print(f"NumPy {np.__version__}, OpenCV {cv2.__version__}")
    for name, values in times.items():
        low, median, high = statistics.quantiles(values, n=4)
        mean = statistics.mean(values)
        print(f"{name:46s} median {median:7.1f} ms  quartiles {low:.1f} .. {high:.1f}  mean {mean:.1f}")
    if args.original:
        ours, theirs = times["ours, BSRGANDegradation"], times["the authors', auto_degrade"]
        print(f"ratio of the medians {statistics.median(theirs) / statistics.median(ours):.1f}, ", end="")
        print(f"of the means {statistics.mean(theirs) / statistics.mean(ours):.1f}")


if __name__ == "__main__":
    main()
