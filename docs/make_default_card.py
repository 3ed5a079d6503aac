# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""
Writes the card of the default pipeline (diffiqa_hf/checkpoints/default/README.md) out of its records, training.json
there and in unet/ and fr_model/, after taking figures from a report of `diffiqa benchmark` into the first of them.

    python docs/make_default_card.py    # after a change of the records: of notes, for instance
    python docs/make_default_card.py docs/results/lfw/results.json --method DifFIQA norm --forget "LFW dev_test"

`diffiqa push FOLDER REPO_ID --results results.json --method NAME` does the same for a folder that is pushed.
"""

import argparse
from pathlib import Path

import diffiqa_hf
from diffiqa_hf.hub import CARD_FILE, add_results, benchmark_results


FOLDER = Path(diffiqa_hf.__file__).parent / "checkpoints" / "default"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="?", type=Path, help="results.json of the report")
    parser.add_argument("--method", nargs="+", default=["DifFIQA"], help="names in the report (default: DifFIQA)")
    parser.add_argument(
        "--forget",
        metavar="TEXT",
        help='take figures out of the record first whose dataset begins with this ("": all); without it the report\'s '
        "take the place of those of the same name",
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="another folder than the default pipeline's")
    args = parser.parse_args()
    methods = () if args.results is None else args.method
    figures = [result for name in methods for result in benchmark_results(args.results, name)]
    # Nobody writes this card: what it says stands in the records.
    (args.folder / CARD_FILE).unlink(missing_ok=True)
    print(*add_results(args.folder, figures, forget=args.forget), sep="\n")


if __name__ == "__main__":
    main()
