# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The images of a benchmark as files, a few at a time, and what the cache knows them by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..benchmarks import crop_to_box
from .config import ConfigError


if TYPE_CHECKING:
    import datasets


class StudyImages:
    """The images of a benchmark as files, a few at a time, and the hash of their content."""

    def __init__(self, rows: datasets.Dataset):
        import datasets

        self.rows = rows.cast_column("image", datasets.Image(decode=False))
        self.has_landmarks = "landmarks" in rows.column_names
        self.has_boxes = "box" in rows.column_names
        self._digest: str | None = None
        self._keys: list[bytes] = []

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Sequence[int]) -> tuple[Sequence[Any], list | None]:
        columns = self.rows[list(indices)]
        images = _Crops(columns["image"], columns["box"], columns["file"]) if self.has_boxes else columns["image"]
        return images, columns["landmarks"] if self.has_landmarks else None

    def digest(self, bar: Callable[..., Any]) -> str:
        """16 hexadecimal digits of the files, landmarks and boxes, wherever they lie and whatever they are called."""
        if self._digest is None:
            digest = hashlib.sha256()
            with bar(total=len(self), desc="hashing images", unit="image") as progress:
                for start in range(0, len(self), 256):
                    stop = min(start + 256, len(self))
                    columns = self.rows[start:stop]
                    for at, image in enumerate(columns["image"]):
                        content = image["bytes"]
                        if content is None:
                            path = Path(image["path"])
                            # One that is missing is reported when it is embedded.
                            content = path.read_bytes() if path.is_file() else str(path).encode()
                        parts = [hashlib.sha256(content).digest()]
                        for name in ("landmarks", "box"):
                            if name in columns:
                                parts.append(json.dumps(columns[name][at]).encode())
                        digest.update(b"".join(parts))
                        self._keys.append(hashlib.sha256(b"".join(parts)).digest()[:16])
                    progress.update(stop - start)
            self._digest = digest.hexdigest()[:16]
        return self._digest

    def keys(self, bar: Callable[..., Any]) -> list[bytes]:
        """Of each image, the same in every benchmark that has the same file with the same landmarks and box."""
        self.digest(bar)
        return self._keys


class _Crops(Sequence):
    """Images, of each of which a box is meant; cut out when it is read, so that one whole picture is in memory."""

    def __init__(self, images: list[dict], boxes: list[list[float]], files: list[str]):
        self.images, self.boxes, self.files = images, boxes, files

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        from ...image_processing_face import FaceImageError, load_image

        try:
            picture = load_image(self.images[index])
        except FaceImageError:
            return self.images[index]  # whoever reads it meets the same error, and has a record to put it in
        try:
            return crop_to_box(picture, self.boxes[index])
        except FaceImageError as error:
            raise ConfigError(f"{self.files[index]}: {error}") from error


__all__ = ["StudyImages"]
