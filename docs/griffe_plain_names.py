# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Names in docstrings, written as transformers' are, in the plain form that Markdown knows."""

import re

import griffe


NAME = re.compile(r"\[`(?:~?[\w.]*\.)?(\w+)`\]")
# As in "    seed (`int`, *optional*, defaults to 0): Of the noise."
ARGUMENT = re.compile(r"^( +[\w*][\w*, ]*) \(([^\n]*?)\):", re.MULTILINE)


class PlainNames(griffe.Extension):
    """``[`~diffiqa_hf.fold`]`` becomes `` `fold` ``, and the types of arguments lose their marks."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring:
            obj.docstring.value = ARGUMENT.sub(_plain, NAME.sub(r"`\1`", obj.docstring.value))


def _plain(argument: re.Match) -> str:
    kind = re.sub(r"[`*]|, defaults to .*", "", argument[2])
    # The signature has the type.
    return f"{argument[1]}:" if kind == "optional" else f"{argument[1]} ({kind}):"
