# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The faces of the study beside this file, out of LFW's View 1 as aligned crops of 112x112 pixels:

    python make_faces.py dev_train.parquet dev_test.parquet

The files have the columns `image` (with the bytes of a file), `name` and `identity`. Written into the current folder:

- `dev_test_400.parquet`: of the people of dev_test with four images or more the first 100 by name, and of each the
  first four images by name.
- `froq/`: 150 faces for FROQ to choose its layers by: one each of the first 150 people of dev_train, every other one
  degraded by `degrade_face`, with its number as the seed.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from diffiqa_hf.degradations import degrade_face


PEOPLE, IMAGES = 100, 4  # of dev_test
FACES = 150  # of dev_train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dev_train")
    parser.add_argument("dev_test")
    args = parser.parse_args()
    rows = pq.read_table(args.dev_test).sort_by("name")
    of_person: dict[str, list[int]] = {}
    for row, identity in enumerate(rows["identity"].to_pylist()):
        of_person.setdefault(identity, []).append(row)
    chosen = [person for person in sorted(of_person) if len(of_person[person]) >= IMAGES][:PEOPLE]
    pq.write_table(rows.take([row for person in chosen for row in of_person[person][:IMAGES]]), "dev_test_400.parquet")

    folder = Path("froq")
    folder.mkdir(exist_ok=True)
    faces = pq.read_table(args.dev_train).sort_by("name")
    first = {}
    for row, identity in enumerate(faces["identity"].to_pylist()):
        first.setdefault(identity, row)
    images = pc.struct_field(faces["image"], "bytes")
    for number, person in enumerate(sorted(first)[:FACES]):
        pixels = np.asarray(Image.open(io.BytesIO(images[first[person]].as_py())).convert("RGB"))
        if number % 2:
            pixels = degrade_face(pixels, np.random.default_rng(number))
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")


if __name__ == "__main__":
    main()
