# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""DifFIQA with its two networks in ONNX Runtime. Imported without torch."""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..calibration import find_calibration
from ..default_weights import PIPELINE
from ..face_check import FaceCheck
from ..fingerprints import fingerprint
from ..images.extraction import FaceExtractor
from ..inference.onnx_session import OnnxNetwork, has_onnx_runtime
from ..inference.torch_noise import TorchNoise
from ..quality_record import TERMS, FaceQualityRecord, used_terms
from ..scoring.diffiqa_call import (
    check_terms,
    check_times,
    get_preset,
    noise_seeds,
    resolve_times,
    scored_with,
    take_terms,
    times_back,
)
from ..scoring.image_stream import as_iterable, check_call, with_percentiles
from ..scoring.onnx_forms import make_pipeline_form, pipeline_digests, pipeline_form
from ..scoring.threads import cores, in_order
from .cards import MethodCard, get_card
from .method import Batch, FaceQualityMethod


if TYPE_CHECKING:
    import torch

    from .diffiqa import DifFIQAMethod

ROWS = 8  # noisy copies that go through the UNet at a time: more are no faster on a CPU
_EPSILON = 1e-8  # the least length of an embedding, as in torch's cosine_similarity


@dataclass(frozen=True)
class _Call:
    num_timesteps: int
    num_inference_steps: int | None
    num_repeats: int
    seed: int
    terms: set[str]
    rows: int  # that go through a network at a time


