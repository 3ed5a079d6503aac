# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""A network in an ONNX file, run by ONNX Runtime. Imported without torch."""

import importlib.util
import json
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..file_utils import file_fault, printable


# The files of a DifFIQA pipeline's networks, by the components that they are, and the second input of the UNet's.
PIPELINE_FORMS = {"unet": "unet.onnx", "fr_model": "fr_model.onnx"}
TIMESTEP = "timestep"


class OnnxError(OSError, ValueError):
    """An ONNX file can't be used as it is asked for. The message is one line that names it and the reason."""

    def __init__(self, message: str):
        super().__init__(printable(message))


def has_onnx_runtime() -> bool:
    """Whether ONNX Runtime is installed; it is not imported for that."""
    return importlib.util.find_spec("onnxruntime") is not None


class OnnxNetwork:
    """
    A network from canonical faces to numbers. It may be called from several threads at a time.

    Args:
        path (`str` or `os.PathLike`): An ONNX file whose first input is float32 of shape (batch, 3, height, width).
            What [`export_onnx`] writes, or a published quality network; a batch that is fixed will do.
        provider (`str`, *optional*, defaults to `"CPUExecutionProvider"`): Of ONNX Runtime.
        further (*optional*): The names of the inputs behind that one, which have the same batch; none.

    Raises:
        OnnxError: The file is none, or its input or outputs are others.
        ImportError: ONNX Runtime is missing.
    """

    def __init__(self, path: str | os.PathLike, provider: str = "CPUExecutionProvider", further: Sequence[str] = ()):
        if not has_onnx_runtime():
            raise ImportError("engine 'onnx' needs ONNX Runtime: pip install onnxruntime")
        self.path, self.provider = os.fspath(path), provider
        self._sessions: dict[int, Any] = {}
        self._lock = threading.Lock()
        session = self._session(1)
        inputs, outputs = session.get_inputs(), session.get_outputs()
        shape: Sequence[int | str | None] = inputs[0].shape if inputs else ()
        others = [entry.name for entry in inputs[1:]]
        if others != [*further] or len(shape) != 4 or shape[1] != 3 or inputs[0].type != "tensor(float)":
            said = ", ".join(f"{entry.name} {entry.shape} {entry.type}" for entry in inputs) or "none"
            needed = " and ".join(["one input of float32 faces (batch, 3, height, width)", *further])
            raise OnnxError(f"{path}: {needed} is needed, it has {said}")
        self._input = inputs[0].name
        self._batch = shape[0] if isinstance(shape[0], int) else None
        if further and self._batch is not None:
            raise OnnxError(f"{path}: its batch is to be of any size, it is {self._batch}")
        # Height and width of the faces, in pixels.
        height, width = (side if isinstance(side, int) else 112 for side in shape[2:])
        self.face_size = (height, width)
        self.outputs = tuple(entry.name for entry in outputs)
        self.metadata: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)

    @property
    def config(self) -> dict[str, Any]:
        """What the file says of the configuration of the model that it was made from."""
        return json.loads(self.metadata.get("config", "{}"))

    def run(self, faces: np.ndarray, threads: int = 1, **further: np.ndarray) -> dict[str, np.ndarray]:
        """
        Args:
            faces: (B, 3, H, W) float32; the middle of larger ones is taken, as the models do.
            threads: That this call may use.
            further: The other inputs, (B, ...) each.

        Returns:
            By the name of the output, each (B, ...).
        """
        faces = self._middle(faces)
        session = self._session(threads)
        if self._batch is None:
            return dict(zip(self.outputs, session.run(None, {self._input: faces, **further}), strict=True))
        parts = []
        for start in range(0, len(faces), self._batch):
            part = faces[start : start + self._batch]
            missing = self._batch - len(part)
            full = part if not missing else np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)])
            parts.append([values[: len(part)] for values in session.run(None, {self._input: full})])
        return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(self.outputs)}

    def _middle(self, faces: np.ndarray) -> np.ndarray:
        (height, width), (full_height, full_width) = self.face_size, faces.shape[2:]
        if full_height < height or full_width < width:
            raise ValueError(f"this model takes faces of at least {height}x{width}, got {full_height}x{full_width}")
        top, left = (full_height - height) // 2, (full_width - width) // 2
        return np.ascontiguousarray(faces[:, :, top : top + height, left : left + width], np.float32)

    def _session(self, threads: int) -> Any:
        with self._lock:
            if threads not in self._sessions:
                self._sessions[threads] = self._open(threads)
            return self._sessions[threads]

    def _open(self, threads: int) -> Any:
        import onnxruntime

        if (reason := file_fault(self.path)) is not None:
            raise OnnxError(f"{self.path}: {reason}")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # A thread that waits for work would keep a processor from those that read.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return onnxruntime.InferenceSession(self.path, options, providers=[self.provider])
        except Exception as error:  # ONNX Runtime has an exception for each kind of fault
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise OnnxError(f"{self.path} is no network that ONNX Runtime can read: {line}") from error


__all__ = ["PIPELINE_FORMS", "TIMESTEP", "OnnxError", "OnnxNetwork", "has_onnx_runtime"]
