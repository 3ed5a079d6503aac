#!/usr/bin/env bash
# mkdocs-material 9.8.2: its plugin `offline`, which is for sites that are read from the disk without a network, puts a script
# of an outside host (unpkg.com) into each page. A site of one page without the plugin has none.
# Seen with Python 3.11.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mkdocs-material==9.8.2 2>/dev/null
cd "$folder"
mkdir docs
echo "# A page" > docs/index.md
theme="site_name: A site\ntheme: {name: material, font: false}"
printf "$theme\nplugins: []\n" > plain.yml
printf "$theme\nplugins: [offline]\n" > offline.yml
for site in plain offline; do
    NO_MKDOCS_2_WARNING=1 "$folder/venv/bin/python" -m mkdocs build --quiet --config-file "$site.yml" --site-dir "$site" 2>/dev/null
    echo "mkdocs-material 9.8.2, $site: $(grep -o '<script[^>]*src="https://[^"]*"' "$site/index.html" | sort -u | tr '\n' ' ')"
done
! grep -q '<script[^>]*src="https://' plain/index.html && grep -q '<script[^>]*src="https://unpkg.com/' offline/index.html \
    || { echo "the behaviour has changed"; exit 1; }