class OnnxDifFIQA(FaceQualityMethod):
    """
    A [`DifFIQAPipeline`] whose UNet and FR model ONNX Runtime runs on a CPU; the process between them is NumPy's. The
    scores are those of torch to 1e-4, with the same noise. It is called as the pipeline is, without `output_images`,
    and has no pipeline: what that can besides, such as moving to a GPU, `engine="torch"` gives.

    Args:
        card ([`MethodCard`]): Of the method.
        networks: `unet` and `fr_model`, [`~diffiqa_hf.inference.onnx_session.OnnxNetwork`], as
            [`~diffiqa_hf.inference.onnx_pipeline.export_pipeline`] writes them.
        config: The settings of the pipeline, as in its `model_index.json`.
        image_processor: Makes canonical faces from images, of the size that the networks take.
        usual: What the pipeline's own image processor is set to.
        weights: Digests of the weights by the names of the networks.
        in_torch: Loads the same method with torch.
        preset, **options: As [`~diffiqa_hf.methods.diffiqa.DifFIQAMethod`] has them.

    Raises:
        ValueError: The image processor makes faces of another size; there is no such preset.
    """

    engine = "onnx"

    def __init__(
        self,
        card: MethodCard,
        networks: dict[str, OnnxNetwork],
        config: dict[str, Any],
        image_processor: FaceExtractor,
        usual: dict[str, Any],
        weights: dict[str, str],
        in_torch: "Callable[[], DifFIQAMethod]",
        preset: str | None = None,
        **options: Any,
    ):
        super().__init__(card, image_processor)
        self.networks = networks
        self.config = {name: value for name, value in config.items() if not name.startswith("_")}
        metadata = networks["unet"].metadata
        self._known_fingerprint = metadata["fingerprint"]
        self._scheduler = json.loads(metadata["scheduler"])
        self._alphas = np.array(json.loads(metadata["alphas_cumprod"]))
        self._usual = usual
        self._weights = weights
        self._load_in_torch = in_torch
        self._check_size(image_processor)
        if preset is not None:
            self.set_preset(preset)
        self.options = options

    @property
    def known_fingerprint(self) -> str:
        """The fingerprint of the pipeline; it is loaded with torch where its image processor is not as it was."""
        if self.image_processor.to_dict() == self._usual:
            return self._known_fingerprint
        return fingerprint(self.to_torch())

    def to_torch(self) -> "DifFIQAMethod":
        """The same method in torch, another one each time."""
        method = self._load_in_torch()
        method._set_image_processor(self.image_processor)
        return method

    @property
    def device(self) -> "torch.device":
        """Where it computes."""
        import torch

        return torch.device("cpu")

    def to(self, device: Any = None, dtype: "torch.dtype | None" = None) -> "OnnxDifFIQA":
        """
        Raises:
            ValueError: It is to go anywhere but to the CPU, or to another type than float32.
        """
        if reason := _why_not_there(device, dtype):
            raise ValueError(f"{reason}: engine='torch'")
        return self

    def _check_size(self, processor: FaceExtractor) -> None:
        size, (height, width) = processor.size, self.networks["unet"].face_size
        if (size["height"], size["width"]) != (height, width):
            raise ValueError(
                f"the ONNX form of this pipeline is for faces of {height}x{width}, not {size['height']}x"
                f"{size['width']}: engine='torch'"
            )

    def _set_image_processor(self, processor: FaceExtractor) -> None:
        self._check_size(processor)
        super()._set_image_processor(processor)

    def embed(self, faces: "torch.Tensor") -> "torch.Tensor":
        """Embeddings (B, D) of canonical faces (B, 3, H, W) by the FR model: tensors in, tensors out, no gradient."""
        import torch

        return torch.from_numpy(self._embed(faces.detach().float().cpu().numpy()))

    def set_preset(self, name: str) -> None:
        """As [`~DifFIQAPipeline.set_preset`]."""
        self.config |= get_preset(name)

    def term_names(self) -> tuple[str, ...]:
        used = self._terms(self.options)
        return tuple(term for term in TERMS if term in used)

    def _terms(self, given: dict[str, Any]) -> set[str]:
        return used_terms(**{name: value for name, value in given.items() if name.startswith("use_")})

    def calibration_settings(
        self,
        num_timesteps: int | None = None,
        num_inference_steps: int | None = None,
        num_repeats: int | None = None,
        terms: Iterable[str] | None = None,
    ) -> dict[str, Any]:
        """As [`~DifFIQAPipeline.calibration_settings`], with the options of the method where a call says nothing."""
        names = ("num_timesteps", "num_inference_steps", "num_repeats")
        given = dict(zip(names, (num_timesteps, num_inference_steps, num_repeats), strict=True))
        given = {name: self.options.get(name) if value is None else value for name, value in given.items()}
        used = self._terms(self.options) if terms is None else set(terms)
        times = resolve_times(self.config, **given)
        return scored_with(self.config, times, used, self._scheduler, self._weight_digests())

    def _weight_digests(self) -> dict[str, str | None]:
        return dict(self._weights)

    def stream(
        self,
        images: Any,
        landmarks: Any = None,
        *,
        batch_size: int | None = None,
        seed: int = 0,
        on_error: str = "nan",
        **settings: Any,
    ) -> Iterator[FaceQualityRecord]:
        """
        As [`~DifFIQAPipeline.stream`]; `batch_size` counts the noisy copies that go through the UNet.

        Args:
            settings: `num_timesteps`, `num_inference_steps`, `num_repeats`, `use_flip`, `use_forward`, `use_backward`,
                in place of the options of the method.
        """
        given = {**self.options, **{name: value for name, value in settings.items() if value is not None}}
        for name in given:
            if name not in self.card.options or name == "preset":
                raise TypeError(f"stream() got an unexpected keyword argument {name!r}")
        names = ("num_timesteps", "num_inference_steps", "num_repeats")
        times = resolve_times(self.config, **{name: given.get(name) for name in names})
        check_times(self.config, len(self._alphas), *times)
        check_call(batch_size, seed, on_error)
        call = _Call(*times, seed, self._terms(given), batch_size or ROWS)
        check_terms(call.terms)
        total, threads = as_iterable(images)[1], cores()
        rows = call.num_repeats * (2 if "flipped" in call.terms else 1)
        faces = math.ceil((batch_size or ROWS) / rows)
        if total is not None and batch_size is None:  # each thread has a part of the few that there are
            faces = max(1, min(faces, math.ceil(total / threads)))
        batches = self._read(images, landmarks, faces, on_error)
        calibration = self.usable_calibration(**dict(zip(names, times, strict=True)), terms=call.terms)
        return with_percentiles(self._scored(batches, call, total, threads), calibration)

    def _scored(
        self, batches: Iterable[Batch], call: _Call, total: int | None, threads: int
    ) -> Iterator[list[FaceQualityRecord]]:
        if total is None or total == 1:  # an iterator is not read ahead; of one face each side has a thread
            with ThreadPoolExecutor(2) as pool:
                yield from (self._score(batch, call, pool.map) for batch in batches)
            return
        yield from in_order(lambda batch: self._score(batch, call, map), batches, threads, lambda: threads + 1)

    def _score(self, batch: Batch, call: _Call, each: Callable) -> list[FaceQualityRecord]:
        todo = [(record, face) for record, face in batch if face is not None]
        if todo:
            found = self._similarities(np.stack([face for _, face in todo]), call, each)
            for i, (record, _) in enumerate(todo):
                terms = {name: float(found[name][i]) for name in TERMS if name in found}
                take_terms(record, terms, self.face_check)
        return [record for record, _ in batch]

    # -- the algorithm, as in DifFIQAPipeline -------------------------------------------------------------------------

    def _similarities(self, faces: np.ndarray, call: _Call, each: Callable) -> dict[str, np.ndarray]:
        """Of faces (B, 3, H, W) the terms of a call, (B,) each."""
        sides = [faces, np.ascontiguousarray(faces[..., ::-1])] if "flipped" in call.terms else [faces]
        clean = list(each(self._embed, sides))
        found = {"flipped": _cosines(*clean)} if "flipped" in call.terms else {}
        work = partial(self._perturbed, faces=faces, sides=sides, clean=clean, call=call)
        for terms in each(work, range(len(sides))):
            found |= terms
        return found

    def _perturbed(
        self, side: int, faces: np.ndarray, sides: list[np.ndarray], clean: list[np.ndarray], call: _Call
    ) -> dict[str, np.ndarray]:
        suffix = "_flipped" if side else ""
        wanted = [name + suffix for name in ("noisy", "restored") if name + suffix in call.terms]
        if not wanted:
            return {}
        # The noise comes from the pixels of the face as it was given, for its mirror image too.
        seeds = [s for face in faces for s in noise_seeds(face, call.seed, call.num_repeats, bool(side))]
        found: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
        for start in range(0, len(seeds), call.rows):
            noise = [TorchNoise(seed) for seed in seeds[start : start + call.rows]]
            of_face = np.arange(start, start + len(noise)) // call.num_repeats
            images = {"noisy": self._forward(sides[side][of_face], call.num_timesteps, noise)}
            if "restored" + suffix in wanted:
                images["restored"] = self._backward(images["noisy"], call, noise)
            for name, values in found.items():
                # What all are compared with is the face itself, not its mirror image.
                values.append(_cosines(clean[0][of_face], self._embed(images[name.removesuffix("_flipped")])))
        return {
            name: np.concatenate(values).reshape(len(faces), call.num_repeats).mean(1)
            for name, values in found.items()
        }

    def _embed(self, faces: np.ndarray) -> np.ndarray:
        return self.networks["fr_model"].run(faces)["embeddings"]

    def _forward(self, faces: np.ndarray, num_timesteps: int, noise: list[TorchNoise]) -> np.ndarray:
        """Eq. 2."""
        kept = self._alphas[num_timesteps if self.config["off_by_one"] else num_timesteps - 1]
        return np.float32(math.sqrt(kept)) * faces + np.float32(math.sqrt(1 - kept)) * _drawn(noise, faces)

    def _backward(self, noisy: np.ndarray, call: _Call, noise: list[TorchNoise]) -> np.ndarray:
        """Eq. 3 and 4, as diffusers' DDPMScheduler has them for a UNet that predicts the clean face."""
        sample, unet = noisy, self.networks["unet"]
        for time, next_time in pairwise(times_back(call.num_timesteps, call.num_inference_steps)):
            times = np.full(len(sample), time, np.int64)
            clean = unet.run(sample, timestep=times)["restored"].clip(-1, 1)
            if next_time < 0:  # there the variance is 0
                return clean
            now, after = self._alphas[time], self._alphas[next_time]
            step = now / after
            sample = (
                np.float32(math.sqrt(after) * (1 - step) / (1 - now)) * clean
                + np.float32(math.sqrt(step) * (1 - after) / (1 - now)) * sample
                + np.float32(math.sqrt(max((1 - after) / (1 - now) * (1 - step), 1e-20))) * _drawn(noise, sample)
            )
        return sample


