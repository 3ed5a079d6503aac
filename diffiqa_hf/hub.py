# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Folders of models and labelled faces to the Hugging Face Hub, with a card that is filled in from the folder and from
the record that a training run leaves in it (`training.json`), never by hand.
"""

import argparse
import importlib.metadata
import json
import logging
import math
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import (
    CommitOperationAdd,
    DatasetCard,
    DatasetCardData,
    EvalResult,
    HfApi,
    ModelCard,
    ModelCardData,
    get_token,
)
from huggingface_hub import constants as hub_constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from . import __version__
from .card_merging import filled_in_for, merge_cards, sign, split_sections
from .file_utils import file_fault, write_text


logger = logging.getLogger(__name__)

TASK = "face-image-quality-assessment"
TRAINING_FILE = "training.json"
CARD_FILE = "README.md"
TEMPLATES = {
    "diffiqa": "DifFIQAPipeline",
    "face_quality": "a face quality model",
    "face_recognition": "an FR model",
    "quality_labels": "faces with quality labels",
}
PARTS = ("unet", "fr_model")  # of a pipeline, each with weights that a run of its own may have made
_HERE = Path(__file__).parent

# What may hold code that runs when it is read, or weights in a form other than safetensors.
UNSAFE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".h5", ".msgpack", ".npz", ".npy")
# Of a run and not of a model: what a folder of a training script has besides.
NOT_PUSHED = (
    ".*",
    "**/.*",
    "*.tmp",
    "*.tmp/*",
    "*.old/*",
    "**/__pycache__/*",
    "checkpoint-*/*",
    "logs/*",
    "fr_embeddings/*",
)


class HubError(Exception):
    """A folder can't be pushed; the message is the reason in one line."""


