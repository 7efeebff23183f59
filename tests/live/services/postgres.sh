# shellcheck shell=bash
# PostgreSQL for Argilla. It refuses to run as root: then it runs as the user `postgres`, and its data lies in /tmp,
# since that user may not reach the clone.

postgres_wants() { :; }

# Sets postgres_bin to the newest server's programs; fails when there is none.
postgres_find() {
    postgres_bin=$(find /usr/lib/postgresql/*/bin -name initdb 2>/dev/null | sort -V | tail -n 1)
    if [ -z "$postgres_bin" ]; then postgres_bin=$(command -v initdb || true); fi
    postgres_bin=${postgres_bin%/initdb}
    [ -n "$postgres_bin" ]
}

postgres_install() {
    STEP=installing
    LOG="$run/log/$SERVICE.install.log"
    if ! postgres_find; then
        debian postgresql
        postgres_find || die "the Debian package postgresql brought no initdb"
    fi
    say "$("$postgres_bin/postgres" --version) is there"
}

postgres_launch() {
    launch INT "${postgres_as[@]}" "$postgres_bin/postgres" -D "$postgres_data/data" -p "$1" \
        -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=60 -c shared_buffers=64MB \
        -c fsync=off -c synchronous_commit=off -c full_page_writes=off
}

postgres_answers() { "$postgres_bin/pg_isready" -q -h 127.0.0.1 -p "$1"; }

postgres_start() {
    local password
    STEP='making its data folder'
    LOG="$run/log/$SERVICE.log"
    password=$(secret)
    postgres_as=()
    postgres_data="$run/postgres"
    mkdir -p "$postgres_data"
    if [ "$(id -u)" = 0 ]; then
        postgres_data=$(mktemp -d /tmp/preannotate-services.XXXXXX)
        echo "$postgres_data" >>"$run/outside"
        postgres_as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
    fi
    (umask 077 && echo "$password" >"$postgres_data/password")
    [ "$(id -u)" != 0 ] || chown -R postgres:postgres "$postgres_data"
    (cd / && "${postgres_as[@]}" "$postgres_bin/initdb" --pgdata="$postgres_data/data" --username=argilla \
        --pwfile="$postgres_data/password" --auth=scram-sha-256 --encoding=UTF8 --no-locale --no-sync) >>"$LOG" 2>&1
    serve
    ready "127.0.0.1:$PORT $password"
}
