# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""UNets and a diffusion transformer of as many parameters as DifFIQA's denoiser, trained on the same batches.

    python benchmarks/denoisers.py --train_parquet faces.parquet [--identity_column identity] \
        --output_dir runs/denoisers [--steps 2000] [--until 11:55] [--output benchmarks/results/denoisers.md]

All learn as `training/train_ddpm.py` has it, from the same faces, degradations, times and noise in the same order,
with the same optimizer. The transformer adds what goes in to what it gives and begins as the identity; diffusers' UNet
does not, and so there is a second UNet that does. The CPU seconds of a step are counted for each by itself (forward,
backward and optimizer, not the making of faces). Now and then all restore the same noisy faces of people who are held
out; beside their losses stands that of the noisy face itself. The averaged weights are measured, as they would be
used. A run that is started again in its folder reports what is there, and trains no further.

    python benchmarks/denoisers.py --train_parquet faces.parquet --trained unet=default/unet dit=runs/dit/pipeline/unet

measures denoisers that `training/train_ddpm.py` has trained, in the same way, and trains none.
"""

import argparse
import datetime
import json
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import UNet2DModel
from diffusers.models.unets.unet_2d import UNet2DOutput
from measurement import load_file, machine, write_result

from diffiqa_hf import DifFIQADiTModel
from diffiqa_hf.degradations import blend
from diffiqa_hf.training.batches import ShuffledKeys
from diffiqa_hf.training.data import training_faces
from diffiqa_hf.training.held_out import split_people


BATCH, RATE, WARMUP, DECAY = 8, 5e-4, 50, 0.99
SIZES = {"unet": [8, 16, 32, 128], "dit": {"hidden_size": 160, "num_layers": 6, "num_attention_heads": 5}}
NUM_BINS = 10  # of time steps
LABELS = {"unet": "UNet", "unet_residual": "UNet that adds its input", "dit": "transformer"}


class ResidualUNet(UNet2DModel):
    """A UNet that gives what is to be added to its input, at first nothing."""

    def __init__(self, **config):
        super().__init__(**config)
        torch.nn.init.zeros_(self.conv_out.weight)
        torch.nn.init.zeros_(self.conv_out.bias)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> UNet2DOutput:
        return UNet2DOutput(sample=sample + super().forward(sample, timestep).sample)


class Learner:
    """A denoiser, its optimizer, its averages and the CPU seconds that its steps have taken."""

    def __init__(self, script, network: torch.nn.Module):
        self.script, self.network = script, network.train()
        self.optimizer = torch.optim.Adam(network.parameters(), lr=RATE, betas=(0.9, 0.99))
        self.ema = script.make_ema(network, DECAY)
        self.seconds, self.steps = 0.0, 0

    def learn(self, noisy: torch.Tensor, times: torch.Tensor, clean: torch.Tensor) -> None:
        start = time.process_time()
        for group in self.optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (self.steps + 1) / WARMUP)
        loss = (self.network(noisy, times).sample - clean).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.seconds += time.process_time() - start
        self.steps += 1
        self.script.update_ema(self.ema, self.network, self.steps)

    def losses(self, batches: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        """The mean squared error of each held-out face, of the averaged weights."""
        self.ema.store(self.network.parameters())
        self.ema.copy_to(self.network.parameters())
        errors = losses(self.network.eval(), batches)
        self.network.train()
        self.ema.restore(self.network.parameters())
        return errors


@torch.no_grad()
def losses(network: torch.nn.Module, batches: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    """The mean squared error of each face."""
    return torch.cat(
        [
            (network(batch["noisy"], batch["time"]).sample - batch["clean"]).square().mean((1, 2, 3))
            for batch in batches
        ]
    )


def by_time(errors: torch.Tensor, times: torch.Tensor, most: int) -> list[float]:
    bins = times * NUM_BINS // most
    return [errors[bins == i].mean().item() for i in range(NUM_BINS)]


class Task:
    """The script of the training, its options, the faces, and batches of those that are held out."""

    def __init__(self, args: argparse.Namespace):
        self.script = load_file(Path(__file__).parents[1] / "training" / "train_ddpm.py", "train_ddpm")
        given = ["--train_parquet", *args.train_parquet, "--identity_column", args.identity_column]
        given += ["--holdout_modulo", "10", "--output_dir", str(args.output_dir), "--report_to", "none"]
        self.run = self.script.parse_args([*given, "--block_out_channels", *map(str, SIZES["unet"])])
        dataset, _ = training_faces(Accelerator(cpu=True), self.run)
        self.faces, held_out, people = split_people(dataset, args.identity_column, self.run.holdout_modulo)
        self.scheduler = self.script.make_scheduler()
        pairs = self.script.FacePairs(held_out, self.run)
        chosen = torch.linspace(0, len(held_out) - 1, min(args.held_out, len(held_out))).long().tolist()
        self.batches = [
            self.prepared(pairs, [(0, i) for i in chosen[k : k + BATCH]]) for k in range(0, len(chosen), BATCH)
        ]
        self.times = torch.cat([batch["time"] for batch in self.batches])
        self.unchanged = torch.cat(
            [(batch["noisy"] - batch["clean"]).square().mean((1, 2, 3)) for batch in self.batches]
        )
        self.held_out = f"{len(chosen)} faces of {people.what}"

    def prepared(self, pairs, keys: list[tuple[int, int]]) -> dict[str, torch.Tensor]:
        batch = torch.utils.data.default_collate([pairs[key] for key in keys])
        blended = blend(batch["clean"], batch["degraded"], batch["time"], self.run.blend_timesteps)
        batch["noisy"] = self.scheduler.add_noise(blended, batch["noise"], batch["time"])
        return batch


def train(args: argparse.Namespace, log: Path) -> None:
    task = Task(args)
    script, run, faces = task.script, task.run, task.faces
    torch.manual_seed(0)
    unet = script.make_denoiser(run)
    networks = {
        "unet": unet.to(memory_format=torch.channels_last),
        "unet_residual": ResidualUNet(**unet.config).to(memory_format=torch.channels_last),
        "dit": DifFIQADiTModel(**SIZES["dit"]),
    }
    learners = {name: Learner(script, network) for name, network in networks.items()}

    facts = {
        "faces": len(faces),
        "held_out": task.held_out,
        "parameters": {name: sum(p.numel() for p in x.network.parameters()) for name, x in learners.items()},
        "unchanged": task.unchanged.mean().item(),
        "unchanged_by_time": by_time(task.unchanged, task.times, run.max_train_timestep),
        "machine": machine(torch.device("cpu")),
    }
    args.output_dir.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8") as file:

        def write(entry: dict) -> None:
            print(json.dumps(entry), file=file, flush=True)

        write(facts)
        pairs = script.FacePairs(faces, run)
        keys = iter(ShuffledKeys(len(faces), BATCH, 0, 0, 0, 1))
        for step in range(1, args.steps + 1):
            batch = task.prepared(pairs, next(keys))
            for learner in learners.values():
                learner.learn(batch["noisy"], batch["time"], batch["clean"])
            last = step == args.steps or datetime.datetime.now().strftime("%H:%M") >= args.until
            if step % args.every and not last:
                continue
            for name, learner in learners.items():
                errors = learner.losses(task.batches)
                entry = {"step": step, "network": name, "seconds": learner.seconds, "loss": errors.mean().item()}
                write(entry | {"by_time": by_time(errors, task.times, run.max_train_timestep)})
            if last:
                break
    for name, learner in learners.items():
        script.trained_copy(learner.network, learner.ema).save_pretrained(args.output_dir / name)


def measure(args: argparse.Namespace) -> str:
    """What trained denoisers restore, and what of their difference is chance."""
    task = Task(args)
    names, folders = zip(*(entry.split("=", 1) for entry in args.trained), strict=True)
    networks = []
    for folder in folders:
        kind = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))["_class_name"]
        networks.append(task.script.ARCHITECTURES["dit" if "DiT" in kind else "unet"].from_pretrained(folder).eval())
    found, seconds = [], []
    for network in networks:
        start = time.process_time()
        found.append(losses(network, task.batches))
        seconds.append((time.process_time() - start) / len(task.times))
    most = task.run.max_train_timestep
    times = " | ".join(f"{10 * i}-{10 * i + 9}" for i in range(NUM_BINS))
    lines = [
        "# Trained denoisers of DifFIQA",
        "",
        machine(torch.device("cpu")),
        "",
        f"The mean squared error on pixels in [-1, 1] of {task.held_out}, by time step; by `benchmarks/denoisers.py "
        "--trained`. The difference is that from the first, with 1.96 standard errors over the faces. Seconds are CPU "
        "seconds of a face in torch, as it comes.",
        "",
        f"| network | parameters | s | mean | difference | {times} |",
        "|---" * (5 + NUM_BINS) + "|",
    ]
    noisy = " | ".join(f"{value:.5f}" for value in by_time(task.unchanged, task.times, most))
    lines.append(f"| the noisy face | | | {task.unchanged.mean():.5f} | | {noisy} |")
    for name, network, errors, cost in zip(names, networks, found, seconds, strict=True):
        apart = errors - found[0]
        difference = (
            "" if errors is found[0] else f"{apart.mean():+.5f} ± {1.96 * apart.std() / len(apart) ** 0.5:.5f}"
        )
        count = sum(p.numel() for p in network.parameters())
        values = " | ".join(f"{value:.5f}" for value in by_time(errors, task.times, most))
        lines.append(f"| {name} | {count:,} | {cost:.3f} | {errors.mean():.5f} | {difference} | {values} |")
    return "\n".join([*lines, *(["", args.note] if args.note else [])]) + "\n"


def report(log: Path, note: str | None = None) -> str:
    facts, *entries = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines())
    runs = {name: [entry for entry in entries if entry["network"] == name] for name in LABELS}
    count = min(map(len, runs.values()))  # of a run that was killed in the middle of a measurement
    runs = {name: run[:count] for name, run in runs.items()}
    last = {name: run[-1] for name, run in runs.items()}
    seconds = min(entry["seconds"] for entry in last.values())
    lines = [
        "# UNets and a diffusion transformer as DifFIQA's denoiser",
        "",
        facts["machine"],
        "",
        f"Trained by `benchmarks/denoisers.py` on {facts['faces']} faces, {last['dit']['step']} steps of {BATCH}: the "
        f"same batches for all, Adam with a rate of {RATE:g} after {WARMUP} steps. The loss is the mean squared error "
        f"on pixels in [-1, 1] of {facts['held_out']}, at times below 100; it is {facts['unchanged']:.5f} for the "
        "noisy face as it is. CPU seconds are those of one thread for the network alone, without the making of faces. "
        "A run of minutes shows how they begin, not where they end.",
        "",
        "| network | parameters | CPU seconds a step | loss at the last step | loss after "
        f"{seconds:.0f} CPU seconds (step) |",
        "|---|---|---|---|---|",
    ]
    for name, label in LABELS.items():
        cost = last[name]["seconds"] / last[name]["step"]
        within = [entry for entry in runs[name] if entry["seconds"] <= seconds]
        reached = f"{within[-1]['loss']:.5f} ({within[-1]['step']})" if within else "not measured"
        lines.append(
            f"| {label} | {facts['parameters'][name]:,} | {cost:.2f} | {last[name]['loss']:.5f} | {reached} |"
        )
    lines += ["", "At equal steps:", "", "| step | " + " | ".join(LABELS.values()) + " |", "|---" * 4 + "|"]
    for entries in zip(*runs.values(), strict=True):
        lines.append(f"| {entries[0]['step']} | " + " | ".join(f"{entry['loss']:.5f}" for entry in entries) + " |")
    header = "| time | " + " | ".join(f"{10 * i}-{10 * i + 9}" for i in range(NUM_BINS)) + " |"
    lines += ["", f"By time step, after step {last['dit']['step']}:", "", header, "|---" * (NUM_BINS + 1) + "|"]
    rows = {"the noisy face": facts["unchanged_by_time"], **{LABELS[name]: last[name]["by_time"] for name in LABELS}}
    for label, values in rows.items():
        lines.append(f"| {label} | " + " | ".join(f"{value:.5f}" for value in values) + " |")
    return "\n".join([*lines, *(["", note] if note else [])]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train_parquet", nargs="+", required=True)
    parser.add_argument("--identity_column", default="identity", help="people, some of whom are held out")
    parser.add_argument("--output_dir", type=Path, default=Path("denoisers"))
    parser.add_argument(
        "--trained", nargs="+", metavar="NAME=FOLDER", help="denoisers that are measured; none is trained"
    )
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=50, help="steps between two measurements (default: 50)")
    parser.add_argument("--held_out", type=int, default=160, help="faces that are measured on (default: 160)")
    parser.add_argument("--until", default="99:99", metavar="HH:MM", help="no step is begun after this time of day")
    parser.add_argument("--output", type=Path, help="Markdown file for the report")
    parser.add_argument("--note", help="what else is to be said of the run, at the end of the report")
    args = parser.parse_args()
    if args.trained:
        write_result(args.output, measure(args))
        return
    log = args.output_dir / "log.jsonl"
    if not log.exists():
        train(args, log)
    write_result(args.output, report(log, args.note))


if __name__ == "__main__":
    main()