# -- what a card says -------------------------------------------------------------------------------------------------


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
        args = None
        if self.low is not None:
            args = {"interval": [self.low, self.high], "confidence": self.confidence}
        if self.basis is not None:
            args = {**(args or {}), "basis": self.basis}
        return EvalResult(
            task_type=TASK,
            task_name="Face image quality assessment",
            dataset_type="face-images",
            dataset_name=self.dataset,
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


def training_facts(
    script: str,
    args: argparse.Namespace,
    argv: Sequence[str] | None,
    dataset: Any,
    accelerator: Any,
    *,
    steps: int,
    results: Iterable[ResultFacts] = (),
    heldout: str | None = None,
) -> TrainingFacts:
    """
    The facts of a run of a training script.

    Args:
        script (`str`): Such as `"training/train_ddpm.py"`.
        args (`argparse.Namespace`): With the options of [`add_hub_arguments`] and of
            [`~diffiqa_hf.training_utils.add_data_arguments`].
        argv (`Sequence[str]`, *optional*): What `args` was made of; the arguments of the process when `None`.
        dataset (`datasets.Dataset`): What was trained on.
        accelerator (`accelerate.Accelerator`): What trained.
        steps (`int`): Of the optimizer.
        results, heldout: As in [`TrainingFacts`]; people by `--holdout_modulo` where `heldout` is not given.
    """
    import torch

    column = args.identity_column
    people = len(set(dataset[column])) if column in dataset.column_names else None
    if heldout is None and args.holdout_modulo:
        heldout = f"the people whose name's CRC-32 is divisible by {args.holdout_modulo}"
    versions = {"Python": platform.python_version(), "torch": torch.__version__.split("+")[0]}
    versions |= {name: importlib.metadata.version(name) for name in ("diffusers", "transformers", "accelerate")}
    return TrainingFacts(
        command=_command(script, sys.argv[1:] if argv is None else argv),
        data=[DataFacts(training_source(args), len(dataset), people, args.training_data_license)],
        results=list(results),
        heldout=heldout,
        steps=steps,
        processes=accelerator.num_processes,
        device=accelerator.device.type,
        license_id=args.weights_license_id,
        license_text=args.weights_license,
        versions=versions,
        notes=args.card_note,
    )


def training_source(args: argparse.Namespace) -> str:
    """What a run's faces are: `--training_data`, or the name of the source, without where it lies on this machine."""
    paths = [args.train_data_dir] if args.train_data_dir else args.train_parquet or []
    return args.training_data or args.dataset_name or ", ".join(f"`{Path(path).name}`" for path in paths)


def _command(script: str, argv: Sequence[str]) -> str:
    """The command of a run, without what concerns the Hub, and without the folders of this machine."""
    kept, skipping = [], False
    for token in argv:
        if token.startswith("--"):
            name = token.split("=")[0]
            skipping = name in _HUB_OPTIONS
            if skipping:
                continue
        elif skipping:
            continue
        option, sign, value = token.partition("=") if token.startswith("--") else ("", "", token)
        kept.append(option + sign + (Path(value).name if os.path.isabs(value) else value))
    return f"accelerate launch {script} {shlex.join(kept)}".rstrip()


def record_training(
    folder: str | os.PathLike, facts: TrainingFacts, parts: Mapping[str, TrainingFacts | None] | None = None
) -> None:
    """
    Writes `training.json` and the model card into a folder that a run has saved; what was there is replaced.

    Args:
        folder: Of a model or a pipeline.
        facts ([`TrainingFacts`]): Of the run.
        parts (`dict[str, TrainingFacts]`, *optional*): Of the parts of a pipeline that other runs have made, by the
            names of their folders: `{"fr_model": read_training("runs/fr/model")}`. `None` for a part: it has none.
    """
    folder = Path(folder)
    (folder / CARD_FILE).unlink(missing_ok=True)
    for name, part in (parts or {}).items():
        if part is not None:
            write_text(folder / name / TRAINING_FILE, _record_text(part))
    write_text(folder / TRAINING_FILE, _record_text(facts))
    write_model_card(folder, facts=facts)


def _record_text(facts: TrainingFacts) -> str:
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
        raise HubError(f"{path}: {_first_line(error)}") from error


# -- figures of a benchmark -------------------------------------------------------------------------------------------


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
        raise HubError(f"{results_json}: {_first_line(error)}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise HubError(f"{results_json} is no results.json of `diffiqa benchmark`: {_first_line(error)}") from error
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
        basis = [errors]
        context = {kind: figures[kind][limit] for kind in ("floor", "share")}
        basis += [f"{kind} {number:.3g}" for kind, number in context.items() if number is not None]
        bounds, draws = _bounds(figures["interval"][limit], evaluation)
        name = f"{method}: pAUC at discard {limit}, {point}"
        found.append(ResultFacts("pauc", name, value, dataset, **bounds, basis="; ".join([*basis, *draws, *pairs])))
    return found


def _bounds(interval: Sequence[float] | None, evaluation: Mapping[str, Any]) -> tuple[dict[str, float], list[str]]:
    """An interval as [`ResultFacts`] has it, and the draws that it comes from."""
    if interval is None:
        return {}, []
    draws = f"{evaluation['replicates']:,} bootstrap draws of {evaluation['identities']:,} people"
    return {"low": interval[0], "high": interval[1], "confidence": 0.95}, [draws]


def add_results(
    folder: str | os.PathLike,
    results: Iterable[ResultFacts] = (),
    notes: Iterable[str] = (),
    forget: str | None = None,
) -> list[str]:
    """
    Adds figures and notes to the record of a folder, `training.json`, and to its card. A card that is as it was filled
    in is written anew; one that somebody has changed is only completed, so a section Results that it has stays.

    Args:
        folder: Of a pipeline or a model.
        results: In place of those in the record that have the same metric, name and dataset.
        notes: As in [`TrainingFacts`]; those that the record has already are not added again.
        forget (`str`, *optional*): Figures of the record whose dataset begins with this (`""`: all) go first.

    Returns:
        `list[str]`: the names of the files that were written.

    Raises:
        HubError: The folder is none that has a card, or its record or its card can't be read.

    Example:

    ```python
    add_results("runs/ddpm/pipeline", benchmark_results("report/results.json", "DifFIQA"))
    ```
    """
    folder = Path(folder)
    parts = _extended(folder, folder_kind(folder), _with_results(folder, results, notes, forget))
    for name, text in parts.items():
        write_text(folder / name, text)
    return list(parts)


def _with_results(
    folder: Path, results: Iterable[ResultFacts], notes: Iterable[str], forget: str | None = None
) -> TrainingFacts:
    facts = read_training(folder) or TrainingFacts()
    known = [entry for entry in facts.results if forget is None or not entry.dataset.startswith(forget)]
    merged = {(result.metric, result.name, result.dataset): result for result in [*known, *results]}
    return replace(facts, results=list(merged.values()), notes=list(dict.fromkeys([*facts.notes, *notes])))


def _extended(folder: Path, kind: str, facts: TrainingFacts, repo_id: str | None = None) -> dict[str, str]:
    """The texts of the card and of the record with these facts, as far as they are other than what is there."""
    texts = {CARD_FILE: complete_card(folder, kind, facts, repo_id), TRAINING_FILE: _record_text(facts)}
    paths = {name: folder / name for name in texts}
    return {
        name: text
        for name, text in texts.items()
        if not paths[name].exists() or paths[name].read_text(encoding="utf-8") != text
    }


# -- cards ------------------------------------------------------------------------------------------------------------


def write_model_card(
    folder: str | os.PathLike,
    template: str | None = None,
    facts: TrainingFacts | None = None,
    repo_id: str | None = None,
) -> bool:
    """
    Writes `README.md` into a folder, also in place of one that is as it was written so. One that somebody has written
    or changed is completed: sections and metadata that it has not are added, what it has stays.

    Args:
        folder: As `save_pretrained` has written it, or of labels.
        template (`str`, *optional*): One of `TEMPLATES`; told from the folder when not given.
        facts ([`TrainingFacts`], *optional*): Of the run; those in the folder when not given.
        repo_id (`str`, *optional*): Where it will be, for the examples; the folder's name when not given.

    Returns:
        `bool`: whether anything was written.

    Raises:
        HubError: The folder is none that a card could be written of, or the card that is there can't be read.
    """
    path = Path(folder) / CARD_FILE
    text = complete_card(folder, template, facts, repo_id)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    write_text(path, text)
    return True


def complete_card(
    folder: str | os.PathLike,
    template: str | None = None,
    facts: TrainingFacts | None = None,
    repo_id: str | None = None,
) -> str:
    """The text that [`write_model_card`] writes, with the same arguments and errors."""
    folder = Path(folder)
    template = template or folder_kind(folder)
    if template not in TEMPLATES:
        raise HubError(f"there is no card template {template!r}; there are {', '.join(TEMPLATES)}")
    facts = facts or read_training(folder)
    path = folder / CARD_FILE
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else None
    except (OSError, ValueError) as error:
        raise HubError(f"{path}: {_first_line(error)}") from error
    earlier = None if text is None else filled_in_for(text)
    repo_id = repo_id or earlier
    card_class = DatasetCard if template == "quality_labels" else ModelCard
    new = card_class(_render(folder, template, facts, repo_id))
    if text is None or earlier is not None:
        return sign(str(new), repo_id)
    try:
        card = card_class(text)
    except ValueError as error:
        raise HubError(f"{path}: {_first_line(error)}") from error
    except yaml.YAMLError as error:
        raise HubError(f"{path}: its metadata is no YAML: {_first_line(error)}") from error
    known = card.data.to_dict()
    for name, value in new.data.to_dict().items():
        # The name of a licence belongs to the licence that it came with.
        if name not in known and not (name == "license_name" and "license" in known):
            card.data[name] = value
    if "model-index" not in known and getattr(new.data, "eval_results", None):
        card.data.model_name, card.data.eval_results = new.data.model_name, new.data.eval_results
        card.data.pop("model-index")
    have = {line.strip() for line in card.text.splitlines() if line.startswith("## ")}
    added = [section for title, section in split_sections(new.text) if title not in have]
    text = card.text.rstrip() + "".join(f"\n\n{section}" for section in added) + "\n"
    line_break = "\r\n" if "\r\n" in card.content else "\n"
    return f"---{line_break}{card.data.to_yaml(line_break=line_break)}{line_break}---{line_break}{text.lstrip()}"


def _render(folder: Path, template: str, facts: TrainingFacts | None, repo_id: str | None) -> str:
    import jinja2

    described = _describe_labels(folder) if template == "quality_labels" else _describe_model(folder, template)
    shown = {item.name: getattr(facts, item.name, None) for item in fields(TrainingFacts)}
    shown |= {name: value for name, value in described.items() if shown.get(name) is None}
    repo_id = repo_id or folder.resolve().name
    shown |= {"repo_id": repo_id, "calibration": _calibration(folder), **_describe_runs(folder, template, facts)}
    metadata: dict[str, Any] = {"tags": described["tags"]}
    if shown["license_id"]:
        metadata["license"] = shown["license_id"]
    elif shown["license_text"]:
        metadata["license"] = "other"
    if metadata.get("license") == "other":
        metadata["license_name"] = shown["license_text"] or "not recorded"
    if template == "quality_labels":
        configs = [{"config_name": "default", "data_files": "data/*.parquet"}]
        data = DatasetCardData(pretty_name=described["title"], configs=configs, **metadata)
    else:
        data = ModelCardData(library_name=described["library"], **metadata)
        if facts is not None and facts.results:
            data.model_name = repo_id.split("/")[-1]
            data.eval_results = [result.eval_result() for result in facts.results]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "model_cards"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": lambda value: f"{value:.4g}",
        "cell": lambda text: " ".join(text.split()).replace("|", "\\|"),
        "how": _how_it_ran,
    }
    text = environment.get_template(f"{template}.md").render(card_data=data.to_yaml(), f=shown)
    return re.sub(r"\n{3,}", "\n\n", text)


def _describe_runs(folder: Path, template: str, facts: TrainingFacts | None) -> dict[str, Any]:
    """
    The records of the runs behind a folder by the part that they made, "" where there is one alone; what they say of
    data, by the parts that say it; and the parts without a run.
    """
    names = PARTS if template == "diffiqa" else ()
    found = {name: read_training(folder / name) for name in names}
    parts = {f"`{name}`": part for name, part in found.items() if part is not None}
    records = {} if facts is None else {"the pipeline" if parts else "": facts}
    records |= parts
    data: dict[DataFacts, list[str]] = {}
    heldout: dict[str, list[str]] = {}
    for name, record in records.items():
        for entry in record.data:
            data.setdefault(entry, []).append(name)
        if record.heldout:
            heldout.setdefault(record.heldout, []).append(name)
    known = {name for name, part in found.items() if part is not None and part.command}
    if facts is not None and facts.command:
        known |= {"unet"}  # train_ddpm.py saves a pipeline
    unrecorded = [name for name in names if name not in known] if known else []
    return {"records": records, "labelled": bool(parts), "data": data, "heldout": heldout, "unrecorded": unrecorded}


def _calibration(folder: Path) -> Any:
    """The [`Calibration`] in a folder, or `None`."""
    # Here, because it needs torch.
    from .calibration import CALIBRATION_NAME, Calibration

    path = folder / CALIBRATION_NAME
    try:
        return Calibration.from_pretrained(path) if path.is_file() else None
    except (OSError, ValueError) as error:
        raise HubError(_first_line(error)) from error


def _how_it_ran(facts: TrainingFacts) -> str:
    """`"1234 steps, 2 processes on cuda; torch 2.13.0."`, as far as it is known."""
    counts = [(facts.steps, "step", "steps"), (facts.processes, "process", "processes")]
    ran = ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in counts if count)
    ran = f"{ran} on {facts.device}".strip() if facts.device else ran
    said = "; ".join(filter(None, (ran, ", ".join(f"{name} {version}" for name, version in facts.versions.items()))))
    return f"{said}." if said else ""


