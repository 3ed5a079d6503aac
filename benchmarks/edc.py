# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Time and memory of error-versus-discard curves, on simulated scores.

    python benchmarks/edc.py [--original CHECKOUT] [--metrics] [--pairs 1000000] [--methods 12]

First, a set of IJB-C's size: 19,557 mated and 15,638,932 non-mated comparisons of 23,124 templates, and the curves of
`--methods` quality methods by each protocol. Then, with `--original` (a checkout of
https://github.com/dasec/quality-assessment-evaluation, imported from there as it is), one curve of `--pairs` mated
comparisons of a tenth as many images by the `schlett` protocol, ours and theirs in turns, and whether the numbers are
the same. Ours takes the qualities by image, with the pairs as positions, or by pair. Theirs takes a dictionary for
each pair, made here as their `example.py` makes it. With `--metrics`, the modules `pauc` and `edc` of `evaluate` over
`--pairs` comparisons, mated and non-mated in equal parts, and what of their time is the curve; the rest is what
`evaluate` writes to Arrow and reads back.
"""

import argparse
import platform
import resource
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from diffiqa_hf.evaluation import EDCProtocol, edc_curve, edc_curves
from diffiqa_hf.metrics import METRICS, metrics_path


TEMPLATES, IDENTITIES, MATED, NONMATED = 23_124, 3_531, 19_557, 15_638_932


def simulate_ijbc(methods: int):
    rng = np.random.default_rng(0)
    pairs = np.empty((MATED + NONMATED, 2), np.int32)
    pairs[:, 0] = rng.integers(TEMPLATES, size=len(pairs))
    # Template t is of person t % IDENTITIES: a multiple of IDENTITIES away it is the same person.
    steps = rng.integers(1, TEMPLATES // IDENTITIES, size=MATED) * IDENTITIES
    first = pairs[:MATED, 0]
    pairs[:MATED, 1] = np.where(first + steps < TEMPLATES, first + steps, first - IDENTITIES)
    second = rng.integers(TEMPLATES, size=NONMATED, dtype=np.int32)
    second[second % IDENTITIES == pairs[MATED:, 0] % IDENTITIES] += 1
    pairs[MATED:, 1] = second % TEMPLATES
    mated = np.arange(len(pairs)) < MATED
    true_quality = rng.random(TEMPLATES)
    similarities = rng.normal(0, 0.1, len(pairs)).astype(np.float32)
    similarities[:MATED] += 0.1 + 0.7 * true_quality[pairs[:MATED]].min(axis=1)
    qualities = {f"method {k}": true_quality + rng.normal(0, 0.1 * (k + 1), TEMPLATES) for k in range(methods)}
    return similarities, mated, qualities, pairs


def peak() -> float:
    """Largest resident size of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure_ijbc(methods: int) -> None:
    similarities, mated, qualities, pairs = simulate_ijbc(methods)
    print(f"IJB-C's size: {MATED:,} + {NONMATED:,} comparisons of {TEMPLATES:,} templates, {methods} methods")
    print(f"  the data themselves: peak {peak():.2f} GiB")
    whole = 0.0
    for name in ("default", "schlett", "diffiqa", "cr-fiqa"):
        start, cpu = time.perf_counter(), time.process_time()
        results = edc_curves(similarities, mated, qualities, name, pairs=pairs)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        whole += wall
        limit = EDCProtocol.from_preset(name).limits[-1]
        paucs = [result.pauc[limit] for result in results.values()]
        print(
            f"  {name:8s} {wall:6.2f} s (processor {cpu:.2f} s), peak {peak():.2f} GiB, "
            f"pAUC@{limit:g} {min(paucs):.4f} .. {max(paucs):.4f}",
            flush=True,
        )
    print(f"  all four: {whole:.1f} s, peak of the whole process {peak():.2f} GiB")


def measure_original(checkout: Path, count: int) -> None:
    sys.path.insert(0, str(checkout))
    import edc as original

    rng = np.random.default_rng(1)
    images = count // 10
    qualities = rng.random(images)
    pairs = rng.integers(images - 1, size=(count, 2), dtype=np.int32)
    pairs[:, 1] += pairs[:, 1] >= pairs[:, 0]
    sides = qualities[pairs[:, 0]], qualities[pairs[:, 1]]
    similarities = 0.7 * np.minimum(*sides) + rng.normal(0, 0.2, count)
    mated = np.ones(count, bool)
    listed = similarities.tolist(), pairs.tolist(), qualities.tolist()
    protocol = EDCProtocol.from_preset("schlett")
    names = ("ours, by image", "ours, by pair", "theirs, input", "theirs, curve and areas")
    times: dict[str, list[float]] = {name: [] for name in names}

    def clock(name, function):
        start = time.process_time()
        value = function()
        times[name].append(time.process_time() - start)
        return value

    def build():
        scores, ends, values = listed
        samples = [original.EdcSample(quality_score=value) for value in values]
        return [
            original.EdcSamplePair(samples=(samples[one], samples[other]), similarity_score=score)
            for (one, other), score in zip(ends, scores, strict=True)
        ]

    def compute(sample_pairs):
        curve = original.compute_edc(original.EdcErrorType.FNMR, sample_pairs, starting_error=0.05)
        return curve, [original.compute_edc_pauc(curve, limit) for limit in protocol.limits]

    for _ in range(5):
        by_image = clock(names[0], lambda: edc_curve(similarities, mated, qualities, protocol, pairs=pairs))
        by_pair = clock(names[1], lambda: edc_curve(similarities, mated, sides, protocol))
        sample_pairs = clock(names[2], build)
        curve, paucs = clock(names[3], lambda given=sample_pairs: compute(given))

    print(
        f"{count:,} mated pairs of {images:,} images, protocol schlett, pAUC at {protocol.limits}; processor seconds"
    )
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"  {name:24s} median {medians[name]:.3f} s, fastest {min(values):.3f} s")
    for name, result in zip(names, (by_image, by_pair), strict=False):
        rates = np.abs(curve["error_fractions"][:-1] - result.rates).max()
        areas = max(abs(a - b) for a, b in zip(paucs, result.pauc.values(), strict=True))
        alone, whole = medians[names[3]] / medians[name], (medians[names[2]] + medians[names[3]]) / medians[name]
        print(f"  {name}: {alone:.1f} times as fast as their curve, {whole:.1f} times with their input; ", end="")
        print(f"largest difference of rates {rates:.1e}, of areas {areas:.1e}")


