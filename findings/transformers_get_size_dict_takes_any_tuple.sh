#!/usr/bin/env bash
# transformers 5.24.0: get_size_dict, which every image processor calls on its `size`, takes a tuple of any length of at least two
# for (height, width) and drops the rest without a word: (1, 2, 3), such as the shape of an array, becomes height 1 and width 2.
# A dictionary with a key that it does not know is refused, so one expects the same of a tuple.
# Seen with Python 3.11 on x86-64.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0 numpy==2.4.6 pillow==13.0.0 2>/dev/null
"$folder/venv/bin/python" - 2>/dev/null <<'P'
import transformers
from transformers.image_processing_utils import get_size_dict

found = get_size_dict((1, 2, 3))
print("transformers", transformers.__version__, "get_size_dict((1, 2, 3)):", found)
assert dict(found) == {"height": 1, "width": 2}, "the behaviour has changed"
try:
    get_size_dict({"height": 1, "breadth": 2})
except ValueError:
    print("a dictionary with an unknown key: ValueError")
else:
    raise AssertionError("the behaviour has changed")
P
