# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""How far a run is, in a log."""

from diffiqa_hf.cli.progress import Progress


def test_a_line_at_most_every_interval(capsys):
    now = [0.0]
    with Progress(1000, every=60, clock=lambda: now[0]) as progress:
        for _ in range(300):
            now[0] += 1.0
            progress.update()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "diffiqa: 60 of 1,000 images, 1 a second, 16 min left"
    assert len(lines) == 5 and lines[-1].startswith("diffiqa: 300 of 1,000 images")


def test_a_short_run_and_a_quiet_one_have_none(capsys):
    for quiet in (False, True):
        with Progress(2, quiet, every=0.0 if quiet else 60.0) as progress:
            progress.update()
    assert capsys.readouterr().err == ""


def test_rates_and_durations_in_words():
    progress = Progress(40_000_000, quiet=True)
    progress.done = 1_000_000
    assert progress.line(500) == "1,000,000 of 40,000,000 images, 2,000 a second, 5 h 25 min left"
    assert progress.line(50_000) == "1,000,000 of 40,000,000 images, 20 a second, 22.6 days left"
    progress.done = 39_999_999
    assert progress.line(10).endswith(", 0 s left")
