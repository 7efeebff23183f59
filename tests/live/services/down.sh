#!/usr/bin/env bash
# make services-down: ends exactly the processes that make services started in this clone, waits for their end, and
# removes their data and the env file. Logs stay.
set -euo pipefail
shopt -s nullglob

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$here/process.sh"

if [ ! -d "$run/pids" ]; then
    say "nothing was started in this clone"
    exit
fi
began=$(now)
exec 9>"$run/lock"
if ! flock -n 9; then
    say "make services is at work in this clone; waiting for it"
    flock 9
fi
end_all
find "$run" -mindepth 1 -maxdepth 1 ! -name lock ! -name log -exec rm -rf {} +
say "down  $(since "$began")"
