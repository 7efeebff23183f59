#!/usr/bin/env bash
# make services: installs what is missing, starts every service on loopback with a free port and fresh data, waits
# until each answers, and writes .services/env. What an earlier run left running is ended first.
#
#   up.sh [SERVICE...]      only these, for tests and trials; argilla wants postgres, redis and opensearch beside it
#
# Exit code 0: all answer. 1: a service failed; stderr names it and shows the end of its log; nothing is left running.
# 2: no such service. 3: a tool is missing; stderr names each with its package. With SERVICES_INSTALL_TOOLS=1 (as
# .ci/run sets) the packages are installed first, where apt-get may be used. Logs: .services/log.
set -euo pipefail
shopt -s nullglob
umask 077

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$here/process.sh"
services=("$@")
[ $# != 0 ] || services=(ollama minio opensearch argilla postgres redis duckdb)
for name in "${services[@]}"; do
    [ -e "$here/$name.sh" ] || {
        say "there is no service $name" >&2
        exit 2
    }
    # shellcheck source=/dev/null
    source "$here/$name.sh"
done
began=$(now)
began_at=$EPOCHSECONDS
UP_PID=$BASHPID

# True if the env file is from a run that ended after this one began, and all that it started is alive.
fresh() {
    [ -e "$run/env" ] && [ "$(stat -c %Y "$run/env")" -ge "$began_at" ] || return 1
    for file in "$run"/pids/*; do
        SERVICE=${file##*/}
        running || return 1
    done
    SERVICE=all
}

missing_tools() {
    missing=()
    packages=()
    tool curl curl
    tool python3 python3
    if command -v python3 >/dev/null && ! python3 -c ''; then lacks "a python3 that works" python3; fi
    tool setsid util-linux
    tool setpriv util-linux
    for name in "${services[@]}"; do "${name}_wants"; done
}

# One service, in a process group of its own, so that it can be ended with its builds and downloads.
job() {
    set +m
    SERVICE=$1
    trap 'report $?' EXIT
    "$1_install"
    "$1_start"
}

# Ends the jobs that still work, and all services.
give_up() {
    trap '' HUP INT TERM
    touch "$run/ending"
    for pid in "${jobs[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
    wait
    SERVICE=all
    QUIET=1 end_all
    rm -f "$run/env"
}

# quit CODE: an end that was spoken of. Any other failure of this script speaks here.
quit() {
    trap - EXIT
    exit "$1"
}
trap 'code=$?; [ $code = 0 ] || say "FAILED while $STEP (exit code $code)" >&2' EXIT

mkdir -p "$run" "$cache/.scratch"
exec 9>"$run/lock"
if ! flock -n 9; then
    say "another run is at work in this clone; waiting for it"
    flock 9
    if fresh; then
        say "up, by that run: $run/env"
        exit
    fi
fi

STEP='looking for tools'
missing_tools
if [ ${#missing[@]} != 0 ] && [ -n "${SERVICES_INSTALL_TOOLS:-}" ]; then
    mkdir -p "$run/log"
    LOG="$run/log/tools.log"
    (
        trap 'report $?' EXIT
        STEP='installing tools'
        mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
        debian "${packages[@]}"
    ) || quit 3
    hash -r
    missing_tools
fi
if [ ${#missing[@]} != 0 ]; then
    printf 'services: missing: %s\n' "${missing[@]}" | sort -u >&2
    quit 3
fi

STEP='ending an earlier run'
end_all
find "$run" -mindepth 1 -maxdepth 1 ! -name lock -exec rm -rf {} +
mkdir "$run/log" "$run/pids" "$run/env.d" "$run/ready"
secret >"$run/id"

STEP=starting
jobs=()
trap 'say "interrupted; ending everything"; give_up; quit 130' HUP INT TERM
set -m
for name in "${services[@]}"; do
    job "$name" &
    jobs+=($!)
done
set +m
for name in "${services[@]}"; do
    if ! wait -n; then
        give_up
        say "not up: a service failed (see above); nothing is left running  $(since "$began")" >&2
        quit 1
    fi
done
trap - HUP INT TERM

{
    echo "# Written by make services; source it. Ended by make services-down."
    cat "$run"/env.d/*
} >"$run/env.new"
mv "$run/env.new" "$run/env"
say "up: $run/env  $(since "$began")"
