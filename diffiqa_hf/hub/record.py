# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
What a training run knows of itself, as it leaves it in the folder that it made (`training.json`), and the figures that
a benchmark adds to it.
"""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from ..file_utils import file_fault
from ..version import __version__


TASK = "face-image-quality-assessment"
TRAINING_FILE = "training.json"


class HubError(Exception):
    """A folder can't be pushed; the message is the reason in one line."""


@dataclass(frozen=True)
class DataFacts:
    """
    A set of faces that a model was trained on.

    Args:
        name (`str`): What the faces are.
        rows (`int`, *optional*), people (`int`, *optional*): How many; `None` where nobody counted.
        license (`str`, *optional*): Of the faces.
    """

    name: str
    rows: int | None = None
    people: int | None = None
    license: str | None = None


@dataclass(frozen=True)
class ResultFacts:
    """
    A figure that a run has measured.

    Args:
        metric (`str`): Its identifier, such as `"pauc"`.
        name (`str`): What it is, with its protocol: `"pAUC at discard 0.3, FMR 1e-3"`.
        value (`float`): The figure.
        dataset (`str`): What it was measured on.
        low, high, confidence (`float`, *optional*): Its interval, all three or none.
        basis (`str`, *optional*): How much it rests on: `"817 mated pairs of 120 people"`.
    """

    metric: str
    name: str
    value: float
    dataset: str
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    basis: str | None = None

    def __post_init__(self):
        if len({self.low is None, self.high is None, self.confidence is None}) > 1:
            raise ValueError("an interval has low, high and confidence")

    def eval_result(self) -> EvalResult:
        """The entry of the card's model-index; the interval stands among the metric's arguments."""
        args: dict[str, Any] | None = None
        if self.low is not None:
            args = {"interval": [self.low, self.high], "confidence": self.confidence}
        if self.basis is not None:
            args = {**(args or {}), "basis": self.basis}
        return EvalResult(
            task_type=TASK,
            task_name="Face image quality assessment",
            dataset_type="face-images",
            dataset_name=self.dataset,
            # What huggingface_hub tells sets of one type apart by: without it all figures are the first set's.
            dataset_config=self.dataset,
            metric_type=self.metric,
            metric_name=self.name,
            metric_value=self.value,
            metric_args=args,
        )


@dataclass(frozen=True)
class TrainingFacts:
    """
    What a training run knows of itself, as it stands in `training.json`.

    A part of a pipeline that a run of its own has made has a `training.json` in its own folder (`unet/`, `fr_model/`),
    so that it goes with the part wherever that is copied to, and the part's folder is as complete as when its run left
    it. The one beside `model_index.json` is then about the whole: what was measured with it, notes, licence; after
    `train_ddpm.py` also the UNet's run. Neither goes through `pipeline.save_pretrained`, which writes weights and
    configurations alone: whoever puts a pipeline together gives [`record_training`] the records of the parts.

    Args:
        command (`str`): What starts it, without paths of the machine that it ran on; several runs one below the other.
            Empty where nothing is known of a run.
        data (`list[DataFacts]`): What it was trained on.
        results (`list[ResultFacts]`): What it measured.
        heldout (`str`, *optional*): What was not trained on.
        steps (`int`, *optional*), processes (`int`, *optional*), device (`str`, *optional*): How it ran.
        license_id (`str`, *optional*): Of the weights, an identifier of the Hub: `"apache-2.0"`, `"other"`.
        license_text (`str`, *optional*): Of the weights, in words.
        version (`str`): Of diffiqa_hf.
        versions (`dict[str, str]`): Of what it was run with.
        notes (`list[str]`): What no run can know and a person adds, in Markdown: why a setting is what it is, what to
            keep in mind with a figure.
    """

    command: str = ""
    data: list[DataFacts] = field(default_factory=list)
    results: list[ResultFacts] = field(default_factory=list)
    heldout: str | None = None
    steps: int | None = None
    processes: int | None = None
    device: str | None = None
    license_id: str | None = None
    license_text: str | None = None
    version: str = __version__
    versions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "TrainingFacts":
        """
        Raises:
            ValueError: There is a key that means nothing, or one is missing.
        """
        unknown = set(facts) - {item.name for item in fields(cls)}
        if unknown:
            raise ValueError(f"unknown facts: {', '.join(sorted(unknown))}")
        try:
            data = [DataFacts(**entry) for entry in facts.get("data", ())]
            results = [ResultFacts(**entry) for entry in facts.get("results", ())]
            return cls(**{**facts, "data": data, "results": results})
        except TypeError as error:
            raise ValueError(str(error)) from error