def measure_metrics(count: int) -> None:
    import evaluate

    rng = np.random.default_rng(2)
    mated = np.arange(count) < count // 2
    sides = rng.random(count), rng.random(count)
    similarities = np.where(mated, 0.7 * np.minimum(*sides), 0) + rng.normal(0, 0.2, count)
    inputs = {"similarities": similarities, "mated": mated, "qualities_a": sides[0], "qualities_b": sides[1]}
    print(f"{count:,} pairs, half of them mated, protocol default; seconds, median and fastest of 5")
    start = time.perf_counter()
    modules = {name: evaluate.load(metrics_path(name)) for name in METRICS}
    print(f"  evaluate.load of both   {time.perf_counter() - start:.3f} s")
    results: dict[str, dict] = {}

    def compute(name):
        results[name] = modules[name].compute(**inputs)

    def curve():
        results["curve"] = edc_curve(similarities, mated, sides).summary()

    calls = {"edc_curve alone": curve, **{f"compute of {name}": partial(compute, name) for name in METRICS}}
    for what, call in calls.items():
        times = []
        for _ in range(5):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        print(f"  {what:24s}median {statistics.median(times):.3f} s, fastest {min(times):.3f} s", flush=True)
    for limit, area in results["curve"]["pauc"].items():
        print(f"  pAUC@{limit:g}: {results['pauc'][f'pauc@{limit:g}']:.6f}, of edc_curve {area:.6f}")
    print(f"  FNMR {results['edc']['fnmr']:.6f}, of edc_curve {results['curve']['fnmr']:.6f}; peak {peak():.2f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--original", type=Path, help="checkout of dasec/quality-assessment-evaluation")
    parser.add_argument("--metrics", action="store_true", help="the modules of `evaluate` as well")
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--methods", type=int, default=12, help="0 leaves the set of IJB-C's size out")
    args = parser.parse_args()

    print(f"Python {platform.python_version()}, NumPy {np.__version__}, {platform.machine()}")
    if args.methods:
        measure_ijbc(args.methods)
    if args.original:
        measure_original(args.original, args.pairs)
    if args.metrics:
        measure_metrics(args.pairs)


if __name__ == "__main__":
    main()
