# shellcheck shell=bash
# Starting, knowing and ending processes. A process is known by its pid, its start time and the machine's boot:
# a pid that was given to a stranger since is never touched. What our processes left behind (Ollama's runners, say)
# is known by the run's random id in its environment.

boot=$(cat /proc/sys/kernel/random/boot_id)

# started PID: the process's start time in clock ticks since boot; nothing if it is gone or a zombie.
started() {
    local stat fields
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    read -r -a fields <<<"${stat##*) }"
    case ${fields[0]} in Z | X) ;; *) echo "${fields[19]}" ;; esac
}

# alive PID START BOOT
alive() { [ "${3:-}" = "$boot" ] && [ -n "${2:-}" ] && [ "$(started "$1")" = "$2" ]; }

# launch SIGNAL COMMAND...: starts the service in a session of its own, logging to $LOG, and records it. SIGNAL is
# what ends it in order. Sets PID.
launch() {
    local signal=$1
    shift
    (
        cd /
        # The run's lock (9) is not the service's to hold.
        exec 9>&-
        exec env PREANNOTATE_SERVICES_RUN="$(cat "$run/id")" setsid -- "$@"
    ) </dev/null >>"$LOG" 2>&1 &
    PID=$!
    echo "$PID $(started "$PID") $boot $signal" >"$run/pids/$SERVICE.new"
    mv "$run/pids/$SERVICE.new" "$run/pids/$SERVICE"
}

# running: is the process recorded for $SERVICE there?
running() {
    local record
    read -r -a record <"$run/pids/$SERVICE"
    alive "${record[@]:0:3}"
}

# end_one: ends the process recorded for $SERVICE, and waits. Speaks only of one that was there.
end_one() {
    local record i
    [ -s "$run/pids/$SERVICE" ] || return 0
    read -r -a record <"$run/pids/$SERVICE"
    if alive "${record[@]:0:3}"; then
        kill -s "${record[3]:-TERM}" "${record[0]}" 2>/dev/null || true
        for ((i = 0; i < 150; i++)); do
            alive "${record[@]:0:3}" || break
            sleep 0.1
        done
        if alive "${record[@]:0:3}"; then
            say "does not end by itself; killed"
            kill -s KILL "${record[0]}" 2>/dev/null || true
        fi
        [ -n "${QUIET:-}" ] || say "ended (pid ${record[0]})"
    else
        [ -n "${QUIET:-}" ] || say "was not running any more (pid ${record[0]})"
    fi
    rm -f "$run/pids/$SERVICE"
}

# end_all: ends every process of the run in $run: all are asked at once, then waited for.
end_all() {
    local file jobs=() id pid
    for file in "$run"/pids/*; do
        [ -e "$file" ] || continue
        SERVICE=${file##*/}
        end_one &
        jobs+=($!)
    done
    [ ${#jobs[@]} = 0 ] || wait "${jobs[@]}"
    SERVICE=all
    id=$(cat "$run/id" 2>/dev/null || true)
    [ -n "$id" ] || return 0
    for file in $(grep -lsxzF "PREANNOTATE_SERVICES_RUN=$id" /proc/[0-9]*/environ || true); do
        pid=${file#/proc/}
        kill -s KILL "${pid%/environ}" 2>/dev/null || true
    done
    # Data that could not lie in the clone (PostgreSQL's, when root runs this).
    while read -r file; do
        case $file in /tmp/preannotate-services.*) rm -rf "$file" ;; esac
    done < <(cat "$run/outside" 2>/dev/null)
}

# ---- ports ----------------------------------------------------------------------------------------------------

# listeners PORT: "UID INODE" of every socket that listens on it.
listeners() {
    local hex
    printf -v hex ':%04X' "$1"
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
        awk -v port="$hex" '$4 == "0A" && substr($2, length($2) - 4) == port { print $8, $10 }'
}

# owns PID PORT: does this very process listen there? Where its descriptors may not be read (another user's process
# in a container), the socket's user decides.
owns() {
    local uid inode
    while read -r uid inode; do
        if ls "/proc/$1/fd" >/dev/null 2>&1; then
            # Its exit code means nothing: descriptors may close while it looks.
            [ -z "$(find "/proc/$1/fd" -lname "socket:\[$inode\]" -print -quit 2>/dev/null || true)" ] || return 0
        elif [ "$(stat -c %u "/proc/$1" 2>/dev/null)" = "$uid" ]; then
            return 0
        fi
    done < <(listeners "$2")
    return 1
}

# free_port LOW HIGH: a port that nothing listens on now, below the range that outgoing connections take from.
free_port() {
    local port
    while :; do
        port=$(($1 + ($(od -An -N4 -tu4 /dev/urandom) % ($2 - $1))))
        [ -n "$(listeners "$port")" ] || break
    done
    echo "$port"
}

# serve [LOW HIGH]: starts $SERVICE by its function NAME_launch PORT, on a free port, and waits until this very
# process listens there and NAME_answers PORT. A port taken in between is given up for another. Sets PORT.
# SERVICES_TRY_PORT (for tests) is every service's first choice, free or not.
serve() {
    local mark attempt i
    STEP='starting'
    LOG="$run/log/$SERVICE.log"
    mark=$(now)
    for attempt in 1 2 3 4 5; do
        PORT=$(free_port "${1:-20000}" "${2:-32000}")
        [ "$attempt" != 1 ] || PORT=${SERVICES_TRY_PORT:-$PORT}
        "${SERVICE}_launch" "$PORT"
        for ((i = 0; i < 600; i++)); do
            if owns "$PID" "$PORT"; then
                if "${SERVICE}_answers" "$PORT" >/dev/null 2>&1; then
                    say "ready on 127.0.0.1:$PORT  $(since "$mark")"
                    return
                fi
            elif [ -n "$(listeners "$PORT")" ] && ! owns "$PID" "$PORT"; then
                # Asked again: our process may have begun to listen between the first two looks.
                break
            fi
            running || break
            sleep 0.2
        done
        if running && [ "$i" = 600 ]; then
            die "it does not answer on 127.0.0.1:$PORT within 120 s"
        fi
        if [ -n "$(listeners "$PORT")" ] || grep -qi 'already in use' "$LOG"; then
            say "port $PORT is taken by another process; trying another"
            QUIET=1 end_one
            : >"$LOG"
        else
            die "it ended at once"
        fi
    done
    die "five ports in turn were taken by other processes"
}

# http PATH [curl arguments]: a request to the service on PORT; fails on any answer of 400 and above.
http() {
    local path=$1
    shift
    curl --silent --show-error --fail-with-body --noproxy '*' --max-time 60 "$@" "http://127.0.0.1:$PORT$path"
}

# ---- what services tell each other, and the tests ---------------------------------------------------------------

# give NAME VALUE: a line of the env file.
give() { printf 'export %s=%q\n' "$1" "$2" >>"$run/env.d/$SERVICE"; }

# ready TEXT...: this service is up; `await` in other jobs prints TEXT.
ready() {
    printf '%s\n' "$@" >"$run/ready/.$SERVICE"
    mv "$run/ready/.$SERVICE" "$run/ready/$SERVICE"
}

# await SERVICE: waits until that job is done, and prints what it said. The run's end ends the wait.
await() {
    while [ ! -e "$run/ready/$1" ]; do
        [ -d "/proc/$UP_PID" ] || die "the run has ended"
        sleep 0.1
    done
    cat "$run/ready/$1"
}
