# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Writes the tables of docs/results/groups/README.md out of what `diffiqa evaluate --groups --output` wrote, between its
marks.

    python docs/make_group_report.py "LFW dev_test=CASIA:a/results.json,foamliu:b/results.json" ...
"""

import argparse
import json
import re
from pathlib import Path


PAGE = Path(__file__).parent / "results" / "groups" / "README.md"
MARKS = "<!-- tables -->", "<!-- end of tables -->"


def span(values: list[float], digits: int, sign: str = "") -> str:
    estimate, low, high = (f"{value:{sign}.{digits}f}" for value in values)
    return f"{estimate} [{low}, {high}]"


def tables(title: str, runs: dict[str, dict]) -> str:
    some = next(iter(runs.values()))["groups"]
    names = [entry["group"] for entry in some["groups"]]
    who = ", ".join(f"{e['images']:,} images of {e['people']:,} people ({e['group']})" for e in some["groups"])
    lines = [f"## {title}", "", f"{who}; {some['ungrouped']:,} images of people without a group.", ""]
    pairs = [(entry["first"], entry["second"]) for entry in some["differences"] if entry["figure"] == "fnmr"]
    head = [f"{figure}, {name}" for figure in ("median", "low") for name in names]
    asked = [f"{figure}, {one} - {other}" for figure in ("median", "low") for one, other in pairs]
    lines += [f"| score | {' | '.join([*head, *asked])} |", "|---" * (1 + len(head) + len(asked)) + "|"]
    for method in some["thresholds"]:
        cells = [span(e["medians"][method], 3) for e in some["groups"]]
        cells += [span(e["below"][method], 3) for e in some["groups"]]
        found = {(d["figure"], d["first"], d["second"]): d for d in some["differences"] if d["method"] == method}
        for figure in ("median", "below"):
            cells += [difference(found[figure, one, other], 3) for one, other in pairs]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    head = [f"FNMR, {name}" for name in names]
    asked = [f"{one} - {other}" for one, other in pairs]
    within = [f"FMR within, {name}" for name in names]
    lines += ["", f"| FR model | {' | '.join([*head, *asked, *within])} |"]
    lines.append("|---" * (1 + len(head) + len(asked) + len(within)) + "|")
    for fr_model, run in runs.items():
        groups = run["groups"]["groups"]
        cells = [
            f"{span(e['fnmr'], 4)}: {e['errors']:,} of {e['mated']:,} pairs, of {e['failing']:,} people"
            for e in groups
        ]
        cells += [difference(d, 4) for d in run["groups"]["differences"] if d["figure"] == "fnmr"]
        cells += [f"{e['fmr']:.2g}: {e['false_matches']:,} of {e['nonmated']:,}" for e in groups]
        lines.append(f"| {fr_model} | {' | '.join(cells)} |")
    return "\n".join(lines)


def difference(found: dict, digits: int) -> str:
    said = "told apart" if found["told_apart"] else "not told apart" if found["enough"] else "too few errors"
    return f"{span(found['interval'], digits, '+')}: {said}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="TITLE=FR_MODEL:FILE,...")
    args = parser.parse_args()
    parts = []
    for argument in args.sets:
        title, _, listed = argument.partition("=")
        files = dict(entry.split(":", 1) for entry in listed.split(","))
        runs = {name: json.loads(Path(file).read_text(encoding="utf-8")) for name, file in files.items()}
        parts.append(tables(title, runs))
    text = "\n\n".join([MARKS[0], *parts, MARKS[1]])
    page = PAGE.read_text(encoding="utf-8")
    marked = re.compile(f"{MARKS[0]}.*{MARKS[1]}", re.DOTALL)
    PAGE.write_text(marked.sub(lambda _: text, page), encoding="utf-8")


if __name__ == "__main__":
    main()
