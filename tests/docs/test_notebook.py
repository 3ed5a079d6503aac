# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""examples/quickstart.ipynb runs from its first cell to its last, and leaves small outputs."""

import pytest
from fixtures.code_blocks import ROOT


@pytest.mark.slow
def test_the_notebook_runs():
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(ROOT / "examples" / "quickstart.ipynb", as_version=4)
    nbformat.validate(notebook)
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(ROOT / "examples")}}
    )
    client.execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    kinds = {key for cell in cells for output in cell.outputs for key in output.get("data", {})}
    assert "image/png" in kinds
    assert len(nbformat.writes(notebook)) < 1_000_000
