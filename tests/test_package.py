# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The package as such: what an import loads, and what it offers."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import diffiqa_hf


HEAVY = ("torch", "transformers", "diffusers", "numpy", "scipy", "cv2", "PIL")


def loaded_after(code: str) -> set[str]:
    report = f"\nimport sys; print('LOADED', *[name for name in {HEAVY!r} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True).stdout
    return set(out.splitlines()[-1].split()[1:])


def test_import_is_light():
    assert loaded_after("import diffiqa_hf; dir(diffiqa_hf)") == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["score", "--help"],
        ["convert", "--help"],
        ["data", "--help"],
        ["evaluate", "--help"],
        ["benchmark", "--help"],
        ["best", "--help"],
        ["explain", "--help"],
        ["calibrate", "--help"],
        ["export", "--help"],
        ["push", "--help"],
        ["methods"],
        ["--version"],
    ],
)
def test_the_help_of_the_command_is_light(arguments):
    code = "from diffiqa_hf.cli import main\ntry:\n"
    code += f"    main({arguments})\nexcept SystemExit as end:\n    assert not end.code"
    assert loaded_after(code) == set()


@pytest.mark.parametrize("name", diffiqa_hf.__all__)
def test_public_names_resolve(name):
    value = getattr(diffiqa_hf, name)
    assert name in dir(diffiqa_hf)
    if name != "__version__":
        assert value.__name__ == name and value.__doc__


def test_every_lazy_name_is_public():
    assert {*diffiqa_hf.__all__} == {*diffiqa_hf._MODULE_OF, "__version__"}


def test_modules_and_unknown_names():
    assert loaded_after("import diffiqa_hf; diffiqa_hf.alignment") >= {"numpy"}
    with pytest.raises(AttributeError, match="no_such_name"):
        diffiqa_hf.no_such_name  # noqa: B018


def test_version_is_that_of_the_installed_distribution():
    assert importlib.metadata.version("diffiqa-hf") == diffiqa_hf.__version__


def test_auto_classes_know_the_models_after_the_import_of_models():
    code = "import diffiqa_hf.models\nfrom transformers import AutoConfig\n"
    code += "assert type(AutoConfig.for_model('mobilefacenet')).__name__ == 'MobileFaceNetConfig'"
    assert "transformers" in loaded_after(code)


def test_the_citation_names_this_version():
    citation = (Path(__file__).parents[1] / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {diffiqa_hf.__version__}\n" in citation