def _describe_model(folder: Path, template: str) -> dict[str, Any]:
    rows = {}
    if template == "diffiqa":
        index = json.loads((folder / "model_index.json").read_text())
        for name in ("unet", "fr_model"):
            config = json.loads((folder / name / "config.json").read_text())
            rows[name] = f"{index[name][1]}, {_count_parameters(folder / name):,} parameters"
            if config.get("embedding_size"):
                rows[name] += f", embeddings of {config['embedding_size']} values"
            for key, said in (("training_data", "trained on"), ("weights_license", "licence")):
                if value := config.pop(key, None):  # of this part alone
                    rows[f"{name}, {said}"] = value
        settings = ("num_timesteps", "num_inference_steps", "num_repeats", "off_by_one", "duplicate_last_step")
        rows |= {name: index[name] for name in settings if index.get(name) is not None}
        title, library, size = f"DifFIQA: {folder.resolve().name}", "diffusers", _face_size(folder / "image_processor")
    else:
        config = json.loads((folder / "config.json").read_text())
        class_name = config["architectures"][0]
        rows["model"] = f"{class_name}, {_count_parameters(folder):,} parameters"
        if template == "face_recognition":
            length = "of unit length" if config.get("normalize_embedding") else "not normalised"
            rows["embeddings"] = f"{config.get('embedding_size')} values, {length}"
        elif config.get("quality_normalization"):
            constants = config["quality_normalization"]
            parts = constants.get("columns", [])
            named = [f"{part['weight']:.3g} of `{part['column']}` ({_constants(part)})" for part in parts]
            rows["labels"] = " + ".join(named) or _constants(constants)
        title, library, size = f"{class_name}: {folder.resolve().name}", "transformers", _face_size(folder)
    rows["input"] = f"aligned faces, RGB in [-1, 1], {size}"
    return {
        "title": title,
        "library": library,
        "size": size,
        "rows": rows,
        "tags": ["face-recognition" if template == "face_recognition" else TASK, "diffiqa_hf"],
        "training_data": config.get("training_data"),
        "license_text": config.get("weights_license"),
    }


