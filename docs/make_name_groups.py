# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Groups of people by their first names, for data that has names and no attributes: `female` and `male` where
gender-guesser (`pip install gender-guesser`, GPL-3.0, not a part of this package) knows the name as that of one alone.
All others have no group.

    python docs/make_name_groups.py FOLDER_OF_PEOPLE --output groups.csv

The folders are called as LFW's: `Aaron_Eckhart`. What a name says of a person is a guess: it is none of gender as the
person has it, it fails where the family name comes first, and it leaves out names that it does not know, which are
those of some countries more than of others.
"""

import argparse
import csv
from collections import Counter
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("people", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    from gender_guesser.detector import Detector

    guess = Detector(case_sensitive=False).get_gender
    people = sorted({folder.name for root in args.people for folder in root.iterdir() if folder.is_dir()})
    said = {person: guess(person.split("_")[0]) for person in people}
    with open(args.output, "w", newline="", encoding="utf-8") as file:
        rows = ((person, group) for person, group in said.items() if group in ("female", "male"))
        csv.writer(file, lineterminator="\n").writerows([("identity", "group"), *rows])
    print(*(f"{count:,} {group}" for group, count in Counter(said.values()).most_common()), sep=", ")


if __name__ == "__main__":
    main()
