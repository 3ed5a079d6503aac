# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The files of a layout, in a folder or in the archive that it is distributed as, and the table of images."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ...file_utils import file_fault, stand_in
from ...scoring.image_files import is_hidden
from .benchmark import BenchmarkError


if TYPE_CHECKING:
    import datasets
    from PIL import Image


IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".pgm", ".ppm")
ARCHIVE_SUFFIXES = (".zip", ".tgz", ".tar.gz", ".tar")

# The images of an archive are held in memory: no random access into a .tgz, and nothing is unpacked behind a person's
# back. Those that are distributed as one have 60 to 300 MB.
MAX_ARCHIVE_BYTES = 1 << 30

# What the aligned crops of the field's packages have: width and height.
CROP_SIZE = (112, 112)

# Of the width and height of a face's box, kept around it on each side: our choice, as no protocol has one.
BOX_MARGIN = 0.3


class FileTree:
    """
    The files of a layout by their place in it (with `/`), in order.

    Args:
        root: A folder, which may be the layout, hold it further down, or hold the one archive that it came as; or a
            file: an archive, a package or a table. Text files that lie beside a file belong to it.

    Raises:
        BenchmarkError: There is no such thing, it is no archive, or which of several archives isn't clear.
    """

    def __init__(self, root: str | os.PathLike):
        self.root = Path(root)
        self.archive: Path | None = None
        self._paths: dict[str, str] = {}
        members: list[str] = []
        if self.root.is_dir():
            self._paths = dict(_walk(self.root))
            archives = [name for name in self._paths if "/" not in name and name.lower().endswith(ARCHIVE_SUFFIXES)]
            if archives and not any(_is_data(name) for name in self._paths):
                if len(archives) > 1:
                    raise BenchmarkError(f"{self.root}: holds {' and '.join(archives)}; name the one that is meant")
                self.archive = self.root / archives[0]
        elif self.root.is_file():
            if self.root.name.lower().endswith(ARCHIVE_SUFFIXES):
                self.archive = self.root
            else:
                self._paths[self.root.name] = str(self.root)
            for path in sorted(self.root.parent.glob("*.txt")):
                self._paths[path.name] = str(path)
        else:
            raise BenchmarkError(f"{self.root}: no such file or folder")
        if self.archive is not None:
            members = self._list_archive()
        self.names: list[str] = sorted({*self._paths, *members})
        self._by_basename: dict[str, list[str]] = defaultdict(list)
        for name in self.names:
            self._by_basename[PurePosixPath(name).name].append(name)

    @property
    def kind(self) -> str:
        """What it is, for a person."""
        if self.archive is not None:
            return f"archive {self.archive}"
        return f"{'folder' if self.root.is_dir() else 'file'} {self.root}"

    def images(self) -> list[str]:
        """The places of what is an image by its name."""
        return [name for name in self.names if name.lower().endswith(IMAGE_SUFFIXES)]

    def with_suffix(self, suffix: str) -> list[str]:
        return [name for name in self.names if name.lower().endswith(suffix)]

    def find(self, basename: str) -> str | None:
        """
        The place of the file of that name.

        Raises:
            BenchmarkError: There are several.
        """
        found = self._by_basename.get(basename, [])
        if len(found) > 1:
            raise BenchmarkError(f"{self.root}: {basename} is there {len(found)} times: {found[0]} and {found[1]}")
        return found[0] if found else None

    def path(self, name: str) -> str:
        """Where a file is on disk; only of what isn't in an archive."""
        return self._paths[name]

    def is_packed(self, name: str) -> bool:
        """Whether it is in the archive."""
        return name not in self._paths

    def read_lines(self, name: str) -> list[str]:
        """The lines of a text file."""
        if self.is_packed(name):
            content = self.read_packed([name])[name]
        else:
            content = Path(self._paths[name]).read_bytes()
        return decode_lines(content, name)

    def read_packed(self, names: Iterable[str]) -> dict[str, bytes]:
        """The contents of files of the archive, read in one go."""
        wanted = set(names)
        contents: dict[str, bytes] = {}
        with _archive_errors(self.archive) as path:
            if path.suffix.lower() == ".zip":
                with zipfile.ZipFile(path) as archive:
                    self._check_size(info.file_size for info in archive.infolist() if info.filename in wanted)
                    return {name: archive.read(name) for name in wanted}
            with tarfile.open(path) as archive:
                total = 0
                for member in archive:
                    name = member.name.removeprefix("./")
                    if name in wanted and member.isfile() and (file := archive.extractfile(member)) is not None:
                        self._check_size([total := total + member.size])
                        contents[name] = file.read()
        return contents

    def _list_archive(self) -> list[str]:
        with _archive_errors(self.archive) as path:
            if path.suffix.lower() == ".zip":
                with zipfile.ZipFile(path) as archive:
                    return [name for name in archive.namelist() if not name.endswith("/") and _is_wanted(name)]
            with tarfile.open(path) as archive:
                names = [member.name.removeprefix("./") for member in archive if member.isfile()]
            return [name for name in names if _is_wanted(name)]

    def _check_size(self, sizes: Iterable[int]) -> None:
        if sum(sizes) > MAX_ARCHIVE_BYTES:
            raise BenchmarkError(f"{self.archive}: more than {MAX_ARCHIVE_BYTES >> 20} MB of images; unpack it first")