def _constants(normalization: dict) -> str:
    """The constants of a normalisation in words, without the table of a rank."""
    left_out = ("columns", "column", "weight", "values", "levels")
    return ", ".join(f"{name} {value}" for name, value in normalization.items() if name not in left_out)


def _face_size(folder: Path) -> str:
    path = folder / "preprocessor_config.json"
    size = json.loads(path.read_text()).get("size") if path.exists() else None
    return f"{size['height']}x{size['width']}" if size else "112x112"


def _count_parameters(folder: Path) -> int:
    """Numbers in the weights of a component but for running statistics; they are not read."""
    from safetensors import safe_open

    counts = {}  # by tensor: a variant, as `model.fp16.safetensors`, has the same ones
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                if not name.rpartition(".")[2].startswith(("running_", "num_batches_")):
                    counts[name] = math.prod(file.get_slice(name).get_shape())
    return sum(counts.values())


def _describe_labels(folder: Path) -> dict[str, Any]:
    manifest = json.loads((folder / "manifest.json").read_text())
    settings, described = manifest["settings"], manifest.get("described", {})
    rows = {"rows": f"{manifest['rows']:,}, {manifest['failed']:,} of them without a score"}
    rows |= {"source": f"`{Path(str(described.get('source'))).name}`", "diffiqa_hf": described.get("diffiqa_hf")}
    rows |= {name: f"`{value}`" for name, value in settings.items() if name != "method"}
    return {
        "title": f"Quality labels: {folder.resolve().name}",
        "rows": rows,
        "method": settings["method"],
        "tags": [TASK, "diffiqa_hf"],
        "training_data": f"`{Path(str(described.get('source'))).name}`",
        "license_text": None,
    }


