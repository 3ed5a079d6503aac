# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Trains the UNet of DifFIQA: the extended DDPM training of section 3.3 of the paper (Babnik et al., IJCB 2023).

A face and a degraded copy of it are blended, the more degraded the later the time step (Eq. 6), and made noisy; the
UNet learns to give back the clean face.

    accelerate launch training/train_ddpm.py --train_data_dir faces/ --output_dir runs/ddpm

A run that was stopped goes on with `--resume_from_checkpoint latest`. A checkpoint has the UNet as it is trained in
`unet`, and its averaged weights in `unet_ema`, which `UNet2DModel.from_pretrained` loads. `--architecture dit` trains
a diffusion transformer in its place, a `DifFIQADiTModel`; it has the same names and the same place in the pipeline.
"""

import argparse
import json
import logging
import math
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from PIL import Image
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from diffiqa_hf import DifFIQADiTModel, DifFIQAPipeline, FaceImageProcessor
from diffiqa_hf.conversion.networks import load_fr_model
from diffiqa_hf.degradations import blend, degrade_face
from diffiqa_hf.file_utils import replace_folder
from diffiqa_hf.hub import (
    add_hub_arguments,
    check_hub_arguments,
    push_when_asked,
    read_training,
    record_training,
    training_facts,
)
from diffiqa_hf.image_processing_face import face_to_pixels, load_image, pixels_to_face
from diffiqa_hf.scoring.image_columns import as_image
from diffiqa_hf.training.batches import ShuffledKeys, training_batches
from diffiqa_hf.training.checkpoints import TrainingState, find_checkpoint, go_on_from, save_checkpoint, trained_copy
from diffiqa_hf.training.data import ROW, faces_digest, read_face, training_faces
from diffiqa_hf.training.held_out import split_people
from diffiqa_hf.training.run import (
    add_data_arguments,
    add_output_arguments,
    check_loss,
    full_disk_in_one_line,
    is_due,
    make_accelerator,
    positive,
    start_tracker,
)


logger = logging.getLogger(__name__)

NUM_BINS = 10  # of time steps, in the log of the loss
ARCHITECTURES = {"unet": UNet2DModel, "dit": DifFIQADiTModel}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_arguments(parser)
    model = parser.add_argument_group("model")
    model.add_argument(
        "--architecture",
        choices=tuple(ARCHITECTURES),
        default="unet",
        help="unet: diffusers' UNet2DModel; dit: a diffusion transformer, DifFIQADiTModel (default: unet)",
    )
    model.add_argument(
        "--unet_config", help="JSON file of the arguments of that class; instead of the following two for a unet"
    )
    model.add_argument(
        "--block_out_channels", type=int, nargs="+", default=[16, 32, 64, 160], help="widths, each at half the size"
    )
    model.add_argument("--layers_per_block", type=int, default=1, help="residual blocks at each width (default: 1)")
    model.add_argument("--resolution", type=int, default=112, help="side of the faces in pixels (default: 112)")
    model.add_argument("--fr_model", help="folder or Hub id of the FR model that goes into the saved pipeline; dlib")
    train = parser.add_argument_group("training (defaults: the authors' code)")
    train.add_argument("--max_train_timestep", type=int, default=100, help="T' of the paper: time steps are below it")
    train.add_argument(
        "--blend_timesteps", type=int, default=100, help="T in Eq. 6: 100 official, 1000 as in the paper"
    )
    train.add_argument(
        "--degrade_picture",
        action="store_true",
        help="make the degraded face d(x) from the picture as it is stored, as the authors do, and not from the face "
        "at --resolution; it tells where pictures are larger",
    )
    train.add_argument(
        "--train_batch_size", type=positive, default=16, help="faces at a time, each process (default: 16)"
    )
    train.add_argument(
        "--gradient_accumulation_steps",
        type=positive,
        default=4,
        help="such batches for each optimizer step (default: 4)",
    )
    train.add_argument("--max_train_steps", type=positive, default=100_000, help="optimizer steps (default: 100000)")
    train.add_argument("--learning_rate", type=float, default=8e-5, help="of Adam (default: 8e-5)")
    train.add_argument(
        "--lr_schedule", choices=("constant", "cosine"), default="constant", help="cosine falls to 0 at the last step"
    )
    train.add_argument("--adam_beta2", type=float, default=0.99, help="default: 0.99")
    train.add_argument("--max_grad_norm", type=float, help="clip the gradient's norm (default: no clipping)")
    train.add_argument("--ema_decay", type=float, default=0.995, help="of the averaged weights (default: 0.995)")
    train.add_argument("--ema_update_every", type=positive, default=10, help="in optimizer steps (default: 10)")
    train.add_argument(
        "--mixed_precision", choices=("no", "fp16", "bf16"), help="default: as accelerate is configured"
    )
    train.add_argument("--seed", type=int, default=0)
    add_output_arguments(parser)
    add_hub_arguments(parser)
    args = parser.parse_args(argv)
    if args.push_to_hub and not args.fr_model:
        parser.error("--push_to_hub needs --fr_model: it is a whole pipeline that goes to the Hub")
    return args


class FacePairs(Dataset):
    """
    Clean and degraded faces (3, H, W) in [-1, 1], a time step and noise for each, and its index. An item depends on
    the seed, the epoch and the index alone, so a run sees the same on any number of processes, resumed or not.
    """

    def __init__(self, dataset, args: argparse.Namespace):
        self.dataset, self.args = dataset, args
        self.processor = FaceImageProcessor(size={"height": args.resolution, "width": args.resolution})

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        epoch, index = key
        rng = np.random.default_rng([self.args.seed, epoch, index])
        face = read_face(self.dataset, index, self.args.image_column, self.processor)
        picture = face_to_pixels(face)
        if self.args.degrade_picture:
            picture = np.asarray(load_image(as_image(self.dataset[index][self.args.image_column])))
        if rng.random() < 0.5:
            face, picture = np.ascontiguousarray(face[:, :, ::-1]), np.ascontiguousarray(picture[:, ::-1])
        degraded = degrade_face(picture, rng, size=self.args.resolution)
        return {
            "index": torch.tensor(index),
            "clean": torch.from_numpy(face),
            "degraded": torch.from_numpy(pixels_to_face(degraded)),
            "time": torch.tensor(rng.integers(self.args.max_train_timestep)),
            "noise": torch.from_numpy(rng.standard_normal(face.shape, dtype=np.float32)),
        }


def make_denoiser(args: argparse.Namespace) -> UNet2DModel | DifFIQADiTModel:
    if args.unet_config:
        return ARCHITECTURES[args.architecture].from_config(json.loads(Path(args.unet_config).read_text()))
    if args.architecture == "dit":
        return DifFIQADiTModel(sample_size=args.resolution)
    levels = len(args.block_out_channels)
    return UNet2DModel(
        sample_size=args.resolution,
        layers_per_block=args.layers_per_block,
        block_out_channels=args.block_out_channels,
        norm_num_groups=math.gcd(8, *args.block_out_channels),
        down_block_types=("DownBlock2D",) * (levels - 1) + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1),
        attention_head_dim=8,
    )


def make_scheduler() -> DDPMScheduler:
    """The noise of DifFIQA; the network gives the clean face."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        clip_sample=True,
        variance_type="fixed_small",
    )