def training_source(args: argparse.Namespace) -> str:
    """What a run's faces are: `--training_data`, or the name of the source, without where it lies on this machine."""
    paths = [args.train_data_dir] if args.train_data_dir else args.train_parquet or []
    return args.training_data or args.dataset_name or ", ".join(f"`{Path(path).name}`" for path in paths)


def record_text(facts: TrainingFacts) -> str:
    return json.dumps(asdict(facts), indent=2, ensure_ascii=False) + "\n"


def read_training(folder: str | os.PathLike) -> TrainingFacts | None:
    """
    The record of the run that made a folder, if there is one.

    Raises:
        HubError: It can't be read.
    """
    path = Path(folder) / TRAINING_FILE
    if not path.exists():
        return None
    try:
        return TrainingFacts.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise HubError(f"{path}: {first_line(error)}") from error


def benchmark_results(results_json: str | os.PathLike, method: str) -> list[ResultFacts]:
    """
    What `diffiqa benchmark` has measured of one method, for each protocol, FR model and benchmark: FNMR(0), the FNMR
    with nothing discarded, and the pAUC at each limit, with their intervals where the report has some (of FNMR(0) none
    where no draw has another, as without any error). A pAUC that is undefined (no error to begin with) is left out.

    Args:
        results_json: The report's `results.json`.
        method (`str`): As the report calls it.

    Returns:
        `list[ResultFacts]`: `dataset` is the benchmark and the FR model whose errors are counted; `basis` has the
        counts behind the rates, floor and share, the draws of the bootstrap, the pairs, and what the report notes.

    Raises:
        HubError: The file is no such report, or has no such method.
    """
    try:
        if reason := file_fault(results_json):
            raise ValueError(reason)
        report = json.loads(Path(results_json).read_text(encoding="utf-8"))
        present = dict.fromkeys(name for entry in report["evaluations"] for name in entry["methods"])
        if method in present:
            evaluations = [entry for entry in report["evaluations"] if method in entry["methods"]]
            return [result for entry in evaluations for result in _evaluation_results(report, entry, method)]
    except (OSError, ValueError) as error:
        raise HubError(f"{results_json}: {first_line(error)}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise HubError(f"{results_json} is no results.json of `diffiqa benchmark`: {first_line(error)}") from error
    raise HubError(f"{results_json} has no method {method!r}; it has {', '.join(present)}")


def _evaluation_results(report: Mapping[str, Any], evaluation: Mapping[str, Any], method: str) -> list[ResultFacts]:
    figures, protocol, benchmark = evaluation["methods"][method], evaluation["protocol"], evaluation["benchmark"]
    names = {"fmr": "FMR", "threshold": "threshold", "starting_fnmr": "starting FNMR"}
    point = next(f"{said} {protocol[name]:g}" for name, said in names.items() if protocol[name] is not None)
    point = f"{point}, protocol {evaluation['protocol_name']}"
    dataset = f"{benchmark}, FR model {evaluation['fr_model']}"
    pairs = [report["settings"]["benchmarks"][benchmark]["protocol"], *evaluation["notes"]]
    errors = f"{figures['false_non_matches']:,} errors in {figures['mated']:,} mated pairs"
    false_matches = f"{figures['false_matches']:,} false matches in {figures['nonmated']:,} non-mated pairs"
    found = []
    if figures["fnmr"] is not None:
        bounds, draws = _bounds(figures.get("fnmr_interval"), evaluation)
        basis = "; ".join([errors, false_matches, *draws, *pairs])
        found.append(ResultFacts("fnmr", f"FNMR at {point}", figures["fnmr"], dataset, **bounds, basis=basis))
    for limit, value in figures["pauc"].items():
        if value is None:
            continue
        parts = [errors]
        context = {kind: figures[kind][limit] for kind in ("floor", "share")}
        parts += [f"{kind} {number:.3g}" for kind, number in context.items() if number is not None]
        bounds, draws = _bounds(figures["interval"][limit], evaluation)
        name = f"{method}: pAUC at discard {limit}, {point}"
        found.append(ResultFacts("pauc", name, value, dataset, **bounds, basis="; ".join([*parts, *draws, *pairs])))
    return found


def _bounds(interval: Sequence[float] | None, evaluation: Mapping[str, Any]) -> tuple[dict[str, float], list[str]]:
    """An interval as [`ResultFacts`] has it, and the draws that it comes from."""
    if interval is None:
        return {}, []
    draws = f"{evaluation['replicates']:,} bootstrap draws of {evaluation['identities']:,} people"
    return {"low": interval[0], "high": interval[1], "confidence": 0.95}, [draws]


def first_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


__all__ = [
    "DataFacts",
    "HubError",
    "ResultFacts",
    "TASK",
    "TRAINING_FILE",
    "TrainingFacts",
    "benchmark_results",
    "read_training",
    "training_source",
]