# -- folders ----------------------------------------------------------------------------------------------------------


def folder_kind(folder: str | os.PathLike) -> str:
    """
    Which of `TEMPLATES` a folder is.

    Raises:
        HubError: None of them.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise HubError(f"{folder} is no folder")
    try:
        if (folder / "model_index.json").exists():
            name = json.loads((folder / "model_index.json").read_text())["_class_name"]
            if name == "DifFIQAPipeline":
                return "diffiqa"
            raise HubError(f"{folder} is a {name} and no DifFIQAPipeline")
        if (folder / "manifest.json").exists():
            manifest = json.loads((folder / "manifest.json").read_text())
            if not manifest["complete"]:
                raise HubError(f"the labels in {folder} are not complete: start the script that makes them again")
            return "quality_labels"
        if (folder / "config.json").exists():
            names = json.loads((folder / "config.json").read_text()).get("architectures")
            if names:
                return "face_quality" if names[0].endswith("ForFaceQuality") else "face_recognition"
    except (OSError, ValueError, KeyError) as error:
        raise HubError(f"{folder}: {_first_line(error)}") from error
    raise HubError(f"{folder} holds no pipeline, no face model and no labels (model_index.json, config.json, ...)")


def check_folder(folder: str | os.PathLike) -> str:
    """
    Whether a folder may be pushed: it loads, all its weights are safetensors, none of them is missing, left over, NaN
    or infinite.

    Returns:
        `str`: which of `TEMPLATES` it is.

    Raises:
        HubError: It may not.
    """
    # Here, because it needs torch.
    from .models.loading import LoadingError

    folder = Path(folder)
    kind = folder_kind(folder)
    unsafe = sorted(str(path.relative_to(folder)) for path in _pushed_files(folder) if path.suffix in UNSAFE_SUFFIXES)
    if unsafe:
        more = f" and {len(unsafe) - 1} more" if len(unsafe) > 1 else ""
        raise HubError(f"{folder}: {unsafe[0]}{more}: only safetensors are pushed (`diffiqa convert` makes them)")
    try:
        for name, component in _load(folder, kind).items():
            _check_weights(name, component)
    except HubError as error:
        raise HubError(f"{folder}: {error}") from error
    except LoadingError as error:
        raise HubError(str(error)) from error
    except Exception as error:  # whatever the libraries trip over in a folder that isn't whole
        raise HubError(f"{folder} does not load: {_first_line(error)}") from error
    return kind


def _load(folder: Path, kind: str) -> dict[str, Any]:
    """The models of a folder by name."""
    if kind == "quality_labels":
        import pyarrow.parquet as pq

        for shard in json.loads((folder / "manifest.json").read_text())["shards"]:
            if pq.read_metadata(folder / shard["file"]).num_rows != shard["rows"]:
                raise HubError(f"{shard['file']} has another number of rows than the manifest says")
        return {}
    if kind == "diffiqa":
        from .pipeline_diffiqa import NETWORKS, DifFIQAPipeline

        pipe = DifFIQAPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        return {name: getattr(pipe, name) for name in NETWORKS}
    from .conversion.networks import load_fr_model, load_quality_model

    return {"the model": load_quality_model(folder) if kind == "face_quality" else load_fr_model(folder)}


def _check_weights(name: str, model: Any) -> None:
    broken = [key for key, tensor in model.state_dict().items() if not tensor.isfinite().all()]
    if broken:
        raise HubError(f"{name} has NaN or infinite weights ({broken[0]}, ...)")


def complete_folder(
    folder: str | os.PathLike, kind: str, repo_id: str | None = None, facts: TrainingFacts | None = None
) -> dict[str, str]:
    """
    What a folder still needs to be loaded from the Hub in every way: the text of `README.md` where it is missing or
    not whole, and where there is none, of `pipeline.py` for a pipeline, of `preprocessor_config.json` for a model.

    Args:
        folder, repo_id: As in [`write_model_card`].
        kind (`str`): One of `TEMPLATES`.
        facts ([`TrainingFacts`], *optional*): In place of those in the folder, whose `training.json` is then among the
            files.

    Returns:
        `dict[str, str]`: texts by the names of the files.
    """
    folder = Path(folder)
    parts = {}
    if kind == "diffiqa":
        if not (folder / "pipeline.py").exists():
            parts["pipeline.py"] = (_HERE / "pipelines" / "diffiqa" / "pipeline.py").read_text(encoding="utf-8")
    elif kind != "quality_labels" and not (folder / "preprocessor_config.json").exists():
        from .image_processing_face import FaceImageProcessor

        config = json.loads((folder / "config.json").read_text())
        # These resize: faces are made at their size at once.
        size = dict(zip(("height", "width"), config["crop_size"], strict=True))
        processor = FaceImageProcessor(
            size=size if config["model_type"] in ("clib_fiqa", "faceqnet", "lightqnet", "pcnet") else None
        )
        parts["preprocessor_config.json"] = processor.to_json_string()
    if facts is not None:
        return parts | _extended(folder, kind, facts, repo_id)
    card, path = complete_card(folder, kind, repo_id=repo_id), folder / CARD_FILE
    if not path.exists() or path.read_text(encoding="utf-8") != card:
        parts[CARD_FILE] = card
    return parts


def component_files(folder: str | os.PathLike) -> dict[str, str]:
    """
    What `DiffusionPipeline.from_pretrained(repo, custom_pipeline=...)` needs beside the components of a pipeline that
    are of another library: a module in the component's folder, since diffusers fetches no pipeline without it
    (`_get_custom_components_and_folders`, seen in 0.42). Each only imports the class from where it is installed. They
    go to the Hub and not into the folder, where diffusers would ask for `trust_remote_code` because of them.

    Returns:
        `dict[str, str]`: texts by the names of the files.
    """
    parts = {}
    for name, entry in json.loads((Path(folder) / "model_index.json").read_text()).items():
        if isinstance(entry, list) and entry[0] and entry[0].split(".")[0] not in ("diffusers", "transformers"):
            module, class_name = entry
            parts[f"{name}/{module}.py"] = (
                f'"""For `DiffusionPipeline.from_pretrained` with `custom_pipeline`: pip install '
                f'{module.split(".")[0]}."""\n\nfrom {module} import {class_name}\n\n\n__all__ = ["{class_name}"]\n'
            )
    return parts


