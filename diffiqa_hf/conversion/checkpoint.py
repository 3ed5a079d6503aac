# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""From a published checkpoint file to a folder that `from_pretrained` loads."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedConfig

from .. import models
from ..image_processing_face import FaceImageProcessor
from ..methods.cards import CARDS, MethodCard
from ..models.loading import COUNTERS
from ..version import __version__
from . import DIALECTS, Dialect, get_dialect, recognise
from .dialects.unet import choose_weights
from .errors import CheckpointError
from .loading import ForeignStateDict, find_state_dict, read_checkpoint


@dataclass
class ConvertedCheckpoint:
    """
    A model made of a foreign file.

    Args:
        model (`nn.Module`): In float32, in evaluation mode.
        dialect (`Dialect`): Of the file.
        file_name (`str`), sha256 (`str`): Of the file.
        weights (`str`, *optional*): `"ema"` or `"model"` where the file had both.
        dropped (`list[str]`): Tensors that belong to the training and not to the network.
    """

    model: nn.Module
    dialect: Dialect
    file_name: str
    sha256: str
    weights: str | None
    dropped: list[str]


def load_foreign(
    source: str | os.PathLike,
    dialect: str | None = None,
    *,
    weights: str | None = None,
    allow_pickle_globals: Iterable[str] = (),
) -> ConvertedCheckpoint:
    """
    Our model with the weights of a published file, loaded strictly: every tensor has its place, and every place its
    tensor.

    Args:
        source: The file: `.pth`, `.pt`, `.ckpt`, `.bin` or `.safetensors`, as `torch.save` or safetensors wrote it.
        dialect (`str`, *optional*): Name of one of [`DIALECTS`]; recognised from the tensors' names when not given.
        weights (`str`, *optional*): `"ema"` or `"model"`, for a training checkpoint of DifFIQA's authors, which has
            both; the average, as in the paper, when not given.
        allow_pickle_globals: As for [`read_checkpoint`].

    Raises:
        CheckpointError: The file can't be converted; the message is the reason in one line.
        ValueError: There is no such dialect.
    """
    known = None if dialect is None else get_dialect(dialect)
    part, weights = choose_weights(read_checkpoint(source, allow_pickle_globals), weights)
    found = _unwrap(find_state_dict(part))
    known = _check_dialect(known, found)
    convert = known.load_converter()
    # PyTorch up to 0.4.0 had no counters in its batch normalisations.
    norms = [name.removesuffix("running_mean") for name in found.tensors if name.endswith(".running_mean")]
    counters = {f"{norm}{COUNTERS}": torch.tensor(0) for norm in norms}
    try:
        config, state_dict = convert(counters | found.tensors)
        model = _build(known, config)
    except Exception as error:  # whatever it trips over where names begin like the dialect's and go on otherwise
        text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        if isinstance(error, KeyError) and " " not in text:
            text = f"1 missing ({text})"
        lines = text.strip().splitlines() or [type(error).__name__]
        raise CheckpointError(f"not the tensors of {known.name}: {lines[0]}") from error
    _load_strictly(model, state_dict, known)
    digest = hashlib.sha256()
    with open(source, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return ConvertedCheckpoint(
        model, known, os.path.basename(os.fspath(source)), digest.hexdigest(), weights, found.dropped
    )


def save_converted(converted: ConvertedCheckpoint, dest: str | os.PathLike, *, overwrite: bool = False) -> None:
    """
    Writes a folder with the configuration, the weights as safetensors, a model card and, but for a UNet, the image
    processor. It is written beside `dest` and renamed, so `dest` is never half there.

    Args:
        overwrite (`bool`, *optional*, defaults to `False`): Whether a model in `dest` is replaced.

    Raises:
        OSError: `dest` is in the way (see [`check_dest`]) or can't be written.
    """
    check_dest(dest, overwrite)
    dest = Path(dest).resolve()  # where a link leads
    with written_beside(dest) as folder:
        converted.model.save_pretrained(folder)
        if not isinstance(converted.model, models.DifFIQAUNetModel):
            processor = FaceImageProcessor()
            if _is_quality_model(converted.model):
                card = _method_card(converted.dialect)
                processor = card.load_class()(card, converted.model).image_processor  # of the size that it takes
            processor.save_pretrained(folder)
        (folder / "README.md").write_text(model_card(converted), encoding="utf-8")


def check_dest(dest: str | os.PathLike, overwrite: bool = False) -> None:
    """
    Whether a folder may be written to `dest`: it is not there, empty, or, with `overwrite`, holds a model.

    Raises:
        OSError: It may not.
    """
    dest = Path(dest)
    above = next(path for path in dest.absolute().parents if path.exists())
    if not above.is_dir():
        raise NotADirectoryError(f"{above} is no folder")
    if not os.path.lexists(dest):
        return
    if not dest.is_dir():
        raise FileExistsError(f"{dest} is there already and is no folder")
    inside = os.listdir(dest)
    if not inside:
        return
    if not overwrite:
        raise FileExistsError(f"the folder {dest} is not empty (--overwrite replaces a model)")
    if "config.json" not in inside:
        raise FileExistsError(f"the folder {dest} holds no model, so it is not overwritten")


def model_card(converted: ConvertedCheckpoint) -> str:
    """The README.md of a converted folder: where the weights come from, what goes in, what comes out."""
    model, dialect = converted.model, converted.dialect
    class_name = type(model).__name__
    # A file name may hold anything, undecodable bytes and line breaks as well.
    file_name = converted.file_name.encode("utf-8", "backslashreplace").decode().replace("`", "'").replace("|", "_")
    file_name = " ".join(file_name.split())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rows = {
        "source file": f"`{file_name}`",
        "its SHA-256": f"`{converted.sha256}`",
        "dialect": f"{dialect.name}: {dialect.description}",
        "published at": f"{dialect.source} (the files of this dialect; this one may have come by another way)",
        "licence of the weights": f"{dialect.license} (as published there)",
        "parameters": f"{parameters:,}",
    }
    if converted.weights:
        which = {"ema": "the exponential moving average, as in the paper", "model": "the raw weights of the last step"}
        rows["weights"] = which[converted.weights]
    if converted.dropped:
        rows["left out"] = f"{len(converted.dropped)} tensors of the training ({_some(converted.dropped)})"
    quality = _is_quality_model(model)
    rows |= _quality_interface(dialect) if quality else _interface(model)
    if isinstance(model, models.DifFIQAUNetModel):
        library, tags = "diffusers", "face-image-quality-assessment"
        use = f"from diffiqa_hf import DifFIQAPipeline, {class_name}\n\n"
        use += f'unet = {class_name}.from_pretrained("this folder")\n'
        use += 'pipe = DifFIQAPipeline.from_pretrained("default", unet=unet)'
    elif quality:
        library, tags = "transformers", "face-image-quality-assessment"
        name = _method_card(dialect).name
        use = "from diffiqa_hf import load_method\n\n"
        use += f'method = load_method("{name}", weights="this folder")\n'
        use += 'method(["face.png"]).scores  # of images that are aligned crops'
        use += f"\n```\n\n```bash\ndiffiqa score faces/ --method {name} --weights 'this folder'"
    else:
        library, tags = "transformers", "face-recognition"
        use = f"from diffiqa_hf import FaceImageProcessor, {class_name}\n\n"
        use += f'model = {class_name}.from_pretrained("this folder")\n'
        use += 'faces = FaceImageProcessor()(["face.png"], return_tensors="pt")  # aligned 112x112 crops\n'
        use += "model(**faces).embeddings"
        use += "\n```\n\nAs the face recognition model of DifFIQA:\n\n```bash\n"
        use += "diffiqa score faces/ --fr-model 'this folder'"
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""\
---
library_name: {library}
license: {dialect.license_id}
tags: [{tags}]
---
# {class_name} from `{file_name}`

Converted by diffiqa_hf {__version__}. The weights are those of their authors: cite them, and keep to their licence.

| | |
|---|---|
{table}

```python
{use}
```
"""


def _method_card(dialect: Dialect) -> MethodCard:
    """That of the method whose published files are of this dialect."""
    return next(card for card in CARDS if card.dialect == dialect.name)


def _quality_interface(dialect: Dialect) -> dict[str, str]:
    card = _method_card(dialect)
    return {
        "method": f"`{card.name}` (`diffiqa methods {card.name}` prints all that there is to know of it)",
        "input": "crops aligned to the ArcFace template, of which the method makes what the network works on: "
        + card.input,
        "score": card.formula,
        "range": card.raw_range,
        "direction": card.direction,
    }


def _interface(model: nn.Module) -> dict[str, str]:
    config = model.config
    if isinstance(model, models.DifFIQAUNetModel):
        return {
            "input": f"noisy faces, RGB in [-1, 1], {config.sample_size}x{config.sample_size}, and the index of the "
            "noise level, counted from 0",
            "output": "the clean face in the same form (`prediction_type` sample)",
        }
    mean, std = (tuple(round(value, 4) for value in values) for values in (config.image_mean, config.image_std))
    height, width = config.crop_size
    part = f"the middle {height}x{width} pixels"
    if chip_size := getattr(config, "chip_size", None):
        part = f"dlib's chips of {chip_size}x{chip_size} pixels, by a fixed scale and shift"
    length = "of unit length" if config.normalize_embedding else "not normalised"
    return {
        "input": "canonical faces: RGB in [-1, 1], 112x112, aligned to the ArcFace template",
        "inside": f"the model itself makes of them what the weights were trained on: {part}, "
        f"{config.channel_order.upper()}, mean {mean} and standard deviation {std} on the [0, 1] scale",
        "output": f"embeddings of {config.embedding_size} values, {length}",
    }


def _is_quality_model(model: nn.Module) -> bool:
    return type(model).__name__.endswith("ForFaceQuality")


def _unwrap(found: ForeignStateDict) -> ForeignStateDict:
    """Without whatever stands before all the names, as far as a dialect is to be seen behind it."""
    tensors, prefix = found.tensors, found.prefix
    while not recognise(tensors, prefix):
        first = next(iter(tensors)).partition(".")[0] + "."
        if not all(name.startswith(first) and len(name) > len(first) for name in tensors):
            return found
        tensors = {name[len(first) :]: tensor for name, tensor in tensors.items()}
        prefix += first
    return ForeignStateDict(tensors, prefix, found.dropped)


def _check_dialect(known: Dialect | None, found: ForeignStateDict) -> Dialect:
    """The file's dialect: the one that was named, if the file can be of it, or the only one that it can be of."""
    names = found.tensors
    candidates = recognise(names, found.prefix)
    others = ", ".join(dialect.name for dialect in candidates)
    if known is None:
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise CheckpointError(f"the names of the tensors fit several dialects, say which with --from: {others}")
        listed = ", ".join(dialect.name for dialect in DIALECTS)
        raise CheckpointError(f"of no known dialect ({listed}); its tensors are {_some(names)}")
    if known.matches(names):
        return known
    missing = [name for name in known.has if name not in names]
    unexpected = [name for name in known.lacks if name in names]
    reason = f"missing {_some(missing)}" if missing else f"unexpected {_some(unexpected)}"
    hint = f"; they look like {others}" if candidates else f"; its tensors are {_some(names)}"
    raise CheckpointError(f"not the tensors of {known.name}: {reason}{hint}")


def _build(dialect: Dialect, config: PreTrainedConfig | dict) -> nn.Module:
    classes = dialect.load_model_classes()
    with torch.device("meta"):  # the weights come from the file
        if isinstance(config, dict):
            return classes[0](**config)
        if config.weights_license is None:
            config.weights_license = dialect.license
        return next(cls for cls in classes if cls.config_class is type(config))(config)


def _load_strictly(model: nn.Module, state_dict: dict[str, torch.Tensor], dialect: Dialect) -> None:
    expected = model.state_dict()
    missing = [name for name in expected if name not in state_dict]
    unexpected = [name for name in state_dict if name not in expected]
    reshaped = [
        f"{name} {_shape(state_dict[name])} instead of {_shape(tensor)}"
        for name, tensor in expected.items()
        if name in state_dict and state_dict[name].shape != tensor.shape
    ]
    problems = [("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped)]
    found = [f"{len(names)} {what} ({_some(names)})" for what, names in problems if names]
    if found:
        raise CheckpointError(f"not the tensors of {dialect.name}: {'; '.join(found)}")
    # A copy: the file is mapped into the memory, and two tensors may share theirs.
    weights = {
        name: tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True).contiguous()
        for name, tensor in state_dict.items()
    }
    if broken := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
        raise CheckpointError(f"NaN or infinite values in {len(broken)} tensors ({_some(broken)})")
    model.load_state_dict(weights, strict=True, assign=True)
    model.eval()


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


@contextmanager
def written_beside(dest: Path) -> Iterator[Path]:
    """A folder that becomes `dest` when all has gone well; what was there goes after the new one stands."""
    dest.parent.mkdir(parents=True, exist_ok=True)
    folder = dest.with_name(f".{dest.name}.{os.getpid()}.new")
    old = dest.with_name(f".{dest.name}.{os.getpid()}.old")
    folder.mkdir()
    try:
        yield folder
        if dest.exists():
            dest.rename(old)
        folder.rename(dest)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if dest.exists():
            shutil.rmtree(old, ignore_errors=True)
        elif old.exists():
            old.rename(dest)


__all__ = ["ConvertedCheckpoint", "check_dest", "load_foreign", "model_card", "save_converted", "written_beside"]
