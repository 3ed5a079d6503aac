# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The time of `diffiqa benchmark` with five methods and several FR models, against another checkout of this package:
whole processes that take turns, each with an empty cache.

    python benchmarks/study_speed.py FACES.parquet --fr-models MODEL MODEL ... --lightqnet MODEL --old CHECKOUT
        [--images 150] [--rounds 2] [--output benchmarks/results/study_speed.md]

FACES.parquet has aligned crops in the columns image, name and identity; people with three to eight images are taken
until there are enough. The methods: DifFIQA with each FR model, GraFIQs with each, the embedding norm with each,
DifFIQA(R) and LightQNet.
"""

import argparse
import collections
import datetime
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import yaml
from engine_speed import ROOT, processor, run, take_turns, whole_path


def make_study(args: argparse.Namespace, folder: Path) -> Path:
    table = pq.read_table(args.faces)
    people = table.column("identity").to_pylist()
    counts = collections.Counter(people)
    rows = [row for row, person in enumerate(people) if 3 <= counts[person] <= 8][: args.images]
    pq.write_table(table.take(rows), folder / "faces.parquet")
    each = {"fr_model": "each"}
    study = {
        "title": "Timed",
        "output": str(folder / "report"),
        "cache": str(folder / "cache"),
        "methods": [
            {"name": "DifFIQA", "method": "diffiqa", **each},
            {"name": "DifFIQA(R)", "method": "diffiqa-r"},
            {"name": "GraFIQs", "method": "grafiqs", **each},
            {"name": "norm", "method": "embedding-norm", **each},
            {"name": "LightQNet", "method": "lightqnet", "weights": str(args.lightqnet)},
        ],
        "fr_models": [{"name": f"FR {at}", "model": model} for at, model in enumerate(args.fr_models)],
        "benchmarks": [
            {
                "name": "faces",
                "parquet": str(folder / "faces.parquet"),
                "file_column": "name",
                "mated_per_person": 10,
                "nonmated": 5000,
            }
        ],
        "fmr": 0.01,
        "replicates": 100,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=whole_path)
    parser.add_argument("--fr-models", nargs="+", required=True, help="folders, or default")
    parser.add_argument("--lightqnet", type=whole_path, required=True)
    parser.add_argument("--old", type=whole_path, required=True)
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    args.fr_models = [os.path.abspath(name) if os.path.isdir(name) else name for name in args.fr_models]
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        path = make_study(args, Path(name))
        command = [sys.executable, "-m", "diffiqa_hf", "benchmark", str(path), "--device", "cpu", "--quiet"]

        def once(checkout: Path) -> tuple[float, float]:
            shutil.rmtree(Path(name) / "cache", ignore_errors=True)
            return run([*command, "--no-plot"], checkout)

        times = take_turns({"now": lambda: once(ROOT), "old": lambda: once(args.old)}, args.rounds)
    (now, memory), (old, old_memory) = times["now"], times["old"]
    text = f"""# A study of five methods

{processor()}; {datetime.date.today():%d %B %Y}; load average before {load:.1f}. The median of {args.rounds} rounds in
which the two take turns: whole processes with an empty cache, {args.images} crops, {len(args.fr_models)} FR models.

| | now | {args.old.name} | ratio |
|---|---|---|---|
| time | {now:.0f} s | {old:.0f} s | {now / old:.2f} |
| memory | {memory:.0f} MiB | {old_memory:.0f} MiB | {memory / old_memory:.2f} |

An image is read and restored once for all FR models. What is left is the embeddings of the copies, by each FR model.
"""
    print(text)
    if args.output is not None:
        args.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
