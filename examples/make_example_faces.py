# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Makes `examples/photos/` and `examples/faces/` from the packages that the photographs come in.

    mkdir downloads && cd downloads
    pip download --no-deps scikit-image==0.26.0
    npm pack @vladmandic/face-api@1.7.15
    cd .. && python examples/make_example_faces.py downloads

The landmarks below were set by hand, each looked at on the picture; OpenCV's YuNet gave the first guess. So no
detector is needed here. Licences and authors are in `examples/README.md`.
"""

import argparse
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from diffiqa_hf.alignment import align_face
from diffiqa_hf.degradations import STRENGTHS, degrade_at


EXAMPLES = Path(__file__).parent
PHOTO_SIDE = 480

# For each archive: the name it is downloaded under, and the folder of the photographs in it.
SCIKIT_IMAGE = ("scikit_image-*.whl", "skimage/data")
FACE_API = ("vladmandic-face-api-*.tgz", "package/demo")

# Photograph: its archive, and for each face, the largest first, the left eye, right eye, nose, left and right corner
# of the mouth as seen in the image, (x, y) in pixels of the original.
PHOTOGRAPHS = {
    "astronaut.png": (
        SCIKIT_IMAGE,
        [
            [(204.1, 101.5), (246.7, 103.7), (224.4, 126), (203.9, 141.6), (242.3, 143.1)],
        ],
    ),
    "sample1.jpg": (
        FACE_API,
        [
            [(873.5, 556.7), (942.9, 523.9), (917.6, 580.7), (912.6, 612.2), (985.7, 579.4)],
            [(1558.8, 281.2), (1618, 337.1), (1546.9, 344.5), (1498.8, 340.4), (1559.2, 395.1)],
            [(446, 454.4), (521.7, 459.7), (459.7, 511.9), (441.2, 537.6), (527, 542)],
        ],
    ),
    "sample2.jpg": (
        FACE_API,
        [
            [(386.4, 247), (416.8, 246), (363.4, 303.7), (401, 343), (430.9, 345.5)],
            [(1479, 277.2), (1568.6, 258.2), (1534.5, 324), (1524.9, 349), (1587.3, 333.7)],
            [(947, 343.8), (1020, 347), (982.3, 400), (957.4, 410), (1010, 411)],
        ],
    ),
    "sample3.jpg": (
        FACE_API,
        [
            [(1116, 318.9), (1218.9, 340), (1140.6, 394.9), (1103.4, 424.6), (1196, 441.7)],
            [(1551.4, 409.1), (1652.6, 402.9), (1601.1, 464), (1549.7, 501), (1655.4, 494.3)],
            [(631.6, 432.1), (728.6, 433.2), (664.8, 489.3), (640.3, 535.2), (710.7, 533.7)],
        ],
    ),
    "sample5.jpg": (
        FACE_API,
        [
            [(1440.7, 509), (1522.6, 494.9), (1473.4, 572.9), (1467.8, 609), (1539.5, 600.6)],
            [(420.4, 991), (519.4, 977.5), (475.9, 1042.4), (446, 1092.7), (526.2, 1082.2)],
            [(683.5, 510.2), (752.9, 513.6), (729.6, 559.7), (691.7, 600), (743.2, 595.1)],
            [(1149.4, 295.4), (1230.3, 291.7), (1176.3, 334), (1148.5, 375.5), (1222, 375.5)],
            [(843.3, 192), (920.6, 203.2), (880.2, 237.8), (845.2, 278.4), (906.7, 287.5)],
        ],
    ),
    "sample6.jpg": (
        FACE_API,
        [
            [(1540.4, 375.3), (1630.3, 395.5), (1562.9, 455.6), (1516.9, 475.3), (1595.5, 499.4)],
            [(318.9, 609.4), (422.6, 596.3), (391, 658.9), (345.3, 701.6), (426.8, 692.7)],
            [(708.4, 452.5), (804.6, 447), (749.7, 518.5), (735.8, 554.2), (809.6, 550.9)],
            [(1230.3, 425.4), (1327.3, 429.4), (1275.8, 501.5), (1241.4, 540.6), (1308.6, 536)],
        ],
    ),
}

# These are also kept whole, at most PHOTO_SIDE pixels long.
WHOLE = ["astronaut.png", "sample1.jpg", "sample2.jpg", "sample6.jpg"]

# Crop: photograph, which of its faces, who it is (the people in the sample photographs are not named: photograph and
# face stand for them), and what may make it a good or a bad face.
CROPS = {
    "astronaut": ("astronaut.png", 0, "Eileen Collins", "frontal"),
    "sample1_lowered": ("sample1.jpg", 0, "sample1-0", "eyes closed, painted, dark"),
    "sample2_profile": ("sample2.jpg", 0, "sample2-0", "profile, hand at the mouth"),
    "sample2_hair": ("sample2.jpg", 2, "sample2-2", "looking down, hair over an eye"),
    "sample3_smile": ("sample3.jpg", 1, "sample3-1", "frontal, coloured light"),
    "sample5_dark": ("sample5.jpg", 1, "sample5-1", "dark"),
    "sample6_left": ("sample6.jpg", 1, "sample6-1", "frontal"),
    "sample6_right": ("sample6.jpg", 0, "sample6-0", "slightly turned"),
}

# The seed of the degraded copies of a crop.
DEGRADED = {"astronaut": 0, "sample3_smile": 1, "sample6_left": 2, "sample6_right": 3}


def read_photograph(downloads: Path, name: str) -> Image.Image:
    """The original photograph, RGB, out of its archive in `downloads`."""
    pattern, folder = PHOTOGRAPHS[name][0]
    found = sorted(downloads.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"{downloads}: expected one file {pattern}, found {len(found)}")
    if found[0].suffix == ".whl":
        data = zipfile.ZipFile(found[0]).read(f"{folder}/{name}")
    else:
        with tarfile.open(found[0]) as archive:
            data = archive.extractfile(f"{folder}/{name}").read()
    return Image.open(io.BytesIO(data)).convert("RGB")


def make_photos(downloads: Path) -> None:
    folder = EXAMPLES / "photos"
    folder.mkdir(exist_ok=True)
    faces = {}
    for name in WHOLE:
        photograph = read_photograph(downloads, name)
        scale = min(1.0, PHOTO_SIDE / max(photograph.size))
        size = tuple(round(side * scale) for side in photograph.size)
        file = Path(name).stem + ".jpg"
        photograph.resize(size, Image.Resampling.LANCZOS).save(folder / file, quality=88)
        # Pixel centres are whole numbers, hence the half pixel.
        points = (np.array(PHOTOGRAPHS[name][1]) + 0.5) * np.divide(size, photograph.size) - 0.5
        faces[file] = points.round(1).tolist()
    lines = []
    for file, points in faces.items():
        rows = ",\n".join("    " + json.dumps(face) for face in points)
        lines.append(f'  "{file}": [\n{rows}\n  ]')
    (folder / "landmarks.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def make_faces(downloads: Path) -> None:
    folder = EXAMPLES / "faces"
    folder.mkdir(exist_ok=True)
    entries, groups = [], {}
    for crop, (name, face, person, condition) in CROPS.items():
        landmarks = np.array(PHOTOGRAPHS[name][1][face])
        entry = {"photograph": name, "face": face, "person": person, "condition": condition}
        path = folder / f"{crop}.jpg"
        pixels = align_face(read_photograph(downloads, name), landmarks)
        Image.fromarray(pixels).save(path, quality=95, subsampling=0)
        entries.append({"file": path.name, **entry, "strength": None, "seed": None})
        if crop not in DEGRADED:
            continue
        groups[crop] = [path.name]
        # What is degraded is the crop as the file holds it, so that the copies can be made again from that file alone.
        pixels = np.asarray(Image.open(path))
        for rank, strength in enumerate(STRENGTHS, start=1):
            path = folder / f"{crop}_{rank}_{strength}.jpg"
            degraded = degrade_at(pixels, strength, DEGRADED[crop])
            Image.fromarray(degraded).save(path, quality=95, subsampling=0)
            entries.append({"file": path.name, **entry, "strength": strength, "seed": DEGRADED[crop]})
            groups[crop].append(path.name)
    faces = ",\n".join("    " + json.dumps(entry) for entry in entries)
    orders = ",\n".join(f"    {json.dumps(crop)}: {json.dumps(files)}" for crop, files in groups.items())
    (folder / "faces.json").write_text(
        f'{{\n  "faces": [\n{faces}\n  ],\n  "groups_best_first": {{\n{orders}\n  }}\n}}\n'
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make examples/photos and examples/faces.")
    parser.add_argument("downloads", type=Path, help="folder with the two archives")
    downloads = parser.parse_args().downloads
    make_photos(downloads)
    make_faces(downloads)