def make_ema(unet: UNet2DModel | DifFIQADiTModel, decay: float) -> EMAModel:
    """Warmed up as ema_pytorch does by default, which the authors' code uses: a copy of the weights until step 100."""
    return EMAModel(
        unet.parameters(),
        decay=decay,
        update_after_step=100,
        use_ema_warmup=True,
        inv_gamma=1.0,
        power=2 / 3,
        model_cls=type(unet),
        model_config=unet.config,
    )


def update_ema(ema: EMAModel, unet: torch.nn.Module, step: int) -> None:
    """After optimizer step `step`, by which ema_pytorch warms up; EMAModel counts its calls, one in ten steps."""
    ema.optimization_step = step - 1
    ema.step(unet.parameters())


@torch.no_grad()
def save_grid(pipe: DifFIQAPipeline, batch: dict[str, torch.Tensor], args: argparse.Namespace, path: Path) -> None:
    """Rows: the clean face, and at t = 5 and T' the blended and noisy face beside what the UNet makes of it."""
    clean, degraded = batch["clean"][:8], batch["degraded"][:8]
    rows = [clean]
    for t in (min(5, args.max_train_timestep), args.max_train_timestep):
        times = torch.full((len(clean),), t - 1, device=clean.device)
        generator = torch.Generator().manual_seed(args.seed)
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        noisy = pipe.scheduler.add_noise(blend(clean, degraded, times, args.blend_timesteps), noise, times)
        rows += [noisy, pipe.backward_process(noisy, t, min(t, 10), generator)]
    pictures = [np.hstack([np.asarray(face) for face in pipe.image_processor.postprocess(row)]) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(pictures)).save(path)


