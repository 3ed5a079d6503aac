# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
DifFIQA: Babnik, Peer and Štruc, "DifFIQA: Face Image Quality Assessment Using Denoising Diffusion Probabilistic
Models", IJCB 2023.

Longer than other files: a pipeline is read in one file, as those of diffusers are.
"""

import copy
import itertools
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DiffusionPipeline, UNet2DModel
from diffusers.utils import logging
from diffusers.utils.torch_utils import randn_tensor
from torch.nn.functional import cosine_similarity
from transformers import PreTrainedModel

from .face_check import FaceCheck
from .image_processing_face import FaceImageProcessor
from .inference.folding import fold
from .inference.network_views import for_inference, one_at_a_time, output_of
from .models import DifFIQADiTModel, DifFIQAUNetModel
from .pipeline_loading import DifFIQALoaderMixin
from .pipeline_output import TERMS, FaceQualityOutput, FaceQualityRecord
from .quality_record import used_terms
from .schedulers import check_scheduler, scheduler_settings
from .scoring.diffiqa_call import (
    check_terms,
    check_times,
    get_preset,
    noise_seeds,
    resolve_times,
    scored_with,
    take_terms,
    times_back,
)
from .scoring.image_stream import check_call, collect, stream_faces, with_percentiles


logger = logging.get_logger(__name__)


class DifFIQAPipeline(DifFIQALoaderMixin, DiffusionPipeline):
    r"""
    Quality of face images from the stability of their embedding under a little diffusion and restoration.

    Each face and its mirror image are made noisy (forward process), restored by the UNet (backward process) and
    embedded; the score is the mean cosine similarity to the embedding of the face itself (Eq. 7 of the paper).

    A pipeline may be called from several threads at a time. The networks compute in evaluation mode, whatever mode
    they are in, and are left as they were.

    Args:
        unet ([`UNet2DModel`], [`DifFIQAUNetModel`] or [`DifFIQADiTModel`]):
            Predicts the clean face from a noisy one (`prediction_type="sample"`).
        scheduler ([`DDPMScheduler`] or [`DDIMScheduler`]):
            A DDIM scheduler runs with eta = 1 and the clipped output, which is the same process. Any other is
            refused, and so are settings that make another process of it: it has `prediction_type="sample"`,
            `clip_sample=True` and, DDPM, `variance_type="fixed_small"`.
        fr_model ([`~transformers.PreTrainedModel`]):
            Face recognition model: canonical faces to an output with `embeddings`.
        image_processor ([`FaceImageProcessor`]):
            Makes canonical faces from what the caller has.
        num_timesteps (`int`, *optional*, defaults to 5), num_inference_steps (`int`, *optional*),
        num_repeats (`int`, *optional*, defaults to 10):
            What a call uses when it does not say; see [`~DifFIQAPipeline.__call__`].
        off_by_one (`bool`, *optional*, defaults to `False`):
            As the authors' code: noise of index t (counted from 0), restored as if it were t - 1.
        duplicate_last_step (`bool`, *optional*, defaults to `False`):
            As the authors' code: the UNet runs at time 0 twice. Changes nothing but the cost.
    """

    model_cpu_offload_seq = "unet->fr_model"
    # What says whether a picture is one of a face; no component, it is neither saved nor moved.
    face_check: FaceCheck | None = None
    engine = "torch"
    # Threads that read images; as many as there are processors where `None`.
    reading_threads: int | None = None

    def __init__(
        self,
        unet: UNet2DModel | DifFIQAUNetModel | DifFIQADiTModel,
        scheduler: DDPMScheduler | DDIMScheduler,
        fr_model: PreTrainedModel,
        image_processor: FaceImageProcessor,
        num_timesteps: int = 5,
        num_inference_steps: int | None = None,
        num_repeats: int = 10,
        off_by_one: bool = False,
        duplicate_last_step: bool = False,
    ):
        super().__init__()
        if scheduler is not None:  # diffusers lets components be left out, to be given later
            check_scheduler(scheduler)
        self.register_modules(unet=unet, scheduler=scheduler, fr_model=fr_model, image_processor=image_processor)
        self.register_to_config(
            num_timesteps=num_timesteps,
            num_inference_steps=num_inference_steps,
            num_repeats=num_repeats,
            off_by_one=off_by_one,
            duplicate_last_step=duplicate_last_step,
        )
        self._follow()

    def calibration_settings(
        self,
        num_timesteps: int | None = None,
        num_inference_steps: int | None = None,
        num_repeats: int | None = None,
        terms: Iterable[str] = TERMS,
    ) -> dict[str, Any]:
        """What the scores of a call depend on besides the faces and the seed, for [`fit_calibration`]; JSON."""
        times = resolve_times(self.config, num_timesteps, num_inference_steps, num_repeats)
        scheduler = scheduler_settings(self.scheduler)
        return scored_with(self.config, times, terms, scheduler, self._weight_digests())

    def _scoring_models(self) -> dict[str, torch.nn.Module]:
        return {"unet": self.unet, "fr_model": self.fr_model}

    def set_preset(self, name: str) -> None:
        """Sets what a call does to `"paper"` or `"official"` (the authors' code); it is saved with the pipeline."""
        self.register_to_config(**get_preset(name))

    def enable_folding(self, winograd: bool = False) -> None:
        """
        Puts [`fold`]ed copies, which give the same outputs faster, in the place of the UNet and the FR model. Call it
        before `.to(dtype=...)`; a pipeline that is to be saved or trained stays without.

        Args:
            winograd (`bool`, *optional*, defaults to `False`): See [`fold`]: faster still, in float32 on a CPU.
        """
        with self._same_weights():
            self.register_modules(unet=fold(self.unet, winograd), fr_model=fold(self.fr_model, winograd))

    # -- the algorithm ------------------------------------------------------------------------------------------------

    def forward_process(self, faces: torch.Tensor, num_timesteps: int, noise: torch.Tensor) -> torch.Tensor:
        """
        Eq. 2: the noisy images x_t.

        Args:
            faces, noise (`torch.FloatTensor` of shape `(B, 3, H, W)`): Canonical faces and standard normal noise.
            num_timesteps (`int`): t, from 1 to `scheduler.config.num_train_timesteps`.
        """
        check_scheduler(self.scheduler)
        index = num_timesteps if self.config.off_by_one else num_timesteps - 1
        return self.scheduler.add_noise(faces, noise, torch.full((len(faces),), index, device=faces.device))

    def backward_process(
        self,
        noisy: torch.Tensor,
        num_timesteps: int,
        num_inference_steps: int | None = None,
        generator: list[torch.Generator] | torch.Generator | None = None,
    ) -> torch.Tensor:
        """
        Eq. 3 and 4: the restored images, by ancestral sampling from x_t back to the clean image.

        Args:
            noisy (`torch.FloatTensor` of shape `(B, 3, H, W)`): x_t, in float32.
            num_timesteps (`int`): t.
            num_inference_steps (`int`, *optional*): UNet calls, evenly spread over the t steps; all t when `None`.
            generator (`list[torch.Generator]`, *optional*): One for each image: its draws are its own in any batch.
        """
        times = times_back(num_timesteps, num_inference_steps)
        check_scheduler(self.scheduler)
        # A scheduler keeps the times that it was set to: each call has its own.
        scheduler, unet = copy.copy(self.scheduler), for_inference(self.unet)
        ddim, last_time = isinstance(scheduler, DDIMScheduler), scheduler.config.num_train_timesteps
        if ddim:
            scheduler.set_timesteps(last_time, device=noisy.device)
        else:
            scheduler.set_timesteps(timesteps=times[:-1], device=noisy.device)
        sample = noisy
        for time, next_time in itertools.pairwise(times):
            # The loop itself stays in float32: at small t it divides by a noise level of about .01.
            for _ in range(2 if next_time == -1 and self.config.duplicate_last_step else 1):
                prediction = unet(sample.to(unet.dtype), time).sample.float()
            if ddim:
                # DDIM knows no list of times, only their even distance.
                scheduler.num_inference_steps = last_time // (time - next_time)
                if last_time // scheduler.num_inference_steps != time - next_time:
                    raise ValueError(f"DDIMScheduler cannot step from {time} to {next_time}; use DDPMScheduler")
                sample = scheduler.step(
                    prediction, time, sample, eta=1.0, use_clipped_model_output=True, generator=generator
                ).prev_sample
            else:
                sample = scheduler.step(prediction, time, sample, generator=generator).prev_sample
        return sample

    def embed(self, faces: torch.Tensor, fr_model: PreTrainedModel | None = None) -> torch.Tensor:
        """Embeddings `(B, D)` in float32 of canonical faces `(B, 3, H, W)`, by another FR model where one is given."""
        fr_model = self.fr_model if fr_model is None else fr_model
        return output_of(for_inference(fr_model), faces.to(fr_model.dtype), "embeddings").float()

    @staticmethod
    def noise_seeds(face: torch.Tensor, seed: int, num_repeats: int, flipped: bool) -> list[int]:
        """One seed for each noisy copy of a face (or of its mirror image), made of `seed` and the pixels alone."""
        return noise_seeds(face.detach().to("cpu", torch.float32).numpy(), seed, num_repeats, flipped)

    # -- calling it ---------------------------------------------------------------------------------------------------

    def __call__(
        self,
        images: Any,
        landmarks: Any = None,
        *,
        num_timesteps: int | None = None,
        num_inference_steps: int | None = None,
        num_repeats: int | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        use_flip: bool = True,
        use_forward: bool = True,
        use_backward: bool = True,
        output_images: bool = False,
        on_error: str = "nan",
        return_dict: bool = True,
    ) -> FaceQualityOutput | tuple:
        r"""
        Scores face images.

        Args:
            images:
                One or many (list, iterator, `datasets` column) of path, PIL image, NumPy array (uint8, or float in
                [0, 1]; height, width, channels) and torch tensor (channels first). An iterator is read as needed.
            landmarks (*optional*):
                For each image, five points (5, 2) in its pixels, to align it by; `None` for an image without.
            num_timesteps (`int`, *optional*, defaults to the pipeline's):
                t: how many steps of noise are added and taken away.
            num_inference_steps (`int`, *optional*, defaults to the pipeline's):
                How many UNet calls go back over the t steps, t of them where neither says. 1 jumps at once.
            num_repeats (`int`, *optional*, defaults to the pipeline's):
                n: how many noisy copies of the face, and as many of its mirror image, are averaged.
            batch_size (`int`, *optional*):
                Images that go through the UNet at a time, chosen by the free memory when not given. Running out of
                memory halves it and goes on.
            seed (`int`, *optional*, defaults to 0):
                The noise of an image depends on this and its pixels alone, so its score is the same in any batch.
            use_flip, use_forward, use_backward (`bool`, *optional*, default to `True`):
                The mirror image, the noisy images and the restored images: the ablations of the paper's Table 4.
            output_images (`bool`, *optional*, defaults to `False`):
                Whether the first noisy and restored image of each face are returned.
            on_error (`str`, *optional*, defaults to `"nan"`):
                An image that cannot be scored gets NaN and a line in `errors`, or, with `"raise"`, is an error.
            return_dict (`bool`, *optional*, defaults to `True`):
                `False` gives a plain tuple in the order of [`FaceQualityOutput`].

        Returns:
            [`FaceQualityOutput`] with `scores` of shape `(N,)`, higher is better.

        Example:

        ```python
        >>> from diffiqa_hf import DifFIQAPipeline

        >>> pipe = DifFIQAPipeline.from_pretrained("default")
        >>> scores = pipe(["examples/faces/astronaut.jpg", "examples/faces/astronaut_4_extreme.jpg"]).scores
        >>> bool(scores[0] > scores[1])
        True

        ```
        """
        records = list(
            self.stream(
                images,
                landmarks,
                num_timesteps=num_timesteps,
                num_inference_steps=num_inference_steps,
                num_repeats=num_repeats,
                batch_size=batch_size,
                seed=seed,
                use_flip=use_flip,
                use_forward=use_forward,
                use_backward=use_backward,
                output_images=output_images,
                on_error=on_error,
            )
        )
        names = [name for name in TERMS if name in used_terms(use_flip, use_forward, use_backward)]
        pictures = {}
        if output_images:
            blank = torch.full((3, *self._face_size()), float("nan"))
            if use_forward:
                pictures["noisy"] = torch.stack([blank if r.noisy is None else r.noisy for r in records])
            if use_backward:
                pictures["restored"] = torch.stack([blank if r.restored is None else r.restored for r in records])
        output = collect(records, names, **pictures)
        return output if return_dict else output.to_tuple()

    def stream(
        self,
        images: Any,
        landmarks: Any = None,
        *,
        num_timesteps: int | None = None,
        num_inference_steps: int | None = None,
        num_repeats: int | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        use_flip: bool = True,
        use_forward: bool = True,
        use_backward: bool = True,
        output_images: bool = False,
        on_error: str = "nan",
    ) -> Generator[FaceQualityRecord]:
        """
        The same as a call, one [`FaceQualityRecord`] at a time as soon as its batch is done: memory does not grow with
        the number of images. The arguments are those of [`~DifFIQAPipeline.__call__`].
        """
        call = self._call(
            [self.fr_model],
            num_timesteps,
            num_inference_steps,
            num_repeats,
            batch_size,
            seed,
            used_terms(use_flip, use_forward, use_backward),
            output_images,
            on_error,
        )
        names = ("num_timesteps", "num_inference_steps", "num_repeats", "terms")
        calibration = self.usable_calibration(**{name: getattr(call, name) for name in names})
        batches = self._batches(images, landmarks, on_error, call)
        return with_percentiles(([first for first, *_ in batch] for batch in batches), calibration)

    def stream_with(
        self,
        fr_models: Sequence[PreTrainedModel],
        images: Any,
        landmarks: Any = None,
        *,
        num_timesteps: int | None = None,
        num_inference_steps: int | None = None,
        num_repeats: int | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        use_flip: bool = True,
        use_forward: bool = True,
        use_backward: bool = True,
        on_error: str = "nan",
    ) -> Iterator[list[FaceQualityRecord]]:
        """
        For each image the records that pipelines with each of these FR models would give, in their order. The noisy
        and the restored images depend on no FR model: they are made once. The pipeline's own FR model is not called,
        and there are no percentiles.

        Args:
            fr_models: Each gives `embeddings` (B, D) for canonical faces, and is where the UNet is.

        The other arguments are those of [`~DifFIQAPipeline.__call__`].
        """
        call = self._call(
            list(fr_models),
            num_timesteps,
            num_inference_steps,
            num_repeats,
            batch_size,
            seed,
            used_terms(use_flip, use_forward, use_backward),
            False,
            on_error,
        )
        return itertools.chain.from_iterable(self._batches(images, landmarks, on_error, call))

    def _call(
        self, fr_models, num_timesteps, num_inference_steps, num_repeats, batch_size, seed, terms, images, on_error
    ) -> "_Call":
        times = resolve_times(self.config, num_timesteps, num_inference_steps, num_repeats)
        self.check_inputs(*times, batch_size, seed, on_error)
        check_terms(terms)
        return _Call(fr_models, *times, seed, terms, images, batch_size or self._choose_batch_size())

    def _batches(self, images, landmarks, on_error: str, call: "_Call") -> Generator[list[list[FaceQualityRecord]]]:
        """Batches of images; for each image a record for each FR model of the call."""
        rows = call.num_repeats * (2 if "flipped" in call.terms else 1)
        batches = stream_faces(
            images,
            landmarks,
            self.image_processor,
            math.ceil(call.batch_size / rows),
            on_error,
            getattr(self, "_progress_bar_config", None),
            self.face_check,
            self.reading_threads,
        )
        try:
            for batch in batches:
                yield self._score_batch(batch, call)
        finally:
            batches.close()
            with one_at_a_time(self.unet, *call.fr_models):
                self.maybe_free_model_hooks()

    def _score_batch(self, batch: list, call: "_Call") -> list[list[FaceQualityRecord]]:
        faces = [face for _, face in batch if face is not None]
        results: Iterator[tuple] = iter(())
        if faces:
            with one_at_a_time(self.unet, *call.fr_models):
                results = iter(self._score_faces(torch.from_numpy(np.stack(faces)), call))
        scored = []
        for record, face in batch:
            records = [record, *(copy.copy(record) for _ in call.fr_models[1:])]
            scored.append(records)
            if face is None:
                continue
            each_terms, record.noisy, record.restored = next(results)
            for record, terms in zip(records, each_terms, strict=True):
                take_terms(record, terms, self.face_check)
        return scored

    @torch.no_grad()
    def _score_faces(
        self, faces: torch.Tensor, call: "_Call"
    ) -> list[tuple[list[dict[str, float]], torch.Tensor | None, torch.Tensor | None]]:
        """For each face the terms with each FR model, and its first noisy and restored image where they are wanted."""
        terms, num_repeats = call.terms, call.num_repeats
        # A face and its mirror image are embedded once each; then come the copies of both.
        sides = [faces, faces.flip(-1)] if "flipped" in terms else [faces]
        embed_sides = partial(self._embed_rows, fr_models=call.fr_models)
        embedded = self._batched(embed_sides, torch.cat(sides), call)
        clean = [rows.chunk(len(sides)) for rows in embedded if rows is not None]  # by each FR model
        values: list[dict[str, torch.Tensor]] = [{} for _ in clean]
        if "flipped" in terms:
            for found, (face, mirrored) in zip(values, clean, strict=True):
                found["flipped"] = cosine_similarity(face, mirrored)
        shown_noisy = shown_restored = None
        for side, suffix in zip(sides, ("", "_flipped"), strict=False):
            names = ("noisy" + suffix, "restored" + suffix)
            if not terms.intersection(names):
                continue
            # The noise comes from the pixels of the face as it was given, for its mirror image too.
            seeds = [s for face in faces for s in self.noise_seeds(face, call.seed, num_repeats, bool(suffix))]
            perturb = partial(
                self._perturb,
                call=call,
                seeds=seeds,
                wanted=[name in terms for name in names],
                keep_images=call.output_images and not suffix,
            )
            *embeddings, noisy, restored = self._batched(perturb, side.repeat_interleave(num_repeats, 0), call)
            for i, (found, (face, *_)) in enumerate(zip(values, clean, strict=True)):
                reference = face.repeat_interleave(num_repeats, 0)
                for name, rows in zip(names, embeddings[2 * i : 2 * i + 2], strict=True):
                    if rows is not None:
                        found[name] = cosine_similarity(reference, rows).view(len(faces), num_repeats).mean(1)
            if call.output_images and not suffix:
                shown_noisy = None if noisy is None else noisy[::num_repeats]
                shown_restored = None if restored is None else restored[::num_repeats]
        return [
            (
                [{name: found[name][i].item() for name in TERMS if name in found} for found in values],
                None if shown_noisy is None else shown_noisy[i].clone(),
                None if shown_restored is None else shown_restored[i].clone(),
            )
            for i in range(len(faces))
        ]

    def _perturb(
        self,
        batch: torch.Tensor,
        start: int,
        call: "_Call",
        seeds: list[int],
        wanted: list[bool],
        keep_images: bool,
    ) -> list[torch.Tensor | None]:
        """
        With each FR model the embeddings of the noisy and of the restored images, then the images themselves, each
        where it is wanted.
        """
        # On the CPU in float32: the same noise on every device. Made anew at each try, so a try that ran out of memory
        # changes nothing.
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[start : start + len(batch)]]
        device = self._execution_device
        noise = randn_tensor(batch.shape, generator=generators, dtype=torch.float32)
        noisy = self.forward_process(batch.to(device), call.num_timesteps, noise.to(device))
        images = [noisy if wanted[0] else None, None]
        if wanted[1]:
            images[1] = self.backward_process(noisy, call.num_timesteps, call.num_inference_steps, generators)
        embeddings = [
            None if image is None else self.embed(image, fr_model).cpu()
            for fr_model in call.fr_models
            for image in images
        ]
        return embeddings + [image.cpu() if keep_images and image is not None else None for image in images]

    def _embed_rows(self, batch: torch.Tensor, start: int, fr_models: list[PreTrainedModel]) -> list[torch.Tensor]:
        batch = batch.to(self._execution_device)
        return [self.embed(batch, fr_model).cpu() for fr_model in fr_models]

    @staticmethod
    def _batched(
        function: Callable[[torch.Tensor, int], list], rows: torch.Tensor, call: "_Call"
    ) -> list[torch.Tensor | None]:
        """Runs `function(batch, start)` over the rows, with half the batch whenever memory runs out."""
        results, start = [], 0
        while start < len(rows):
            batch = rows[start : start + call.batch_size]
            try:
                results.append(function(batch, start))
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                call.batch_size = max(1, len(batch) // 2)
                torch.cuda.empty_cache()
                logger.warning(f"out of memory, going on with a batch of {call.batch_size}")
                continue
            start += len(batch)
        return [None if parts[0] is None else torch.cat(parts) for parts in zip(*results, strict=True)]

    def _choose_batch_size(self) -> int:
        device = self._execution_device
        height, width = self._face_size()
        channels = next(weight for weight in self.unet.parameters() if weight.ndim == 4).shape[0]
        if device.type != "cuda":
            # What counts on a CPU is that a batch fits its cache: 5 for the authors' UNet, whose first width is 128.
            return max(1, min(20, 640 // channels))
        # A UNet of this kind holds some forty maps of its first width at full size at a time.
        per_image = 40 * channels * height * width * self.unet.dtype.itemsize
        free, _ = torch.cuda.mem_get_info(device)
        return int(min(1024, max(1, free // 2 // per_image)))

    def _face_size(self) -> tuple[int, int]:
        size = self.image_processor.size
        return size["height"], size["width"]

    def check_inputs(self, num_timesteps, num_inference_steps, num_repeats, batch_size, seed, on_error) -> None:
        """Raises `ValueError` for settings that make no sense, and for a scheduler that is not DifFIQA's."""
        check_scheduler(self.scheduler)
        train_timesteps = self.scheduler.config.num_train_timesteps
        check_times(self.config, train_timesteps, num_timesteps, num_inference_steps, num_repeats)
        check_call(batch_size, seed, on_error)


@dataclass
class _Call:
    """What one call goes by. `batch_size`, the rows that a network takes at a time, falls when memory runs out."""

    fr_models: list[PreTrainedModel]
    num_timesteps: int
    num_inference_steps: int | None
    num_repeats: int
    seed: int
    terms: set[str]
    output_images: bool
    batch_size: int
