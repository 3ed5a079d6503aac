# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The card of a folder of a model, a pipeline or labelled faces, filled in from the folder and from the record in it,
never by hand.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import DatasetCard, DatasetCardData, ModelCard, ModelCardData

from ..file_utils import write_text
from .card_merging import filled_in_for, sign, split_sections
from .folders import TEMPLATES, folder_kind
from .record import (
    TASK,
    TRAINING_FILE,
    DataFacts,
    HubError,
    ResultFacts,
    TrainingFacts,
    first_line,
    read_training,
    record_text,
)


CARD_FILE = "README.md"
PARTS = ("unet", "fr_model")  # of a pipeline, each with weights that a run of its own may have made
PACKAGE = Path(__file__).parents[1]


def shipped_folder(name: str) -> Path:
    """`"model_cards"` or `"pipelines"`: in the installed package, or at the top of the checkout that runs."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


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
            write_text(folder / name / TRAINING_FILE, record_text(part))
    write_text(folder / TRAINING_FILE, record_text(facts))
    write_model_card(folder, facts=facts)


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
    parts = extended_texts(folder, folder_kind(folder), with_results(folder, results, notes, forget))
    for name, text in parts.items():
        write_text(folder / name, text)
    return list(parts)


def with_results(
    folder: Path, results: Iterable[ResultFacts], notes: Iterable[str], forget: str | None = None
) -> TrainingFacts:
    facts = read_training(folder) or TrainingFacts()
    known = [entry for entry in facts.results if forget is None or not entry.dataset.startswith(forget)]
    merged = {(result.metric, result.name, result.dataset): result for result in [*known, *results]}
    return replace(facts, results=list(merged.values()), notes=list(dict.fromkeys([*facts.notes, *notes])))


def extended_texts(folder: Path, kind: str, facts: TrainingFacts, repo_id: str | None = None) -> dict[str, str]:
    """The texts of the card and of the record with these facts, as far as they are other than what is there."""
    texts = {CARD_FILE: complete_card(folder, kind, facts, repo_id), TRAINING_FILE: record_text(facts)}
    paths = {name: folder / name for name in texts}
    return {
        name: text
        for name, text in texts.items()
        if not paths[name].exists() or paths[name].read_text(encoding="utf-8") != text
    }


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
        raise HubError(f"{path}: {first_line(error)}") from error
    earlier = None if text is None else filled_in_for(text)
    repo_id = repo_id or earlier
    card_class = DatasetCard if template == "quality_labels" else ModelCard
    new = card_class(_render(folder, template, facts, repo_id))
    if text is None or earlier is not None:
        return sign(str(new), repo_id)
    try:
        card = card_class(text)
    except ValueError as error:
        raise HubError(f"{path}: {first_line(error)}") from error
    except yaml.YAMLError as error:
        raise HubError(f"{path}: its metadata is no YAML: {first_line(error)}") from error
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
        loader=jinja2.FileSystemLoader(shipped_folder("model_cards")),
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
    from ..calibration import CALIBRATION_NAME, Calibration

    path = folder / CALIBRATION_NAME
    try:
        return Calibration.from_pretrained(path) if path.is_file() else None
    except (OSError, ValueError) as error:
        raise HubError(first_line(error)) from error


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


__all__ = ["CARD_FILE", "add_results", "complete_card", "record_training", "write_model_card"]
