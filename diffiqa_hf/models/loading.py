# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
The one way in which a network is loaded: every tensor of it is in its files, and every tensor of the files is in it.
`from_pretrained` of the libraries makes up what is missing, with a warning.
"""

import json
import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, PreTrainedConfig
from transformers.utils import cached_file

from ..file_utils import file_fault, printable


# Batch normalisation's counter: PyTorch up to 0.4.0 had none, and nothing in evaluation reads it.
COUNTERS = "num_batches_tracked"
_SHOWN = 3
_FILE_ENDINGS = {".bin", ".ckpt", ".h5", ".hdf5", ".index", ".onnx", ".params", ".pb", ".pt", ".pth", ".safetensors"}


class LoadingError(OSError, ValueError):
    """
    A network can't be loaded as it is in its files. The message is one line that names them and the reason.

    Args:
        prefix (`str`): What stands before the names of all its tensors, if it is that.
    """

    def __init__(self, message: str, prefix: str = ""):
        super().__init__(printable(message))
        self.prefix = prefix


def load_pretrained(
    model_class: Any,
    source: str | os.PathLike,
    *,
    what: str | None = None,
    dtype: torch.dtype | str | None = torch.float32,
    new: Iterable[str] = (),
    unused: Iterable[str] = (),
    **kwargs: Any,
) -> Any:
    """
    `model_class.from_pretrained(source)` that makes nothing up.

    Args:
        model_class: A model class or Auto class of transformers, or a model class of diffusers.
        source: A folder or Hub id.
        what (`str`, *optional*): What is loaded, for the message; the name of the class when not given.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float32`): Whatever the files are in. `"auto"` is theirs,
            for models of transformers.
        new: What the names begin with of tensors that may be missing, because they are to be trained: `"head."`.
        unused: What the names begin with of tensors that the files may have beyond those of the network.
        **kwargs: As `from_pretrained` takes them.

    Raises:
        LoadingError: Tensors are missing, left over or of another shape; a file is none of its kind.
        OSError: There is no such folder or repository.
    """
    what = what or model_class.__name__
    kwargs = {**kwargs, "dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True}
    diffusers = isinstance(model_class, type) and issubclass(model_class, ModelMixin)
    with named_faults(source, **{name: kwargs[name] for name in ("revision", "cache_dir") if name in kwargs}):
        if not diffusers and os.path.isdir(source):
            config = kwargs.get("config") or AutoConfig.from_pretrained(source)
            _check_kind(model_class, source, config, what)
            _check_size(model_class, Path(source), config)
        model, info = model_class.from_pretrained(source, **kwargs)
    check_loading(source, what, info, new, unused)
    return model


def check_loading(
    source: str | os.PathLike,
    what: str,
    info: Mapping[str, Collection],
    new: Iterable[str] = (),
    unused: Iterable[str] = (),
) -> None:
    """
    Whether the loading info that `from_pretrained` gives has nothing to say; the arguments are those of
    [`load_pretrained`].

    Raises:
        LoadingError: It has.
    """
    missing = [name for name in info["missing_keys"] if not name.endswith(COUNTERS) and not name.startswith((*new,))]
    unexpected = [
        name for name in info["unexpected_keys"] if not name.endswith(COUNTERS) and not name.startswith((*unused,))
    ]
    reshaped = [
        f"{name} {_shape(found)} instead of {_shape(wanted)}" for name, found, wanted in info["mismatched_keys"]
    ]
    if not missing and not unexpected and not reshaped:
        return
    problems = [f"it has no weights for {some(missing)}"] if missing else []
    problems += [f"it has weights of another shape: {some(reshaped)}"] if reshaped else []
    prefix = find_prefix(missing, unexpected)
    if prefix:
        convert = f"`diffiqa convert {os.fspath(source)} NEW_FOLDER` takes that off"
        problems.append(f"the names in its files begin with {prefix!r}, {convert}")
    elif unexpected:
        problems.append(f"it has weights that no part of the network is for: {some(unexpected)}")
    raise LoadingError(f"{os.fspath(source)} is no {what}: {'; '.join(problems)}", prefix)


def find_prefix(wanted: Collection[str], found: Collection[str]) -> str:
    """What stands before all the names that are wanted, where they are found behind something; "" elsewhere."""
    found = set(found)
    for first in sorted(wanted)[:1]:
        prefixes = [name[: -len(first)] for name in found if name.endswith(f".{first}")]
        for prefix in sorted(prefixes, key=len):
            if all(f"{prefix}{name}" in found for name in wanted):
                return prefix
    return ""


def some(names: Iterable[str]) -> str:
    """`"a, b, c and 5 more"`."""
    names = sorted(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


@contextmanager
def named_faults(source: str | os.PathLike, **kwargs: Any) -> Iterator[None]:
    """
    Whatever a library trips over in a folder or repository becomes one line, where a file there is at fault: an LFS
    pointer, a web page, an empty or truncated file, JSON that is none.

    Args:
        source: The folder or Hub id.
        **kwargs: `revision` and `cache_dir` of a repository.

    Raises:
        LoadingError: A file is at fault.
    """
    if (reason := _no_path(source)) is not None:
        raise LoadingError(f"{os.fspath(source)}: {reason}")
    try:
        yield
    except LoadingError:
        raise
    except Exception as error:  # the libraries raise whatever they trip over in a damaged file
        folder = _folder(source, **kwargs)
        for path in [] if folder is None else sorted([*folder.glob("*"), *folder.glob("*/*")]):
            if (reason := _fault(path)) is not None:
                raise LoadingError(f"{path}: {reason}") from error
        raise


def _check_kind(model_class: Any, source: str | os.PathLike, config: PreTrainedConfig, what: str) -> None:
    """Whether an Auto class has a model for the configuration. Its own message does not say what was wanted."""
    mapping = getattr(model_class, "_model_mapping", None)
    if mapping is not None and type(config) not in mapping:
        found = ", ".join(config.architectures or [type(config).__name__.removesuffix("Config")])
        raise LoadingError(f"{os.fspath(source)} is no {what} but a {found}")


def _check_size(model_class: Any, folder: Path, config: PreTrainedConfig) -> None:
    """
    Whether the network that a folder's configuration describes can be the one of its files. What is not in them would
    be made up before it is refused, however large it is.
    """
    shapes = []
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            shapes += [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    if not shapes:
        return
    depths = [*getattr(config, "depths", ()), *(stage[2] for stage in getattr(config, "stages", ()))]
    if sum(depths) > 1000 + len(shapes):
        raise LoadingError(f"{folder}: config.json says {sum(depths)} blocks, and there are {len(shapes)} tensors")
    build = getattr(model_class, "from_config", model_class)
    with torch.device("meta"):
        wanted = sum(tensor.numel() for tensor in build(config).state_dict().values())
    there = sum(math.prod(shape) for shape in shapes)
    if wanted > 4 * there + 10_000_000:  # a new head is small
        raise LoadingError(f"{folder}: config.json says a network of {wanted:,} numbers, and there are {there:,}")


def _no_path(source: str | os.PathLike) -> str | None:
    """Why a source that can be no Hub id is no folder."""
    name = os.fspath(source)
    if os.path.isdir(name):
        return None
    if os.path.isfile(name):
        return (
            file_fault(name) or "a file, where a folder or a Hub id is needed; `diffiqa convert` makes a folder of it"
        )
    path = Path(name)
    if not isinstance(source, str) or path.is_absolute() or name.startswith(".") or len(path.parts) > 2:
        return "no such file or folder"
    return "no such file or folder" if path.suffix in _FILE_ENDINGS else None


def _folder(source: str | os.PathLike, **kwargs: Any) -> Path | None:
    if os.path.isdir(source):
        return Path(source)
    quiet = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    for name in ("model_index.json", "config.json"):
        try:
            found = cached_file(source, name, local_files_only=True, **quiet, **kwargs)
        except (OSError, ValueError):
            return None
        if found is not None:
            return Path(found).parent
    return None


def _fault(path: Path) -> str | None:
    if path.is_dir() or path.suffix not in (".json", ".safetensors", ".bin"):
        return None
    if (reason := file_fault(path)) is not None:
        return reason
    try:
        if path.suffix == ".json":
            if not isinstance(json.loads(path.read_text(encoding="utf-8")), dict):
                return "JSON, but no object"
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):
                pass
    except (ValueError, RecursionError) as error:
        return f"no JSON ({str(error) or 'too deep'})"
    except (SafetensorError, OSError) as error:
        return f"truncated or damaged safetensors file ({error})"
    return None


def _shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


__all__ = ["COUNTERS", "LoadingError", "check_loading", "find_prefix", "load_pretrained", "named_faults", "some"]
