#!/bin/bash
# What people use in the agent's place, from PyPI, in a virtual environment of its own below the cache folder.
set -eu
place="${XDG_CACHE_HOME:-$HOME/.cache}/preannotate/peers"
[ -e "$place/.complete" ] && exit 0
echo "bench-peers: installing langextract and distilabel into $place" >&2
mkdir -p "$place"
python3 -m venv "$place"
"$place/bin/python" -m pip --disable-pip-version-check install --quiet --requirement "$(dirname "$0")/requirements.txt"
touch "$place/.complete"
