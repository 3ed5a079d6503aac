#!/usr/bin/env bash
# mkdocs 1.6.1: `mkdocs build --strict` ends with status 1 where there is a warning, such as a link to a page that is not there.
# `mkdocs build --quiet --strict` on the same folder ends with status 0 and prints nothing: strictness counts the warnings that are
# logged, and --quiet raises the log's level above them. A check that is both quiet and strict, as one writes it for CI, cannot fail.
# Seen with Python 3.11 on x86-64.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mkdocs==1.6.1 2>/dev/null
mkdir -p "$folder/docs"
cd "$folder"
echo "site_name: a site" > mkdocs.yml
echo "[a page](that_is_not_there.md)" > docs/index.md
loud=0
"$folder/venv/bin/python" -m mkdocs build --strict > loud.log 2>&1 || loud=$?
quiet=0
"$folder/venv/bin/python" -m mkdocs build --quiet --strict > quiet.log 2>&1 || quiet=$?
"$folder/venv/bin/python" -m mkdocs --version | cut -d' ' -f3-5
echo "--strict: $loud; --quiet --strict: $quiet"
grep -q "that_is_not_there" loud.log || { echo "the behaviour has changed"; exit 1; }
if [ "$loud" = 0 ] || [ "$quiet" != 0 ]; then echo "the behaviour has changed"; exit 1; fi
P=$(grep -c WARNING quiet.log || true)
echo "warnings in the quiet log: $P"
[ "$P" = 0 ] || { echo "the behaviour has changed"; exit 1; }
