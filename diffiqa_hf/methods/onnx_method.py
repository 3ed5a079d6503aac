# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The methods whose one network ONNX Runtime runs. Imported without torch."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..calibration import find_calibration
from ..default_weights import FR_MODEL, QUALITY_MODEL
from ..fingerprints import config_digest, file_digest
from ..images.extraction import FaceExtractor
from ..inference.onnx_session import OnnxError, OnnxNetwork, has_onnx_runtime
from ..quality_record import FaceQualityRecord
from ..scoring.onnx_forms import find_form, make_form, model_digest, source_digest
from ..scoring.threads import cores, in_order
from .cards import CARDS, MethodCard, get_card
from .method import Batch, FaceQualityMethod


if TYPE_CHECKING:
    import torch
    from torch import nn

    from .network_method import NetworkMethod

ENGINES = ("auto", "torch", "onnx")
# Of these the faces are made at the network's own size, not at 112x112.
_AT_ITS_SIZE = ("lightqnet", "pcnet", "faceqnet", "clib-fiqa")
# Bytes of a network's file, from which on a single face is worth all processors.
LARGE_NETWORK = 2**24
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxMethod(FaceQualityMethod):
    """
    A method that is one forward pass of one network, in ONNX Runtime. The scores are those of torch to 1e-5 (of the
    largest score where that is above 1). What it has not, such as [`model`] and gradients, it gets from torch when it
    is asked for; moved to where ONNX Runtime does not run (`.to("cuda")`), it goes on in torch.

    Args:
        card ([`MethodCard`]): Of the method.
        network ([`~diffiqa_hf.inference.onnx_session.OnnxNetwork`]): Its network.
        image_processor (*optional*): Makes canonical faces from images.
        in_torch (*optional*): Loads the same method with torch.
    """

    cpu_batch_size = 16

    def __init__(
        self,
        card: MethodCard,
        network: OnnxNetwork,
        image_processor: FaceExtractor | None = None,
        in_torch: "Callable[[], NetworkMethod] | None" = None,
    ):
        if image_processor is None:
            image_processor = FaceExtractor(network.face_size if card.name in _AT_ITS_SIZE else (112, 112))
        super().__init__(card, image_processor)
        self.onnx = network
        self._load_in_torch = in_torch
        self._in_torch: NetworkMethod | None = None
        self._moved = False
        self._folding: bool | None = None
        self._digest = network.metadata.get("weights") or file_digest(network.path)

    @property
    def engine(self) -> str:
        """`"onnx"`; `"torch"` once it has been moved there."""
        return "torch" if self._moved else "onnx"

    @property
    def known_fingerprint(self) -> str | None:
        """The fingerprint of the method, where it can be told without torch."""
        usual = self.image_processor.to_dict() == FaceExtractor(self.onnx.face_size).to_dict()
        if self._load_in_torch is None:
            return self._digest + ("" if usual else f"-{config_digest(self.image_processor.to_dict())}")
        return self.onnx.metadata.get("fingerprint") if usual and not self._moved else None

    def to_torch(self) -> "NetworkMethod":
        """
        The same method in torch.

        Raises:
            ValueError: There is none: its weights are an ONNX file.
        """
        if self._in_torch is None:
            if self._load_in_torch is None:
                raise ValueError(f"{self.onnx.path} is an ONNX file, and torch can't run it")
            method = self._load_in_torch()
            method.image_processor = self.image_processor
            self._in_torch = method
        return self._in_torch

    @property
    def model(self) -> "nn.Module":
        """The network in torch."""
        return self.to_torch().model

    @property
    def network(self) -> "nn.Module":
        """The network in torch, in evaluation mode."""
        return self.to_torch().network

    @property
    def device(self) -> "torch.device":
        """Where it computes."""
        import torch

        if self._moved:
            return self.to_torch().device
        return torch.device(next(name for name, provider in _PROVIDERS.items() if provider == self.onnx.provider))

    def embed(self, faces: "torch.Tensor") -> "torch.Tensor":
        """As in torch."""
        return self.to_torch().embed(faces)

    def raw_scores(self, faces: "torch.Tensor", seed: int) -> "tuple[torch.Tensor, dict[str, torch.Tensor]]":
        """As in torch: tensors in, tensors out."""
        import torch

        raw, terms = self._compute(faces.float().cpu().numpy(), seed)
        return torch.from_numpy(raw), {name: torch.from_numpy(values) for name, values in terms.items()}

    def to(self, device: Any = None, dtype: "torch.dtype | None" = None) -> "OnnxMethod":
        """Moves it. Where ONNX Runtime does not run, torch takes over."""
        here = device is None or str(device) == "cpu" or (not self._moved and str(device) == str(self.device))
        if self._moved or not here or str(dtype or "torch.float32") != "torch.float32":
            if not self._moved and self._folding is not None:
                self.to_torch().enable_folding(self._folding and str(device or "cpu") == "cpu")
            self.to_torch().to(device, dtype)
            self._moved = True
        return self

    def enable_folding(self, winograd: bool = False) -> None:
        # The form is folded already; torch's network is when it takes over.
        self._folding = winograd
        if self._moved:
            self.to_torch().enable_folding(winograd)

    def term_names(self) -> tuple[str, ...]:
        if self._moved:
            return self.to_torch().term_names()
        faces = np.zeros((1, 3, *self.onnx.face_size), np.float32)
        return (*(("raw",) if self.card.lower_is_better else ()), *self._compute(faces, 0, threads=1)[1])

    def calibration_settings(self) -> dict[str, Any]:
        if self._moved:
            return self.to_torch().calibration_settings()
        # By the network, not by what it was called: a CR-FIQA has the same scores as a DifFIQA(R) of its weights.
        name = card_of(self.onnx).name if "model" in self.onnx.metadata and self.card.networks else self.card.name
        return {"method": name, "weights": self._weight_digests()}

    def _weight_digests(self) -> dict[str, str | None]:
        return {"model": self._digest}

    def _batch_size(self) -> int:
        return self.to_torch()._batch_size() if self._moved else self.cpu_batch_size

    def _compute(self, faces: np.ndarray, seed: int, threads: int | None = None):
        if self._moved:
            return self.to_torch()._compute(faces, seed)
        outputs = self.onnx.run(faces, threads or cores())
        scores = outputs["scores" if "scores" in outputs else self.onnx.outputs[0]].reshape(len(faces), -1)
        if scores.shape[1] != 1:
            raise OnnxError(f"{self.onnx.path} gives {scores.shape[1]} numbers for a face, not one score")
        scores = scores[:, 0]
        if self.card.name == "pfe":
            return -scores, {}
        if self.card.name == "faceqnet":
            return scores.clip(0, 1), {"unclipped": scores}
        names = json.loads(self.onnx.metadata.get("terms", "{}"))
        return scores, {name: outputs[output] for name, output in names.items()}

    def _score_batches(
        self, batches: Iterable[Batch], seed: int, total: int | None
    ) -> Iterator[list[FaceQualityRecord]]:
        if self._moved or total is None or (total == 1 and os.path.getsize(self.onnx.path) > LARGE_NETWORK):
            return super()._score_batches(batches, seed, total)
        # Each thread has a batch of its own: that is faster than all of them at one.
        threads = cores()
        return in_order(lambda batch: self._score_batch(batch, seed, 1), batches, threads, lambda: threads + 1)

    def _score_batch(self, batch: Batch, seed: int, threads: int | None = None) -> list[FaceQualityRecord]:
        return self._record(batch, lambda faces: self._compute(faces, seed, threads))


