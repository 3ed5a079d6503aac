# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
One interface to face image quality assessment methods: [`load_method`] gives an object that is called with images.
[`CARDS`] says what there is to know of each; reading the cards loads no torch.
"""

import os
from typing import TYPE_CHECKING, Any

from ..default_weights import DEFAULT_METHOD
from .cards import CARDS, MethodCard, get_card


if TYPE_CHECKING:
    import torch
    from torch import nn

    from ..image_processing_face import FaceImageProcessor
    from ..images.extraction import FaceExtractor
    from .method import FaceQualityMethod


def load_method(
    name: str = DEFAULT_METHOD,
    weights: "str | os.PathLike | nn.Module | None" = None,
    fr_model: "str | os.PathLike | nn.Module | None" = None,
    *,
    image_processor: "FaceImageProcessor | None" = None,
    align: bool | str | None = None,
    detector: "str | os.PathLike | None" = None,
    device: "str | torch.device | None" = None,
    dtype: "torch.dtype | None" = None,
    engine: str = "auto",
    **options: Any,
) -> "FaceQualityMethod":
    """
    A method, ready to be called with images.

    Args:
        name (`str`, *optional*, defaults to `"diffiqa-r"`): One of the names in [`CARDS`], such as `"cr-fiqa"`;
            `diffiqa methods` lists them.
        weights (*optional*): The method's own network: a folder or Hub id as `from_pretrained` takes it, a published
            file as its authors share it (nothing in it is run), or the model itself. `"default"`, or nothing where the
            card does not say that they are needed, is what comes with the package. A `calibration.json` in the folder
            or repository of a quality model becomes the method's [`~FaceQualityMethod.calibration`].
        fr_model (*optional*): The face recognition model that the method probes, given likewise. `"default"`, or
            nothing where the card does not say that it is needed, is the small one that comes with the package;
            `"dlib"` is that of the package `face_recognition_models`, if it is installed.
        image_processor ([`FaceImageProcessor`], *optional*): Makes canonical faces from images, and says itself
            whether they are aligned.
        align (`bool` or `"auto"`, *optional*, defaults to `"auto"`): Whether the face is looked for and aligned.
            `"auto"`: in what is no aligned crop ([`FaceImageProcessor`] has the rule); pictures with no side above
            112 pixels stay as they are, and need no detector.
        detector (*optional*): The file of the YuNet face detector, or a Hub repository that has it.
        device, dtype (*optional*): Where and how the networks run; on the CPU in float32 when not given.
        engine (`str`, *optional*, defaults to `"auto"`): What runs the networks: `"torch"`, or `"onnx"`, ONNX Runtime,
            for the methods that are one forward pass of one network, and for DifFIQA with a folder's own FR model; the
            scores are the same to 1e-5, and DifFIQA's to 1e-4. `"onnx"` makes the ONNX form of the weights where there
            is none yet, once (`pip install "diffiqa_hf[onnx]"`), and keeps it in the cache. `"auto"` takes ONNX
            Runtime on a CPU where it is installed and the form is there, as of the weights of the package, and torch
            for DifFIQA, whose pipeline is at hand then (the commands take ONNX Runtime for it too). An ONNX file given
            as `weights`, such as OpenCV's and uniface's of eDifFIQA, runs there in any case; its input is to be what
            the card says.
        **options: The method's own, named on its card.

    Returns:
        [`FaceQualityMethod`]

    Raises:
        ValueError: There is no such method; it does not take, or needs, `weights` or `fr_model`; the network is not
            the method's; an option has a value that makes no sense.
        TypeError: The method has no such option.
        OSError: A folder or Hub id can't be loaded.

    Example:

    ```python
    >>> from diffiqa_hf.methods import load_method

    >>> method = load_method("embedding-norm")
    >>> method("examples/faces/astronaut.jpg").scores.shape
    torch.Size([1])
    >>> method = load_method()  # DifFIQA(R)
    >>> method.calibration is not None  # then there are percentiles as well
    True

    ```
    """
    card = get_card(name)
    for argument, value in (("weights", weights), ("fr_model", fr_model)):
        if value is None and argument in card.needs:
            raise ValueError(f"{name} needs {argument}: {card.weights_source}")
        if isinstance(value, str) and value == "default" and argument in card.needs:
            raise ValueError(f"{name} has no default {argument}, it needs its own: {card.weights_source}")
        if value is not None and argument not in card.takes:
            raise ValueError(f"{name} takes no {argument}, but {' and '.join(card.takes)}")
    for option in options:
        if option not in card.options:
            raise TypeError(f"{name} has no option {option!r}; it has {', '.join(card.options) or 'none'}")
    given = {"weights": weights, "fr_model": fr_model}
    given = {argument: value for argument, value in given.items() if value is not None}
    if image_processor is not None and (align is not None or detector is not None):
        raise ValueError("align and detector are for the method's own image processor, and another is given")
    method = _load(card, given, image_processor, engine, device, dtype, options)
    if image_processor is None:
        method.set_alignment("auto" if align is None else align, detector)
    return method


def _load(
    card: MethodCard,
    given: dict[str, Any],
    image_processor: "FaceExtractor | None",
    engine: str,
    device: "str | torch.device | None",
    dtype: "torch.dtype | None",
    options: dict[str, Any],
    make: bool = False,
) -> "FaceQualityMethod":
    from . import onnx_diffiqa, onnx_method

    if engine not in onnx_method.ENGINES:
        raise ValueError(f"engine is one of {', '.join(onnx_method.ENGINES)}, not {engine!r}")

    def in_torch():
        return card.load_class().load(card, image_processor=image_processor, **given, **options)

    method: FaceQualityMethod | None
    if card.name == "diffiqa":
        # Who loads DifFIQA in Python has its pipeline, which may be changed, unless the other is asked for.
        engine = "torch" if engine == "auto" else engine
        place = (engine, device, dtype, in_torch, given.get("fr_model"), image_processor)
        method = onnx_diffiqa.load(given.get("weights", "default"), *place, **options)
    else:
        method = onnx_method.load(card, given, image_processor, engine, device, dtype, in_torch, make)
    if method is None:
        method = in_torch()
        if device is not None or dtype is not None:
            method.to(device, dtype)
    return method


def __getattr__(name):
    if name == "FaceQualityMethod":
        from .method import FaceQualityMethod

        return FaceQualityMethod
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["CARDS", "FaceQualityMethod", "MethodCard", "get_card", "load_method"]