def save_unets(unet: torch.nn.Module, ema: EMAModel, folder: Path) -> None:
    """The network of a checkpoint, and the averaged one, as folders that `from_pretrained` of its class loads."""
    for name, averages in (("unet", None), ("unet_ema", ema)):
        trained_copy(unet, averages).save_pretrained(folder / name)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with full_disk_in_one_line(args.output_dir):
        train(args, argv)


def train(args: argparse.Namespace, argv: list[str] | None) -> None:
    output_dir = Path(args.output_dir)
    check_hub_arguments(args)
    accelerator = make_accelerator(args, gradient_accumulation_steps=args.gradient_accumulation_steps)
    resume = find_checkpoint(output_dir, args.resume_from_checkpoint)
    dataset, _ = training_faces(accelerator, args)
    dataset, _, people_out = split_people(dataset, args.identity_column, args.holdout_modulo, needed=False)
    rows = np.array(dataset[ROW])

    torch.manual_seed(args.seed)
    unet = make_denoiser(args)
    scheduler = make_scheduler()
    ema = make_ema(unet, args.ema_decay)
    ema.to(accelerator.device)
    unet.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(unet.parameters(), lr=args.learning_rate, betas=(0.9, args.adam_beta2))
    unet, optimizer = accelerator.prepare(unet, optimizer)
    order = faces_digest(dataset, args.image_column)
    progress_state = TrainingState(ema, people_out, {"seed": args.seed}, len(dataset), order)
    accelerator.register_for_checkpointing(progress_state)
    go_on_from(resume, accelerator, progress_state, optimizer)
    accumulate = args.gradient_accumulation_steps
    place = (accelerator.process_index, accelerator.num_processes)
    start = progress_state.place(accumulate * args.train_batch_size * accelerator.num_processes)
    keys = ShuffledKeys(len(dataset), args.train_batch_size, args.seed, start, *place)
    pairs = FacePairs(dataset, args)
    batches = training_batches(pairs, keys, progress_state, args.dataloader_num_workers)
    start_tracker(accelerator, args, "train_ddpm")
    logger.info(
        f"{len(dataset)} faces, {sum(p.numel() for p in unet.parameters()):,} parameters, steps "
        f"{progress_state.step} to {args.max_train_steps}, {accelerator.num_processes} process(es) of "
        f"{accumulate} x {args.train_batch_size} faces a step"
    )

    bins = torch.zeros(2, NUM_BINS, device=accelerator.device)  # sums of losses, and how many
    progress = tqdm(
        total=args.max_train_steps, initial=progress_state.step, unit="step", disable=not accelerator.is_main_process
    )
    unet.train()
    started = time.perf_counter()
    while progress_state.step < args.max_train_steps:
        step = progress_state.step
        part = 1.0 if args.lr_schedule == "constant" else 0.5 * (1 + math.cos(math.pi * step / args.max_train_steps))
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * part
        for micro in range(accumulate):
            batch = {name: value.to(accelerator.device) for name, value in next(batches).items()}
            times = batch["time"]
            with accelerator.accumulate(unet):
                blended = blend(batch["clean"], batch["degraded"], times, args.blend_timesteps)
                noisy = scheduler.add_noise(blended, batch["noise"], times).contiguous(
                    memory_format=torch.channels_last
                )
                restored = unet(noisy, times).sample
                losses = (restored.float() - batch["clean"]).pow(2).mean((1, 2, 3))
                loss = losses.mean()
                check_loss(loss, step, rows[batch["index"].cpu()], f"batch {micro} of {accumulate}")
                accelerator.backward(loss)
                if accelerator.sync_gradients and args.max_grad_norm is not None:
                    accelerator.clip_grad_norm_(unet.parameters(), args.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
            place = times * NUM_BINS // args.max_train_timestep
            bins[0].index_add_(0, place, losses.detach())
            bins[1].index_add_(0, place, torch.ones_like(losses))
        progress_state.step = step = step + 1
        if step % args.ema_update_every == 0:
            update_ema(ema, accelerator.unwrap_model(unet), step)
        progress.update()

        last = step == args.max_train_steps
        if is_due(step, args.logging_steps, last):
            totals = accelerator.reduce(bins, "sum").cpu()
            means = totals[0] / totals[1]
            logs = {"loss": (totals[0].sum() / totals[1].sum()).item(), "lr": optimizer.param_groups[0]["lr"]}
            logs["seconds_waited_for_data"] = batches.waited_since()
            width = args.max_train_timestep / NUM_BINS
            for i, mean in enumerate(means):
                if totals[1, i]:
                    logs[f"loss_by_timestep/{i * width:g}-{(i + 1) * width:g}"] = mean.item()
            progress.set_postfix(loss=f"{logs['loss']:.5f}")
            accelerator.log(logs, step=step)
            bins.zero_()
        if args.validation_steps and is_due(step, args.validation_steps, last) and accelerator.is_main_process:
            model = trained_copy(accelerator.unwrap_model(unet), ema)
            pipe = DifFIQAPipeline(model.to(accelerator.device), scheduler, None, pairs.processor)
            save_grid(pipe, batch, args, output_dir / "validation" / f"step-{step:06}.png")
        if is_due(step, args.checkpointing_steps, last):
            whole = accelerator.unwrap_model(unet)
            save_checkpoint(
                accelerator, output_dir, step, args.checkpoints_total_limit, partial(save_unets, whole, ema)
            )
    progress.close()
    logger.info(f"waited {batches.waited:.1f} s for data, of {time.perf_counter() - started:.1f} s")

    if accelerator.is_main_process:
        model = trained_copy(accelerator.unwrap_model(unet), ema)
        if args.fr_model:
            pipe = DifFIQAPipeline(model, scheduler, load_fr_model(args.fr_model), pairs.processor)
            replace_folder(output_dir / "pipeline", pipe.save_pretrained)
            steps = progress_state.step
            facts = training_facts("training/train_ddpm.py", args, argv, dataset, accelerator, steps=steps)
            record_training(output_dir / "pipeline", facts, {"fr_model": read_training(args.fr_model)})
            logger.info(f"saved {output_dir / 'pipeline'}, which DifFIQAPipeline.from_pretrained loads")
            push_when_asked(args, output_dir / "pipeline")
        else:
            for name, part in (("unet", model), ("scheduler", scheduler)):
                replace_folder(output_dir / "pipeline" / name, part.save_pretrained)
            logger.info(f"saved unet and scheduler in {output_dir / 'pipeline'}; --fr_model would make it a pipeline")
    accelerator.end_training()


if __name__ == "__main__":
    main()
