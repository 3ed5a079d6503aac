# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Writes the table of docs/choose.md out of the cards and docs/results/lfw/results.json. After a change of either:

    python docs/make_choice_table.py
"""

import json
from pathlib import Path
from statistics import fmean

from diffiqa_hf.methods.cards import CARDS


FILE = Path(__file__).with_name("choose.md")
RESULTS = Path(__file__).parent / "results" / "lfw" / "results.json"
BEGIN, END = "<!-- Written by docs/make_choice_table.py. -->\n", "<!-- End of what it writes. -->"
# Rows of the report that are of the method itself: what its authors published, or what needs no weights.
ROWS = {
    "diffiqa": "DifFIQA",
    "diffiqa-r": "DifFIQA(R), default weights",
    "lightqnet": "LightQNet dm100",
    "faceqnet": "FaceQnet, its authors' scores",
    "faceqan": "FaceQAN",
    "ser-fiq": "SER-FIQ",
    "grafiqs": "GraFIQs",
    "froq": "FROQ",
    "embedding-norm": "embedding norm",
}


def main() -> None:
    FILE.write_text(document(), encoding="utf-8")
    print(FILE)


def document() -> str:
    """The whole page, with the table as it has to be."""
    before, _, rest = FILE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n" + "\n".join(table()) + f"\n\n{END}{after}"


def table() -> list[str]:
    """A line for each method: what it needs, under which licence, how long a face takes and what it reaches."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    times = {row["method"]: fmean(row["milliseconds"]) for row in results["runtimes"]}
    lines = ["| method | needs | licence of the weights | ms a face | share |", "|---|---|---|---:|---:|"]
    for card in CARDS:
        row = ROWS.get(card.name)
        found = [
            evaluation["methods"][row]["share"]["0.3"]
            for evaluation in results["evaluations"]
            if row in evaluation["methods"] and evaluation["protocol_name"] == "default"
        ]
        needs = " and ".join(card.needed) or "nothing"
        time = f"{times[row]:.1f}" if row in times else "-"
        share = f"{fmean(found):.2f}" if found else "-"
        name, licence = f"[{card.title}](methods.md#{card.name})", card.weights_license.replace("|", "\\|")
        lines.append(f"| {name} | {needs} | {licence} | {time} | {share} |")
    return lines


if __name__ == "__main__":
    main()
