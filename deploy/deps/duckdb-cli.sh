#!/bin/sh
# Gets DuckDB's shell, for the tests that do the runbook by hand, and prints its path. Needs Python with pip.
#
#   deploy/deps/duckdb-cli.sh               from the cache, else from PyPI (21 MB), by pinned SHA-256
#   DUCKDB_CLI=/path/duckdb deploy/deps/duckdb-cli.sh     takes a shell that you have
#
# Exit code 3: it could not be had; stderr says what to do instead.
set -eu

version=1.5.6
case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) sha=9797555bd39095d730eb0d0b3bf29e95e148c96a4cdce1e363f01c7bf7003a44 ;;
    Linux-aarch64) sha=9b03301a14310a4ef7f86386e87b36954fe099ed762c8a81f94f7bd0ba073542 ;;
    *) sha='' ;;
esac

give_up() {
    echo "deps: $1; give DuckDB's shell $version yourself: DUCKDB_CLI=/path/duckdb" >&2
    exit 3
}

if [ -n "${DUCKDB_CLI:-}" ]; then
    [ -x "$DUCKDB_CLI" ] || give_up "DUCKDB_CLI=$DUCKDB_CLI is no program"
    echo "$DUCKDB_CLI"
    exit
fi
cache="${XDG_CACHE_HOME:-$HOME/.cache}/preannotate/duckdb-cli-$version"
if [ ! -x "$cache/duckdb" ]; then
    [ -n "$sha" ] || give_up "there is no duckdb-cli $version that we know for $(uname -s) on $(uname -m)"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    if ! python3 -m pip --version >/dev/null 2>&1; then
        python3 -m venv "$work/venv" || give_up "python3 has neither pip nor venv"
        PATH="$work/venv/bin:$PATH"
    fi
    echo "deps: fetching DuckDB's shell $version from PyPI (21 MB)" >&2
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$work" \
        "duckdb-cli==$version" >&2 || give_up "duckdb-cli $version could not be fetched from PyPI"
    wheel=$(echo "$work"/duckdb_cli-*.whl)
    [ "$(sha256sum "$wheel" | cut -d' ' -f1)" = "$sha" ] || give_up "PyPI gave another file than the pinned one"
    python3 -m zipfile -e "$wheel" "$work/wheel"
    chmod +x "$work/wheel/duckdb_cli/duckdb"
    mkdir -p "$cache"
    # In one step, so that two tests cannot see half of it.
    cp "$work/wheel/duckdb_cli/duckdb" "$cache/duckdb.$$"
    mv "$cache/duckdb.$$" "$cache/duckdb"
fi
echo "$cache/duckdb"