def card_of(network: OnnxNetwork) -> MethodCard:
    """The card of the first method that a network is one of, by what its file says."""
    name, head = network.metadata.get("model"), _head(network)
    for card in CARDS:
        if card.one_pass and name in card.networks and card.head in (None, head):
            return card
    raise ValueError(f"{network.path}: no method has a {name or 'network without a name'} as its network")


def load_unnamed(source: str, engine: str, device: Any, in_torch: "Callable[[], NetworkMethod]") -> OnnxMethod | None:
    """
    As [`load`], of a quality model whose method only its file says: with the image processor and the calibration of
    its folder, and for an ONNX file that does not say what it is, DifFIQA(R)'s card, whose input is the usual one.
    """
    if engine == "auto" and (not has_onnx_runtime() or str(device) != "cpu"):
        return None
    network, path = _find(source, None, False, _PROVIDERS.get(str(device).partition(":")[0], _PROVIDERS["cpu"]))
    if engine == "onnx" and network is None:
        network = _make(path, None, False, _PROVIDERS["cpu"], in_torch)
    if network is None or (engine == "torch" and path != network.path):
        return None
    card = card_of(network) if "model" in network.metadata else get_card("diffiqa-r")
    processor = None
    if os.path.exists(os.path.join(path, "preprocessor_config.json")):
        processor = FaceExtractor.from_folder(path)
    method = OnnxMethod(card, network, processor, None if path == network.path else in_torch)
    if os.path.isdir(path):
        method.calibration = find_calibration(path)
    return method


