# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The manifest of a folder that several processes write at the same time: what its files depend on, begun once."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..file_utils import name_file


def begin_manifest(path: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """
    Writes the manifest of a folder, unless there is one.

    Args:
        path: Of `manifest.json`, in a folder that is there.
        manifest: JSON, with `settings`, what the files in the folder depend on.

    Returns:
        The one that is there now.

    Raises:
        ValueError: It was begun with other settings.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        temporary.write_text(json.dumps(manifest, indent=2) + "\n")
        name_file(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    found = json.loads(path.read_text())
    there, ours = found["settings"], json.loads(json.dumps(manifest["settings"]))
    other = [f"{k}: {there.get(k)} there, {ours.get(k)} now" for k in ours | there if there.get(k) != ours.get(k)]
    if other:
        raise ValueError(f"{path.parent} was made with other settings ({'; '.join(other)})")
    return found


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Of settings that are JSON, in 16 digits."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


__all__ = ["begin_manifest", "settings_digest"]
