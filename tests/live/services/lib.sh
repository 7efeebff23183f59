# shellcheck shell=bash
# What every service script uses: paths, progress lines, failures, downloads, installs into the cache.
#
# A job (one service of up.sh) runs with errexit and sets SERVICE, STEP and LOG; whatever makes it fail, `report`
# then names the service, the step and the end of the log. Installs lie outside the clone, one folder a version:
# made as NAME.partial under a lock and renamed when whole, so a folder that is there without `.complete` is never used.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
clone=$(cd "$here/../../.." && pwd)
run="$clone/.services"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/preannotate/services"
pins="$here/pins"

SERVICE=all
STEP=starting
LOG=/dev/null
WHY=''

say() { printf 'services: %-10s  %s\n' "$SERVICE" "$*"; }

# Microseconds now; `since MARK` gives the seconds from MARK on.
now() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }
since() {
    local tenths=$((($(now) - $1) / 100000))
    printf '%s.%s s' "$((tenths / 10))" "$((tenths % 10))"
}

# die WHY: ends the job; `report` (the job's exit trap) says why.
die() {
    WHY="$*"
    exit 1
}

# report CODE: what a job says when it ends in failure; a job that was ended because another failed says nothing.
report() {
    [ "$1" -ne 0 ] && [ ! -e "$run/ending" ] || return 0
    {
        say "FAILED while $STEP${WHY:+: $WHY}"
        if [ -s "$LOG" ]; then
            say "the end of $LOG:"
            tail -n 25 "$LOG" | sed 's/^/    /'
        fi
    } >&2
}

# three COMMAND...: runs it up to three times, for what a network may refuse once.
three() {
    local try
    for try in 1 2 3; do
        if "$@"; then return 0; fi
        echo "try $try of 3 failed: $1 ${2:-}" >&2
        [ "$try" = 3 ] || sleep $((try * 3))
    done
    return 1
}

secret() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

# ---- what must be on the machine ------------------------------------------------------------------------------

missing=()
packages=()

# lacks WHAT PACKAGE [HINT]: notes what is not there, with the Debian package that has it.
lacks() {
    missing+=("$1 (install $2${3:+, $3})")
    packages+=("$2")
}

# tool COMMAND PACKAGE
tool() { command -v "$1" >/dev/null || lacks "$@"; }

# debian PACKAGE...: installs Debian packages as root or by a sudo that does not ask; otherwise says what to install.
debian() {
    local root=() names="$*"
    command -v apt-get >/dev/null || die "not on this machine: $names; install what they are called here"
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || die "not on this machine: $names; run: sudo apt-get install $names"
        root=(sudo -n)
    fi
    say "installing Debian packages: $names"
    apt_get() {
        "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@"
    }
    # Called through `three`.
    apt_install() {
        apt_get install -y --no-install-recommends "$@" || {
            apt_get update
            return 1
        }
    }
    (
        flock 7
        three apt_install "$@"
    ) 7>"$cache/.apt.lock" >>"$LOG" 2>&1 || die "apt-get could not install $names"
}

# ---- installs -------------------------------------------------------------------------------------------------

# True if NAME (with its version) is whole in the cache.
installed() { [ -e "$cache/$1/.complete" ]; }

# place NAME FUNCTION: runs FUNCTION in the empty folder that becomes $cache/NAME, unless that is there.
# FUNCTION has $scratch for downloads and build caches: it outlives a failed try, and goes once the install is whole.
place() {
    local name=$1 made=$2 mark lock
    STEP="installing $name"
    LOG="$run/log/$SERVICE.install.log"
    mark=$(now)
    if installed "$name"; then
        say "$name is in the cache"
        return
    fi
    exec {lock}>"$cache/.$name.lock"
    if ! flock -n "$lock"; then
        say "waiting for another install of $name"
        flock "$lock"
    fi
    if installed "$name"; then
        say "$name was installed by another run  $(since "$mark")"
    else
        if [ -e "$cache/$name.partial" ] || [ -e "$cache/$name" ]; then
            say "$name: an earlier install was not finished; it is done anew"
        fi
        say "installing $name"
        rm -rf "${cache:?}/$name" "$cache/$name.partial"
        mkdir "$cache/$name.partial"
        scratch="$cache/.scratch/$name"
        mkdir -p "$scratch"
        (
            cd "$cache/$name.partial"
            "$made"
            date -u +%FT%TZ >.complete
        ) >>"$LOG" 2>&1
        mv "$cache/$name.partial" "$cache/$name"
        rm -rf "$scratch"
        say "installed $name  $(since "$mark")"
    fi
    exec {lock}>&-
}

# wheels PIN: downloads what pins/PIN.txt names, by its hashes, into $scratch.
wheels() {
    local python=python3
    if ! python3 -m pip --version >/dev/null 2>&1; then
        python3 -m venv "$scratch/venv"
        python="$scratch/venv/bin/python"
    fi
    three "$python" -m pip --disable-pip-version-check --no-input download --progress-bar off --no-deps \
        --require-hashes --dest "$scratch" --requirement "$pins/$1.txt"
}

# go_install MODULE VERSION SUM: builds the module's program into the current folder. SUM is the module's own
# h1 hash; the go.sum inside it then holds every dependency, so nothing of another content can be built in.
go_install() {
    local facts folder sum
    facts="$scratch/module.json"
    GOBIN=$PWD
    export GOBIN GOTOOLCHAIN=local GOFLAGS='-buildvcs=false -modcacherw -p=2'
    export GOMODCACHE="$scratch/mod" GOCACHE="$scratch/build"
    # Called through `three`.
    get_module() { go mod download -json "$1@$2" >"$facts"; }
    three get_module "$1" "$2"
    sum=$(sed -n 's/.*"Sum": "\(.*\)".*/\1/p' "$facts")
    [ "$sum" = "$3" ] || {
        echo "$1 $2 has the hash $sum, not the pinned $3; it is not used"
        return 1
    }
    folder=$(sed -n 's/.*"Dir": "\(.*\)".*/\1/p' "$facts")
    cd "$folder"
    three nice -n 10 go list -deps . >/dev/null
    nice -n 10 go install .
    cd "$GOBIN"
}

# go_wants: Go 1.24.1 or newer, as both modules ask for; no toolchain is fetched.
go_wants() {
    local version='' hint='1.24.1 or newer: Debian 12 has it in its backports'
    tool gcc build-essential
    tool g++ build-essential
    if ! command -v go >/dev/null; then
        lacks go golang-go "$hint"
        return
    fi
    version=$(GOTOOLCHAIN=local go env GOVERSION) || true
    version=${version#go}
    [ "$(printf '%s\n' 1.24.1 "$version" | sort -V | head -n 1)" = 1.24.1 ] ||
        lacks "go $version is too old" golang-go "$hint"
}