def _pushed_files(folder: Path) -> list[Path]:
    from huggingface_hub.utils import filter_repo_objects

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return list(
        filter_repo_objects(files, ignore_patterns=list(NOT_PUSHED), key=lambda p: p.relative_to(folder).as_posix())
    )


# -- the Hub ----------------------------------------------------------------------------------------------------------


def push_folder(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
    results: Iterable[ResultFacts] = (),
    notes: Iterable[str] = (),
) -> tuple[str | None, list[str], list[str]]:
    """
    Uploads a folder to the Hub, in one commit, so that no revision has half a model. What is missing in it (see
    [`complete_folder`]) is written into it first. What somebody has changed in the card on the Hub stays there (see
    [`~diffiqa_hf.card_merging.merge_cards`]).

    Args:
        folder: Of a pipeline, an FR model, a face quality model, or of labels, which become a dataset.
        repo_id (`str`): `"name"` or `"owner/name"`; it is made when it is not there.
        private (`bool`, *optional*): Of a repository that is made. Labels, which come with the faces, are private
            unless this is `False`; models are as the account has it.
        revision (`str`, *optional*): Branch, which is made when it is not there.
        commit_message (`str`, *optional*): In place of ours.
        token (`str`, *optional*): In place of the one that `hf auth login` or HF_TOKEN has left.
        dry_run (`bool`, *optional*, defaults to `False`): Checks the folder, and writes and uploads nothing.
        results, notes: Are added to the record of the folder and to its card first, as [`add_results`] does.

    Returns:
        The address of the commit (`None` in a dry run), the files that were (or would be) written, and those that were
        (or would be) uploaded.

    Raises:
        HubError: The folder can't be pushed, or the Hub says no.
    """
    folder = Path(folder)
    kind = check_folder(folder)
    results, notes = list(results), list(notes)
    facts = _with_results(folder, results, notes) if results or notes else None
    parts = complete_folder(folder, kind, repo_id, facts)
    beside = component_files(folder) if kind == "diffiqa" else {}
    uploaded = {path.relative_to(folder).as_posix() for path in _pushed_files(folder)} | {*parts, *beside}
    uploaded = sorted(uploaded)
    if dry_run:
        return None, list(parts), uploaded
    token = check_login(token)
    dataset = kind == "quality_labels"
    api = HfApi(token=token, library_name="diffiqa_hf", library_version=__version__)
    repo_type = "dataset" if dataset else "model"
    message = commit_message or f"{TEMPLATES[kind]}, by diffiqa_hf {__version__}"
    try:
        asked = True if dataset and private is None else private
        repo_id = api.create_repo(repo_id, private=asked, exist_ok=True, repo_type=repo_type).repo_id
        if private and not api.repo_info(repo_id, repo_type=repo_type).private:
            raise HubError(f"{repo_id} is there already, and public: nothing is uploaded to it as private")
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True, repo_type=repo_type)
        # Once more with the owner in it, which the Hub has told us.
        parts = complete_folder(folder, kind, repo_id, facts)
        for name, text in parts.items():
            write_text(folder / name, text)
        beside |= _merged_card(api, folder, repo_id, revision, repo_type)
        common = {"repo_id": repo_id, "revision": revision, "repo_type": repo_type, "commit_message": message}
        operations = [
            CommitOperationAdd(name, beside[name].encode() if name in beside else str(folder / name))
            for name in (beside if dataset else uploaded)
        ]
        if dataset:  # may be large, and is worth having in parts
            commit = api.upload_folder(folder_path=folder, ignore_patterns=[*NOT_PUSHED, *beside], **common)
        if operations:
            commit = api.create_commit(operations=operations, **common)
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError, ValueError) as error:
        raise HubError(f"cannot push to {repo_id}: {hub_reason(error)}") from error
    return str(commit.commit_url), list(parts), uploaded


