# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""A card for each method: what a person has to know before using it or comparing with it. Read without torch."""

import importlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class MethodCard:
    """
    What there is to know of a method.

    Args:
        name (`str`): What [`load_method`] and the command line call it.
        title (`str`): What its authors call it.
        paper (`str`): Where it was published.
        kind (`str`): As DifFIQA's paper files the methods: `"analytical"` (changes or probes the face; nothing learned
            the score), `"regression"` (a network that was trained to give the score), `"model-based"` (an FR model
            that was trained to give the score along with its embeddings), or `"baseline"`.
        formula (`str`): The score, as it is computed here.
        takes, needs (`tuple[str, ...]`): Which of `weights` and `fr_model` [`load_method`] accepts, and which of them
            have to be given.
        needs_one_of (`tuple[str, ...]`): Options of which one has to be given.
        input (`str`): What the network works on. Canonical faces become that inside of it.
        raw_range (`str`): Of the method's own number.
        lower_is_better (`bool`): Whether the method's own number runs the other way; the score is then its negative.
        determinism (`str`): What the score depends on besides the pixels.
        code_license, weights_license (`str`): As the authors state them.
        weights_source (`str`): Where users get weights.
        checked_against (`str`): How we know that it is right.
        training (`tuple[str, ...]`): First the script, and its recipe, that makes such weights; then what of it is not
            the authors', because they leave it open or for another reason. Empty where there is nothing to train.
        notes (`tuple[str, ...]`): Known traps, choices and differences from the authors' code.
        options (`tuple[str, ...]`): What [`load_method`] takes by name besides.
        method (`str`): `"module:class"` in this package.
        dialect (`str`, *optional*): How `diffiqa_hf.conversion` calls the published files.
        networks (`tuple[str, ...]`): Classes that weights of the method can be of; any FR model where empty.
        one_pass (`bool`): Whether one network gives the score, in one forward pass, so that ONNX Runtime can run it.
        head (`str`, *optional*): The quality head of those that come with several: `"linear"` or `"mlp"`.
    """

    name: str
    title: str
    paper: str
    kind: str
    formula: str
    takes: tuple[str, ...]
    input: str
    raw_range: str
    determinism: str
    code_license: str
    weights_license: str
    weights_source: str
    checked_against: str
    method: str
    needs: tuple[str, ...] = ()
    needs_one_of: tuple[str, ...] = ()
    lower_is_better: bool = False
    training: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    dialect: str | None = None
    networks: tuple[str, ...] = ()
    head: str | None = None
    one_pass: bool = False

    @property
    def needed(self) -> tuple[str, ...]:
        """What has to be given."""
        return (*self.needs, *([" or ".join(self.needs_one_of)] if self.needs_one_of else []))

    @property
    def optional(self) -> tuple[str, ...]:
        """What can be given besides, options apart."""
        return tuple(name for name in self.takes if name not in self.needs)

    @property
    def direction(self) -> str:
        """The method's own direction, and what was done about it."""
        if self.lower_is_better:
            return "its own number is lower for better images; the score is the negative of it, so higher is better"
        return "higher is better, as in the original"

    @property
    def speed(self) -> str | None:
        """As `benchmarks/methods.py` measured it; `None` until it has."""
        return _speeds().get(self.name)

    def load_class(self) -> type:
        """Imports the class of the method, and torch with it."""
        module, _, name = self.method.partition(":")
        return getattr(importlib.import_module(f".{module}", __package__.rpartition(".")[0]), name)

    def rows(self) -> list[tuple[str, str]]:
        """The card as pairs of a heading and a text, for whoever renders it."""
        needed = [*self.needed, *(f"{name} (optional)" for name in self.optional)]
        rows = [
            ("method", f"{self.name}: {self.title}"),
            ("paper", self.paper),
            ("kind", self.kind),
            ("score", self.formula),
            ("direction", self.direction),
            ("raw range", self.raw_range),
            ("needs", ", ".join(needed)),
            ("options", ", ".join(self.options) or "none"),
            ("input", self.input),
            ("determinism", self.determinism),
            ("licence of the code", self.code_license),
            ("licence of weights", self.weights_license),
            ("weights", self.weights_source),
            ("checked against", self.checked_against),
            ("speed", self.speed or "not measured yet"),
        ]
        if self.training:
            rows.append(("training", "; ".join(self.training)))
        return rows + [("note", note) for note in self.notes]


@cache
def _speeds() -> dict[str, str]:
    return json.loads(Path(__file__).with_name("speeds.json").read_text(encoding="utf-8"))


__all__ = ["MethodCard"]
