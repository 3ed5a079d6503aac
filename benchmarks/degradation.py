# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Time per image of the BSRGAN degradation, ours and, in the same run, that of an earlier commit of ours and that of the
DifFIQA authors.

    python benchmarks/degradation.py [--before CHECKOUT] [--original CHECKOUT] [--images 60] [--threads 1]

`--before` is a checkout of this repository (`git worktree add CHECKOUT COMMIT`); the same seeds are used for both.
Beside the time on the clock stands that of the thread on the processor, which other programs disturb less.

`--original` is a checkout of https://github.com/LSIbabnikz/DifFIQA. Its code is imported from there as it is. Two
names that it needs are gone from today's SciPy (`scipy.finfo`, and `interp2d`, which still imports but raises) and are
put back for this process, the second as the `RectBivariateSpline` of first degree that SciPy names as its successor.
torchvision, of which it imports a function that it does not use here, may be missing. The routes take turns every ten
images, so that other load on the machine falls on all of them and each finds its own arrays in the cache.
"""

import argparse
import importlib.util
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


TURN = 10
OURS = "ours, BSRGANDegradation"
FACE = "ours, degrade_face (1.21 passes, to 112x112)"
BEFORE = "before, degrade_face"
THEIRS = "the authors', auto_degrade"


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


def load_before(checkout: Path) -> Callable[..., np.ndarray]:
    """`degrade_face` of another checkout of this repository."""
    folder = checkout / "diffiqa_hf" / "degradations"
    where = {"submodule_search_locations": [str(folder)]}
    spec = importlib.util.spec_from_file_location("degradations_before", folder / "__init__.py", **where)
    if spec is None or not folder.is_dir():
        raise SystemExit(f"{folder} is not there: is it a checkout of this repository?")
    sys.modules["degradations_before"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.degrade_face


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
    parser.add_argument("--before", type=Path, help="checkout of an earlier commit of this repository")
    parser.add_argument("--original", type=Path, help="checkout of LSIbabnikz/DifFIQA")
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--threads", type=int, help="threads of OpenCV and torch (default: theirs)")
    args = parser.parse_args()

    if args.threads is not None:
        cv2.setNumThreads(args.threads)
    degradation = BSRGANDegradation()
    routes: dict[str, Callable[[np.ndarray, np.random.Generator], object]] = {OURS: degradation, FACE: degrade_face}
    if args.before:
        routes[BEFORE] = load_before(args.before)
    if args.original:
        if args.threads is not None:
            import torch

            torch.set_num_threads(args.threads)
        auto_degrade = load_original(args.original)
        routes[THEIRS] = lambda face, rng: auto_degrade(face)

    faces = make_faces(args.images)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in routes}
    for route in routes.values():
        route(faces[0], np.random.default_rng(0))
    for start in range(0, len(faces), TURN):
        for name, route in routes.items():
            for seed in range(start, min(start + TURN, len(faces))):
                rng = np.random.default_rng(seed)
                clock, thread = time.perf_counter(), time.thread_time()
                route(faces[seed], rng)
                times[name].append((1000 * (time.perf_counter() - clock), 1000 * (time.thread_time() - thread)))

    print(f"{processor()}; {args.images} images, OpenCV threads {cv2.getNumThreads()}, ", end="")
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, OpenCV {cv2.__version__}")
    for name, pairs in times.items():
        values = [clock for clock, _ in pairs]
        low, median, high = statistics.quantiles(values, n=4)
        thread = statistics.mean(thread for _, thread in pairs)
        print(f"{name:46s} median {median:7.1f} ms  quartiles {low:.1f} .. {high:.1f}  ", end="")
        print(f"mean {statistics.mean(values):.1f}  mean on the processor {thread:.1f}")
    for ours, other in ((FACE, BEFORE), (OURS, THEIRS)):
        if other in times:
            (clock, thread), (before, before_thread) = (
                [statistics.mean(column) for column in zip(*times[name], strict=True)] for name in (ours, other)
            )
            print(
                f"{ours} : {other} = {clock / before:.2f} by the mean, {thread / before_thread:.2f} on the processor"
            )


def processor() -> str:
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
