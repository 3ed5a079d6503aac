# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
What there is to know of each method: a card in a file of its own, found by being in this folder. A new method is its
card here and its class beside this folder, and nothing else. Read without torch.
"""

import importlib
import pkgutil

from .card import MethodCard


# How they are listed; one that is not named comes after these.
_ORDER = (
    "diffiqa",
    "diffiqa-r",
    "ediffiqa",
    "cr-fiqa",
    "vit-fiqa",
    "sdd-fiqa",
    "lightqnet",
    "pfe",
    "pcnet",
    "faceqnet",
    "faceqgen",
    "clib-fiqa",
    "magface",
    "faceqan",
    "ser-fiq",
    "grafiqs",
    "froq",
    "vitnt-fiqa",
    "prefiqs",
    "embedding-norm",
)


def _found() -> tuple[MethodCard, ...]:
    modules = (importlib.import_module(f".{module.name}", __name__) for module in pkgutil.iter_modules(__path__))
    cards = [module.CARD for module in modules if hasattr(module, "CARD")]
    places = {name: place for place, name in enumerate(_ORDER)}
    return tuple(sorted(cards, key=lambda card: (places.get(card.name, len(places)), card.name)))


CARDS: tuple[MethodCard, ...] = _found()


def get_card(name: str) -> MethodCard:
    """
    The card of the method of that name.

    Raises:
        ValueError: There is none.
    """
    for card in CARDS:
        if card.name == name:
            return card
    raise ValueError(f"unknown method {name!r}; there are {', '.join(card.name for card in CARDS)}")


__all__ = ["CARDS", "MethodCard", "get_card"]
