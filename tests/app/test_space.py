# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""The folder that can be pushed as a Space."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml


pytest.importorskip("starlette")
pytest.importorskip("python_multipart")

from starlette.testclient import TestClient  # noqa: E402


SPACE = Path(__file__).parents[2] / "examples" / "space"


def test_the_header_is_one_of_a_space_and_fits_what_is_started():
    _, header, _ = (SPACE / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    header = yaml.safe_load(header)
    assert header["sdk"] == "docker" and header["title"] and len(header["short_description"]) <= 60
    command = json.loads(re.search(r"^CMD (\[.*\])$", (SPACE / "Dockerfile").read_text(), re.MULTILINE)[1])
    assert command == ["uvicorn", "app:app", "--host", "0.0.0.0", "--port", str(header["app_port"])]
    assert (SPACE / "requirements.txt").read_text().split() == ["diffiqa-hf[app]"]


def test_its_page_may_be_shown_by_the_hub_and_by_nobody_else():
    spec = importlib.util.spec_from_file_location("space_app", SPACE / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with TestClient(module.app) as client:
        answer = client.get("/", headers={"host": "name-face-image-quality.hf.space"})
    assert answer.status_code == 200 and "At most 200 photographs and 50 megabytes" in answer.text
    assert answer.headers["content-security-policy"].endswith("frame-ancestors https://huggingface.co")