def _merged_card(api: HfApi, folder: Path, repo_id: str, revision: str | None, repo_type: str) -> dict[str, str]:
    """The card by its name, where somebody has changed the one on the Hub: what is theirs stays."""
    try:
        there = api.hf_hub_download(repo_id, CARD_FILE, revision=revision, repo_type=repo_type)
    except (EntryNotFoundError, RevisionNotFoundError):  # none yet, or a repository without a commit
        return {}
    new = (folder / CARD_FILE).read_text(encoding="utf-8")
    try:
        merged = merge_cards(Path(there).read_text(encoding="utf-8"), new)
    except (yaml.YAMLError, ValueError) as error:
        raise HubError(
            f"the card of {repo_id} can't be read, so that it can't be kept: {_first_line(error)}"
        ) from error
    if merged == new:
        return {}
    logger.info(f"what was changed in the card of {repo_id} stays")
    return {CARD_FILE: merged}


def check_login(token: str | None = None) -> str:
    """
    The token that is given, or the one of this machine.

    Raises:
        HubError: There is none, or the Hub can't be reached because this process is offline.
    """
    if hub_constants.HF_HUB_OFFLINE:
        raise HubError("the Hub is switched off here (HF_HUB_OFFLINE)")
    token = token or get_token()
    if token is None:
        raise HubError("no token for the Hub: `hf auth login`, or set HF_TOKEN")
    return token


