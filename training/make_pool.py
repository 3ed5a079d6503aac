# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Makes a pool of faces, damaged copies of them and pictures that are no face, and has FR models embed it: what
train_on_pool.py learns from, made once.

    python training/make_pool.py --train_parquet lfw/dev_train.parquet celeba/train.parquet --fr_model foamliu dlib \\
        --series 16000 --non_faces 4000 --output_dir pool

Each series is one face in three copies, damaged in the same way more and more (diffiqa_hf/degradations/spoiling.py).
The pool is `images.npy` (N, 112, 112, 3), RGB, uint8; `rows.parquet`, what each of them is; and a file of embeddings
(N, D) for each FR model. The rows are: all faces as they are, then the pictures that are no face, then the series in
an order drawn by the seed. With `--mirrored` each FR model has a second file, `NAME-mirrored.npy`, of its embeddings
of the mirrored images. A run that was stopped goes on where it was, and one with another FR model adds that one's
embeddings. Every image depends on the seed and on its row alone.
"""

import argparse
import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

import diffiqa_hf.models  # noqa: F401 - makes the FR models known to AutoModel
from diffiqa_hf import FaceImageProcessor
from diffiqa_hf.conversion.networks import load_fr_model
from diffiqa_hf.degradations.spoiling import SIZE, Series, draw_non_face
from diffiqa_hf.evaluation.held_out import is_held_out
from diffiqa_hf.file_utils import replace_file, write_text
from diffiqa_hf.image_processing_face import face_to_pixels, pixels_to_face
from diffiqa_hf.inference.folding import fold
from diffiqa_hf.methods import load_method
from diffiqa_hf.training.data import load_face_dataset, read_face
from diffiqa_hf.training.held_out import people_of
from diffiqa_hf.training.pool import MIRRORED


logger = logging.getLogger(__name__)

COPIES = 3  # of a series
BLOCK = 1536  # rows between two notes of how far a run has come


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train_parquet", nargs="+", required=True, help="files with columns of images and people")
    parser.add_argument("--image_column", default="image", help="default: %(default)s")
    parser.add_argument("--identity_column", default="identity", help="default: %(default)s")
    parser.add_argument("--fr_model", nargs="*", default=[], help="folders of FR models; the last name of each counts")
    parser.add_argument("--lightqnet", help="published file of LightQNet, whose scores can be a part of the labels")
    parser.add_argument("--mirrored", action="store_true", help="the FR models embed the mirrored images as well")
    parser.add_argument("--rows", type=int, help="stop after so many rows; a later run goes on (default: all)")
    parser.add_argument("--series", type=int, default=16_000, help=f"of {COPIES} copies each (default: %(default)s)")
    parser.add_argument("--non_faces", type=int, default=4000, help="default: %(default)s")
    parser.add_argument(
        "--holdout_modulo", type=int, default=10, help="people whose name's CRC-32 it divides are marked as held out"
    )
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="bfloat16", help="of the FR models (default: bfloat16)"
    )
    parser.add_argument("--batch_size", type=int, default=32, help="of the FR models (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--output_dir", required=True)
    return parser.parse_args(argv)


def plan(identities: list[str], args: argparse.Namespace) -> pd.DataFrame:
    """
    A row for each image: `face`, the number of the face that it is of (-1: none), `series` (-1: none) and `strength`,
    `kind` (`face`, `non-face` or the names of the damages), `identity` and `heldout`.
    """
    count = len(identities)
    rng = np.random.default_rng([args.seed, 1])
    rows = [(i, -1, 0.0, "face") for i in range(count)] + [(-1, -1, 0.0, "non-face")] * args.non_faces
    order = np.concatenate([rng.permutation(count) for _ in range(-(-args.series // count))])[: args.series]
    for series, face in enumerate(order.tolist()):
        kind = " + ".join(draw_series(args.seed, series).names)
        # More of what is seen more: half of the copies are weaker than .3.
        strengths = np.sort(np.random.default_rng([args.seed, 3, series]).random(COPIES) ** 1.7)
        rows += [(face, series, strength, kind) for strength in strengths.tolist()]
    table = pd.DataFrame(rows, columns=["face", "series", "strength", "kind"])
    table["identity"] = [identities[face] if face >= 0 else "" for face in table["face"]]
    # What is no face is nobody's, and held out of nothing.
    table["heldout"] = [
        face >= 0 and is_held_out(person, args.holdout_modulo)
        for face, person in zip(table["face"], table["identity"], strict=True)
    ]
    return table


def draw_series(seed: int, series: int) -> Series:
    return Series.draw(np.random.default_rng([seed, 2, series]))


def read_faces(args: argparse.Namespace) -> tuple[np.ndarray, list[str]]:
    dataset = load_face_dataset(None, None, args.train_parquet)
    processor = FaceImageProcessor()
    faces = np.empty((len(dataset), SIZE, SIZE, 3), np.uint8)
    for i in tqdm(range(len(dataset)), desc="faces"):
        faces[i] = face_to_pixels(read_face(dataset, i, args.image_column, processor))
    return faces, people_of(dataset, args.identity_column)


def open_array(path: Path, shape: tuple[int, ...], dtype: type) -> np.memmap:
    if path.exists():
        array = np.lib.format.open_memmap(path, mode="r+")
        if array.shape != shape or array.dtype != dtype:
            raise SystemExit(f"{path} is of another pool: {array.shape} of {array.dtype}, not {shape} of {dtype}")
        return array
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def read_progress(folder: Path, name: str) -> int:
    path = folder / f"{name}.done"
    return int(path.read_text()) if path.exists() else 0


@torch.inference_mode()
def embed(model: torch.nn.Module, images: np.ndarray, args: argparse.Namespace, mirrored: bool = False) -> np.ndarray:
    parts = []
    for start in range(0, len(images), args.batch_size):
        faces = torch.from_numpy(
            np.stack([pixels_to_face(image) for image in images[start : start + args.batch_size]])
        )
        faces = faces.flip(-1) if mirrored else faces
        with torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "bfloat16"):
            output = model(faces.contiguous(memory_format=torch.channels_last))
        found = output.embeddings if output.get("scores") is None else output.scores[:, None]
        parts.append(found.float().numpy())
    return np.concatenate(parts)


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parse_args(argv)
    output_dir = Path(args.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    settings = {"seed": args.seed, "series": args.series, "non_faces": args.non_faces, "files": args.train_parquet}
    settings_file = output_dir / "settings.json"
    if not settings_file.exists():
        write_text(settings_file, json.dumps(settings, indent=1))
    elif (found := json.loads(settings_file.read_text())) != settings:
        raise SystemExit(f"{output_dir} is another pool: {found}, not {settings}")

    if (output_dir / "rows.parquet").exists():
        table = pd.read_parquet(output_dir / "rows.parquet")
        images = open_array(output_dir / "images.npy", (len(table), SIZE, SIZE, 3), np.uint8)
        faces = images[: (table["kind"] == "face").sum()]
    else:
        faces, identities = read_faces(args)
        table = plan(identities, args)
        images = open_array(output_dir / "images.npy", (len(table), SIZE, SIZE, 3), np.uint8)
        images[: len(faces)] = faces
        replace_file(output_dir / "rows.parquet", lambda path: table.to_parquet(path))
    trained_on = np.flatnonzero(~table["heldout"][: len(faces)].to_numpy())
    models = {Path(name).name: fold(load_fr_model(name)) for name in args.fr_model}
    arrays = {}
    for name, model in models.items():
        arrays[name] = open_array(output_dir / f"{name}.npy", (len(table), model.config.embedding_size), np.float32)
        if args.mirrored:
            arrays[name + MIRRORED] = open_array(output_dir / f"{name}{MIRRORED}.npy", arrays[name].shape, np.float32)
    if args.lightqnet:
        lightqnet = load_method("lightqnet", args.lightqnet, align=False)
        lightqnet.enable_folding(winograd=True)
        models["lightqnet"] = lightqnet.model
        arrays["lightqnet"] = open_array(output_dir / "lightqnet.npy", (len(table), 1), np.float32)

    # What has come how far stands in a file for each, so that two runs may embed one pool with different models.
    columns = list(table[["face", "series", "strength", "kind"]].itertuples(index=False))
    last = min(args.rows or len(table), len(table))
    for start in tqdm(range(0, last, BLOCK), desc="blocks"):
        stop = min(start + BLOCK, last)
        if read_progress(output_dir, "images") < stop:
            for row in range(max(start, len(faces)), stop):
                face, series, strength, kind = columns[row]
                if kind == "non-face":
                    rng = np.random.default_rng([args.seed, 4, row])
                    chosen = rng.choice(trained_on, 8)
                    images[row] = draw_non_face([faces[i] for i in chosen], rng)
                else:
                    images[row] = draw_series(args.seed, series).apply(np.array(faces[face]), strength)
            images.flush()
            write_text(output_dir / "images.done", str(stop))
        for name, array in arrays.items():
            if read_progress(output_dir, name) < stop:
                model = models[name.removesuffix(MIRRORED)]
                wanted = [row for row in range(start, stop) if columns[row].kind != "non-face"]
                if wanted:
                    array[wanted] = embed(model, images[wanted], args, name.endswith(MIRRORED))
                array.flush()
                write_text(output_dir / f"{name}.done", str(stop))
    logger.info(f"{len(table)} images in {output_dir}, of {len(faces)} faces")


if __name__ == "__main__":
    main()