def load(
    card: MethodCard,
    given: dict[str, Any],
    image_processor: FaceExtractor | None,
    engine: str,
    device: Any,
    dtype: Any,
    in_torch: "Callable[[], NetworkMethod]",
    make: bool = False,
) -> OnnxMethod | None:
    """
    The method in ONNX Runtime; `None` where torch is to run it.

    Args:
        card: Of the method.
        given: `weights` or `fr_model`, as [`load_method`] has them.
        image_processor: As there.
        engine: One of `ENGINES`, as there.
        device, dtype: As there.
        in_torch: Loads the method in torch.
        make: Whether, with `"auto"`, an ONNX form is made where there is none yet.

    Raises:
        ValueError, ImportError, OSError: With `"onnx"`, or of an ONNX file: it can't be.
    """
    source = next(iter(given.values()), "default")
    is_file = isinstance(source, (str, os.PathLike)) and os.fspath(source).lower().endswith(".onnx")
    if engine == "torch" and not is_file:
        return None
    reason = _why_not(card, source, engine, device, dtype, is_file)
    if reason is not None:
        if engine == "onnx" or is_file:
            raise ValueError(reason)
        return None
    if not has_onnx_runtime():
        if engine == "auto" and not is_file:
            return None
        raise ImportError(
            f"{'an ONNX file' if is_file else 'engine onnx'} needs ONNX Runtime: pip install onnxruntime"
        )
    provider = _PROVIDERS[str(device or "cpu").partition(":")[0]]
    norms = not card.networks
    network, path = _find(source, card.dialect, norms, provider)
    if network is None and (engine == "onnx" or make):
        network = _make(path, card.dialect, norms, provider, in_torch)
    if network is None:
        return None
    _check(card, network, norms)
    method = OnnxMethod(card, network, image_processor, None if is_file else in_torch)
    if not isinstance(source, str | os.PathLike) or is_file:
        return method
    if not (norms and "weights" not in given) and not os.path.isfile(source):
        method.calibration = find_calibration(path)
    return method


def _why_not(card: MethodCard, source: Any, engine: str, device: Any, dtype: Any, is_file: bool) -> str | None:
    if not card.one_pass:
        return f"{card.name} is more than one forward pass of a network: torch runs it, not ONNX Runtime"
    if is_file and engine == "torch":
        return f"{os.fspath(source)} is an ONNX file, and torch can't run it"
    if str(dtype or "torch.float32") != "torch.float32":
        return f"ONNX Runtime computes in float32, not in {dtype}"
    kind = str(device or "cpu").partition(":")[0]
    if kind != "cpu":
        if engine == "auto" and not is_file:
            return f"on {kind} torch runs it"
        if kind not in _PROVIDERS or not _has_provider(_PROVIDERS[kind]):
            return f"this ONNX Runtime does not run on {kind}"
    if not isinstance(source, (str, os.PathLike)) and engine != "onnx":
        return "torch has the network already"
    return None


def _has_provider(provider: str) -> bool:
    if not has_onnx_runtime():
        return False
    import onnxruntime

    return provider in onnxruntime.get_available_providers()


def _find(source: Any, dialect: str | None, norms: bool, provider: str) -> tuple[OnnxNetwork | None, Any]:
    """The network, and the folder or file that the source stands for."""
    if not isinstance(source, (str, os.PathLike)):
        return None, source
    path: str | os.PathLike | None = source
    if source == "default":
        path = FR_MODEL if norms else QUALITY_MODEL
    elif source == "dlib" and norms:
        path = _dlib_folder()
    elif not os.path.exists(source):
        path = _hub_folder(source)
    if path is None:
        return None, source
    return find_form(path, dialect, norms, provider), path


def _dlib_folder() -> Path | None:
    """Of the network of dlib's package; `None` where torch's loader is to say what is wrong with it."""
    from ..conversion.installed import dlib_model_folder

    try:
        return dlib_model_folder()
    except (OSError, ValueError):
        return None


def _hub_folder(repo: str | os.PathLike) -> str | None:
    """Where the files of a repository lie on this machine; `None` for what loads it in torch to say what is wrong."""
    from huggingface_hub import hf_hub_download

    try:
        config = hf_hub_download(os.fspath(repo), "config.json")
        hf_hub_download(os.fspath(repo), "model.safetensors")
    except Exception:  # no such repository, no connection, no such file: whatever it is, torch's loader names it
        return None
    return os.path.dirname(config)


def _make(
    path: Any, dialect: str | None, norms: bool, provider: str, in_torch: "Callable[[], NetworkMethod]"
) -> OnnxNetwork:
    model = in_torch().model
    digest = source_digest(path, dialect, norms) if isinstance(path, (str, os.PathLike)) else None
    digest = digest or model_digest(model, norms)
    return OnnxNetwork(make_form(model, digest, norms), provider)


def _check(card: MethodCard, network: OnnxNetwork, norms: bool) -> None:
    """Whether a network is one of the method, as far as its file says."""
    what = network.metadata.get("model")
    if what is None or norms:
        return
    if what not in card.networks:
        raise ValueError(f"{card.name} is a {' or '.join(card.networks)}, this is a {what}")
    if card.head is not None and (head := _head(network)) != card.head:
        raise ValueError(f"{card.name} has a quality head of kind {card.head}, this one is {head}")


def _head(network: OnnxNetwork) -> str:
    return "linear" if network.config.get("quality_hidden_size") is None else "mlp"


__all__ = ["ENGINES", "OnnxMethod", "card_of", "load"]
