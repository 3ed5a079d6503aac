# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Draw `docs/images/learning.png`: how verification of held-out people gets better while an FR model trains.

    python docs/make_learning_picture.py RUN [RUN ...] --epoch-steps 210 [--output docs/images/learning.png]

Each RUN is an `--output_dir` of `training/train_face_recognition.py` with `--holdout_modulo` and the default
`--report_to tensorboard`; its folder names the curve. Left the balanced accuracy at its best threshold, right the
true accept rate at a false match rate of 1 %, over all pairs of the held-out people.
"""

import argparse
import json
from pathlib import Path

import matplotlib


matplotlib.use("Agg")
import matplotlib.pyplot as plt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


PANELS = {"balanced_accuracy": "balanced accuracy", "tar_at_fmr_1e-2": "TAR at FMR 1 %"}


def read_run(folder: Path) -> dict[str, dict[int, float]]:
    """Of each figure, the value by step, from all event files of a run (a resumed run has several)."""
    figures = {name: {} for name in PANELS}
    for file in sorted(folder.rglob("events.out.tfevents.*")):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0}).Reload()
        for name in figures:
            tag = f"heldout/{name}"
            if tag in events.Tags()["scalars"]:
                figures[name] |= {event.step: event.value for event in events.Scalars(tag)}
    if not any(figures.values()):
        raise SystemExit(f"{folder} has no figures of held-out people (--holdout_modulo, --report_to tensorboard)")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a training run")
    parser.add_argument("--epoch-steps", type=float, required=True, help="steps that make an epoch")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parent / "images" / "learning.png")
    args = parser.parse_args()
    figure, axes = plt.subplots(1, len(PANELS), figsize=(10, 4), layout="constrained")
    for run in args.runs:
        figures = read_run(run)
        for axis, (name, title) in zip(axes, PANELS.items(), strict=True):
            steps = sorted(figures[name])
            axis.plot([step / args.epoch_steps for step in steps], [figures[name][s] for s in steps], label=run.name)
            axis.set(xlabel="epoch", ylabel=title)
            axis.grid(alpha=0.3)
        print(json.dumps({"run": run.name, **{name: figures[name][max(figures[name])] for name in PANELS}}))
    axes[0].legend()
    figure.savefig(args.output, dpi=110)


if __name__ == "__main__":
    main()
