#!/bin/sh
# Gets DuckDB's official library for this machine, checks its SHA-256, and links .deps/duckdb to it.
#
#   deploy/deps/duckdb.sh          looks in the cache, then asks npm, then DuckDB's release page
#   DUCKDB_LIBRARY=/path/libduckdb.so deploy/deps/duckdb.sh     takes a copy that you have
#
# Exit code 0: .deps/duckdb holds the library. 3: it could not be had; stderr says what to do instead.
set -eu

version=1.5.6
npm_version=1.5.6-r.1
cd "$(dirname "$0")/../.."
cache="${XDG_CACHE_HOME:-$HOME/.cache}/preannotate/duckdb-$version"

case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) cpu=x64 zip=amd64 sha=3f4962cdd266eab2b479a5b5a4a6d063d279b2954ae814ed00385d553b747633 ;;
    Linux-aarch64) cpu=arm64 zip=arm64 sha=23686593dba4ec22c6e581bb1c843b3964e84c4bc4d0063d8b4daddd2e20e30a ;;
    *) cpu='' zip='' sha='' ;;
esac

say() { echo "deps: $*" >&2; }

# true if the file is the library: its hash is the pinned one
genuine() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$sha" ]; }

# Puts a genuine file into the cache in one step, so that two builds cannot see half of it.
keep() {
    if ! genuine "$1"; then
        say "$2 gave a file with another SHA-256 than the pinned one; it is not used"
        return 1
    fi
    mkdir -p "$cache"
    cp "$1" "$cache/libduckdb.so.$$"
    mv "$cache/libduckdb.so.$$" "$cache/libduckdb.so"
}

from_npm() {
    command -v npm >/dev/null || {
        say "npm is not on this machine (install npm)"
        return 1
    }
    say "fetching libduckdb $version from npm (24 MB)"
    package="@duckdb/node-bindings-linux-$cpu@$npm_version"
    (cd "$work" && npm pack --silent "$package" >/dev/null 2>&1 && tar xzf ./*.tgz package/libduckdb.so) || return 1
    keep "$work/package/libduckdb.so" npm
}

from_release() {
    command -v curl >/dev/null || {
        say "curl is not on this machine (install curl)"
        return 1
    }
    say "fetching libduckdb $version from its release page"
    url="https://github.com/duckdb/duckdb/releases/download/v$version/libduckdb-linux-$zip.zip"
    curl -fsSL --retry 2 --connect-timeout 20 --max-time 600 -o "$work/libduckdb.zip" "$url" || return 1
    if command -v unzip >/dev/null; then
        unzip -qo "$work/libduckdb.zip" libduckdb.so -d "$work"
    else
        python3 -m zipfile -e "$work/libduckdb.zip" "$work"
    fi || return 1
    keep "$work/libduckdb.so" "the release page"
}

give_up() {
    say "$1"
    say "build DuckDB from its sources instead (20 to 25 minutes on 2 cores):"
    say "    cargo build --features control/bundled-duckdb"
    say "or give a copy of libduckdb $version:  DUCKDB_LIBRARY=/path/libduckdb.so make deps"
    exit 3
}

[ -n "$cpu" ] || give_up "there is no official libduckdb $version that we know for $(uname -s) on $(uname -m)"
if ! genuine "$cache/libduckdb.so"; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    if [ -n "${DUCKDB_LIBRARY:-}" ]; then
        keep "$DUCKDB_LIBRARY" "DUCKDB_LIBRARY" || give_up "$DUCKDB_LIBRARY is not libduckdb $version for this machine"
    else
        from_npm || from_release || give_up "libduckdb $version could not be fetched, neither by npm nor by curl"
    fi
fi
mkdir -p .deps
ln -sfn "$cache" .deps/duckdb