def hub_reason(error: BaseException) -> str:
    """In one line why the Hub, or its client, has said no; the first line of any other error."""
    if isinstance(error, GatedRepoError):
        return "the repository is gated: ask for access on its page, and log in"
    if isinstance(error, RevisionNotFoundError):
        return "there is no such revision"
    if isinstance(error, RepositoryNotFoundError):
        hint = "" if get_token() else ", or it is private and there is no token: `hf auth login`, or set HF_TOKEN"
        return (
            f"there is no such repository for this token{hint}" if not hint else f"there is no such repository{hint}"
        )
    if isinstance(error, OfflineModeIsEnabled):
        return "the Hub is switched off here (HF_HUB_OFFLINE)"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        said = error.server_message or _first_line(error)
        if status == 401:
            return f"the Hub does not take the token ({said})"
        return f"the Hub says {status}: {said}"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


# -- the training scripts ---------------------------------------------------------------------------------------------

_HUB_OPTIONS = (
    "--card_note",
    "--push_to_hub",
    "--hub_model_id",
    "--hub_private",
    "--hub_revision",
    "--resume_from_checkpoint",
    "--training_data",
    "--training_data_license",
    "--weights_license",
    "--weights_license_id",
)


def add_hub_arguments(parser: argparse.ArgumentParser, card: bool = True) -> None:
    """The options of a training script for the card (what only a person knows) and for the Hub."""
    if card:
        group = parser.add_argument_group("model card")
        group.add_argument("--training_data", help="what the faces are, in words (default: the name of the source)")
        group.add_argument("--training_data_license", help="of the faces, in words")
        group.add_argument("--weights_license", help='of the weights, in words: "for research only"')
        group.add_argument("--weights_license_id", help="of the weights, as the Hub names it: apache-2.0, other, ...")
        group.add_argument(
            "--card_note",
            action="append",
            default=[],
            metavar="TEXT",
            help="what no run can know and a reader has to; may be given several times",
        )
    hub = parser.add_argument_group("Hub")
    hub.add_argument(
        "--push_to_hub",
        action="store_true",
        help="upload the result; the token is that of `hf auth login` or HF_TOKEN",
    )
    hub.add_argument("--hub_model_id", help="name or owner/name of the repository (default: name of --output_dir)")
    hub.add_argument("--hub_private", action="store_true", default=None, help="make a private repository")
    hub.add_argument("--hub_revision", help="branch to upload to (default: main)")


def check_hub_arguments(args: argparse.Namespace) -> None:
    """
    Before a run of days: whether there will be a token at its end.

    Raises:
        HubError: It is asked to push and there is none, or it is not valid.
    """
    if args.push_to_hub:
        try:
            HfApi(token=check_login()).whoami()
        except HfHubHTTPError as error:
            raise HubError(f"--push_to_hub: {hub_reason(error)}") from error


def push_when_asked(args: argparse.Namespace, folder: str | os.PathLike) -> str | None:
    """
    Pushes what a run has made, where `--push_to_hub` asks for it; the main process calls it when all is saved.

    Returns:
        `str`: the address of the commit, or `None` where nothing was asked for.

    Raises:
        HubError: It was not pushed. The run is done and the folder is whole: `diffiqa push` does it later.
    """
    if not args.push_to_hub:
        return None
    repo_id = args.hub_model_id or Path(args.output_dir).resolve().name
    try:
        url, _, _ = push_folder(folder, repo_id, private=args.hub_private, revision=args.hub_revision)
    except HubError as error:
        raise HubError(f"{error}. The result is in {folder}: `diffiqa push` uploads it") from error
    logger.info(f"pushed to {url}")
    return url


__all__ = [
    "DataFacts",
    "HubError",
    "ResultFacts",
    "TrainingFacts",
    "add_hub_arguments",
    "add_results",
    "benchmark_results",
    "check_folder",
    "check_hub_arguments",
    "check_login",
    "complete_card",
    "complete_folder",
    "component_files",
    "folder_kind",
    "hub_reason",
    "push_folder",
    "push_when_asked",
    "read_training",
    "record_training",
    "training_facts",
    "training_source",
    "write_model_card",
]