def _drawn(noise: list[TorchNoise], images: np.ndarray) -> np.ndarray:
    """The next numbers of each source, in the shape of the images (B, 3, H, W)."""
    return np.stack([source.normal(images.shape[1:]) for source in noise])


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    lengths = [np.maximum(np.linalg.norm(rows, axis=1), _EPSILON) for rows in (first, second)]
    return (first / lengths[0][:, None] * (second / lengths[1][:, None])).sum(1)


def load(
    source: Any,
    engine: str,
    device: Any,
    dtype: Any,
    in_torch: "Callable[[], DifFIQAMethod]",
    fr_model: Any = None,
    image_processor: FaceExtractor | None = None,
    **options: Any,
) -> OnnxDifFIQA | None:
    """
    DifFIQA in ONNX Runtime; `None` where torch is to run it.

    Args:
        source: `"default"`, a folder, or what else [`DifFIQAPipeline.from_pretrained`] takes.
        engine: `"torch"`, `"auto"`, which takes a form that is there, or `"onnx"`, which makes one if there is none.
        device, dtype: Where and how it is to run; `None` is the CPU and float32.
        in_torch: Loads the method in torch.
        fr_model: One in place of the pipeline's, if there is to be one.
        image_processor: In place of the pipeline's.
        **options: Of the method.

    Raises:
        ValueError, ImportError, OSError: With `"onnx"`: it can't be.
    """
    if engine == "torch" or (engine == "auto" and not has_onnx_runtime()):
        return None
    reason = _why_not(source, device, dtype, fr_model)
    folder = PIPELINE if source == "default" else source
    digests = None if reason else pipeline_digests(folder)
    if digests is None:
        if engine == "onnx":
            raise ValueError(reason or f"{folder} is no pipeline whose networks and scheduler ONNX Runtime can run")
        return None
    if not has_onnx_runtime():
        raise ImportError("engine onnx needs ONNX Runtime: pip install onnxruntime")
    digest, weights = digests
    networks = pipeline_form(folder, digest)
    if networks is None and engine == "onnx":
        from ..pipeline_diffiqa import DifFIQAPipeline

        # As it is in the folder, whatever the method is to have in its place.
        make_pipeline_form(DifFIQAPipeline.from_pretrained(folder), digest)
        networks = pipeline_form(folder, digest)
    if networks is None:
        return None
    # What a pipeline does not say is as in the paper.
    config = get_preset("paper") | json.loads((Path(folder) / "model_index.json").read_text(encoding="utf-8"))
    usual = FaceExtractor.from_folder(Path(folder) / "image_processor")
    given = (image_processor or usual, usual.to_dict(), weights, in_torch)
    method = OnnxDifFIQA(get_card("diffiqa"), networks, config, *given, **options)
    method.calibration = find_calibration(folder)
    if folder == PIPELINE:  # as the pipeline has it
        method.face_check = FaceCheck.load(action="lower")
    return method


def _why_not(source: Any, device: Any, dtype: Any, fr_model: Any) -> str | None:
    if fr_model is not None:
        return "ONNX Runtime runs a pipeline as it is saved: save it with this FR model"
    if not isinstance(source, (str, os.PathLike)) or (source != "default" and not os.path.isdir(source)):
        return "ONNX Runtime runs the pipeline of a folder"
    return _why_not_there(device, dtype)


def _why_not_there(device: Any, dtype: Any) -> str | None:
    if str(device or "cpu") != "cpu":
        return f"on {device} torch runs DifFIQA"
    if str(dtype or "float32") not in ("float32", "torch.float32"):
        return f"ONNX Runtime computes in float32, not in {dtype}"
    return None


__all__ = ["OnnxDifFIQA", "load"]