@contextmanager
def _archive_errors(archive: Path | None) -> Iterator[Path]:
    """Turns what a broken archive raises into a BenchmarkError."""
    if archive is None:
        raise BenchmarkError("nothing of it is in an archive")
    try:
        yield archive
    # RuntimeError: a password; NotImplementedError: an unknown compression; the rest: broken or unreadable.
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, tarfile.TarError, zlib.error) as error:
        if archive.is_file() and (reason := file_fault(archive)):
            raise BenchmarkError(f"{archive}: {reason}") from error
        raise BenchmarkError(f"{archive}: cannot be read as an archive ({error})") from error


def _walk(root: Path) -> Iterable[tuple[str, str]]:
    # Data sets are often links to another disk; a link that leads back up would never end.
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        folders.sort()
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        prefix = os.path.relpath(folder, root).replace(os.sep, "/")
        for file in sorted(files):
            name = file if prefix == "." else f"{prefix}/{file}"
            if _is_wanted(name):
                yield name, os.path.join(folder, file)


def _is_wanted(name: str) -> bool:
    # What systems and programs add to folders and archives looks like images, and is none.
    return not any(map(is_hidden, name.split("/")))


def _is_data(name: str) -> bool:
    return name.lower().endswith((*IMAGE_SUFFIXES, ".parquet", ".bin"))


def decode_lines(content: bytes, name: str) -> list[str]:
    """
    The lines of a text file.

    Raises:
        BenchmarkError: It isn't text.
    """
    if reason := stand_in(content[:200]):
        raise BenchmarkError(f"{name}: {reason}")
    try:
        return content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BenchmarkError(f"{name}: not a text file in UTF-8 (byte {error.start})") from error


def dataset_of_files(tree: FileTree, names: Sequence[str], **columns: Any) -> datasets.Dataset:
    """A table of the images at these places: by their path, or, where they are in an archive, with their bytes."""
    packed = tree.read_packed(name for name in names if tree.is_packed(name)) if tree.archive else {}
    return dataset_of_images(
        [packed.get(name) for name in names],
        [PurePosixPath(name).name if name in packed else tree.path(name) for name in names],
        file=list(names),
        **columns,
    )


def dataset_of_images(
    contents: Sequence[bytes | None], paths: Sequence[str | None], **columns: Any
) -> datasets.Dataset:
    """
    A table with the column `image` of encoded images or the paths to them, read and decoded when a row is, and
    `file`, `identity` (both `str`), `landmarks`, `box`, `template`, `media` as they are given.
    """
    import pyarrow as pa

    image = pa.StructArray.from_arrays(
        [pa.array(contents, pa.binary()), pa.array(paths, pa.string())], names=["bytes", "path"]
    )
    return dataset_of_table(pa.table({"image": image}), **columns)


def dataset_of_table(table: Any, **columns: Any) -> datasets.Dataset:
    """As [`dataset_of_images`], from a `pyarrow.Table` that has the column `image`."""
    import datasets
    import pyarrow as pa
    from datasets.table import InMemoryTable

    kinds = {
        "file": datasets.Value("string"),
        "identity": datasets.Value("string"),
        "landmarks": datasets.List(datasets.List(datasets.Value("float32"))),
        "box": datasets.List(datasets.Value("float32")),
        "template": datasets.Value("int64"),
        "media": datasets.Value("int64"),
    }
    features = datasets.Features({"image": datasets.Image(), **{name: kinds[name] for name in columns}})
    image = table["image"].cast(datasets.Image().pa_type)
    arrays = [pa.array(values, features.arrow_schema.field(name).type) for name, values in columns.items()]
    table = pa.Table.from_arrays([image, *arrays], schema=features.arrow_schema)
    return datasets.Dataset(InMemoryTable(table), info=datasets.DatasetInfo(features=features))


def crop_to_box(image: Any, box: Sequence[float]) -> Image.Image:
    """
    The part of a picture in which a face lies, for a detector that is to find that face and no other.

    Args:
        image: As [`~diffiqa_hf.image_processing_face.load_image`] takes it.
        box: x, y, width, height of the face in pixels of the upright picture. The part is larger by `BOX_MARGIN` of
            the width to the left and right, and of the height above and below, as far as the picture goes.

    Raises:
        FaceImageError: The image can't be read, or the box lies outside of it.
    """
    from ...image_processing_face import FaceImageError, load_image

    picture = load_image(image)
    x, y, width, height = box
    left, top = max(0, round(x - BOX_MARGIN * width)), max(0, round(y - BOX_MARGIN * height))
    right = min(picture.width, round(x + (1 + BOX_MARGIN) * width))
    bottom = min(picture.height, round(y + (1 + BOX_MARGIN) * height))
    if not (left < right and top < bottom):
        place = ", ".join(f"{value:g}" for value in box)
        raise FaceImageError(f"the box {place} lies outside of the picture of {picture.width}x{picture.height} pixels")
    return picture.crop((left, top, right, bottom))


def first_is_crop(images: datasets.Dataset) -> bool:
    """Whether the first image has the size of aligned crops, 112x112; false for one that can't be read."""
    import datasets
    from PIL import Image

    row = images.select([0]).cast_column("image", datasets.Image(decode=False))[0]["image"]
    try:
        with Image.open(row["path"] if row["bytes"] is None else io.BytesIO(row["bytes"])) as picture:
            return picture.size == CROP_SIZE
    except (OSError, ValueError, Image.DecompressionBombError):  # reported when it is embedded
        return False


__all__ = [
    "FileTree",
    "crop_to_box",
    "dataset_of_files",
    "dataset_of_images",
    "dataset_of_table",
    "decode_lines",
    "first_is_crop",
]
