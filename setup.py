# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""Which folders make the package; the rest is in pyproject.toml. Two lie at the top, where people look for them."""

from setuptools import find_packages, setup


AT_THE_TOP = {"diffiqa_hf.model_cards": "model_cards", "diffiqa_hf.pipelines.diffiqa": "pipelines/diffiqa"}

setup(
    packages=[*find_packages(include=["diffiqa_hf", "diffiqa_hf.*"]), *AT_THE_TOP],
    package_dir=AT_THE_TOP,
)
