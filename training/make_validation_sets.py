# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Three validation sets out of the people who are held out of a training: clean, degraded and turned faces.

    python training/make_validation_sets.py --train_parquet lfw/dev_train.parquet celeba/train.parquet \\
        --detector face_detection_yunet_2023mar.onnx --output_dir runs/validation

The people are those whom the training scripts leave out with the same `--holdout_modulo`, in two halves by name:
choose a network on `choose`, report it on `report`. Each set is written as `HALF/SET.parquet` and
`HALF/SET_pairs.parquet`, which a study of `diffiqa benchmark` takes as `parquet` and `pairs`;
`diffiqa_hf.evaluation.validation` reads them back and measures any scores on them. What the sets are is said at
`make_validation_sets` there.

Yaw is estimated from five landmarks: those of the column `--landmarks_column`, or, in files without one, those that
the detector finds in the crops. Without either a face is never in the set of turned ones.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from diffiqa_hf.alignment import YuNetFaceDetector
from diffiqa_hf.evaluation.validation import make_validation_sets, read_held_out, write_validation_sets
from diffiqa_hf.file_utils import write_text
from diffiqa_hf.scoring.tables import TableError


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train_parquet", nargs="+", required=True, help="files that a training is given")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--holdout_modulo", type=int, default=10, help="as in the training (default: 10)")
    parser.add_argument("--identity_column", default="identity")
    parser.add_argument("--name_column", default="name", help="names of the images (default: name)")
    parser.add_argument("--image_column", default="image")
    parser.add_argument("--landmarks_column", default="landmarks")
    parser.add_argument("--detector", help="YuNet's ONNX file or Hub repository, for files without landmarks")
    parser.add_argument("--mated_per_person", type=int, default=50, help="at most so many (default: 50)")
    parser.add_argument("--nonmated", type=int, default=200_000, help="at most so many (default: 200000)")
    parser.add_argument("--degraded_share", type=float, default=0.2, help="of the images (default: 0.2)")
    parser.add_argument("--turned", type=float, default=25.0, help="least yaw of a turned face (default: 25 degrees)")
    parser.add_argument("--frontal", type=float, default=15.0, help="largest yaw of the other (default: 15 degrees)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.holdout_modulo < 2:
        parser.error("--holdout_modulo is 2 or more: with 1 everybody is held out, and there is no training")
    if not 0 <= args.degraded_share <= 1:
        parser.error("--degraded_share lies between 0 and 1")
    if args.frontal >= args.turned:
        parser.error("--frontal is less than --turned")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        faces = read_held_out(
            args.train_parquet,
            args.holdout_modulo,
            identity_column=args.identity_column,
            name_column=args.name_column,
            image_column=args.image_column,
            landmarks_column=args.landmarks_column,
            detector=YuNetFaceDetector(args.detector) if args.detector else None,
        )
    except (TableError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if unknown := int(np.isnan(faces.yaws).sum()):
        print(f"{unknown} of {len(faces.files)} faces have no landmarks and are in no pair of turned faces")
    options = ("mated_per_person", "nonmated", "degraded_share", "turned", "frontal", "seed")
    sets = make_validation_sets(faces, args.holdout_modulo, **{name: getattr(args, name) for name in options})
    write_validation_sets(args.output_dir, sets.values())
    counts = {f"{name}, {half}": part.counts() for (name, half), part in sets.items()}
    settings = {name: getattr(args, name) for name in ("holdout_modulo", *options)}
    record = {"settings": settings, "files": [Path(path).name for path in args.train_parquet], "counts": counts}
    write_text(args.output_dir / "sets.json", json.dumps(record, indent=2) + "\n")
    for name, numbers in counts.items():
        print(f"{name}: " + ", ".join(f"{count:,} {what}" for what, count in numbers.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
