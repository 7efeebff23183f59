# shellcheck shell=bash
# Redis for Argilla, in memory only.

redis_wants() { :; }

redis_install() {
    STEP=installing
    LOG="$run/log/$SERVICE.install.log"
    command -v redis-server >/dev/null || debian redis-server
    say "$(redis-server --version | cut -d' ' -f1-3) is there"
}

redis_launch() {
    launch TERM redis-server --bind 127.0.0.1 --port "$1" --dir "$run/redis" --save '' --appendonly no --daemonize no
}

redis_answers() {
    local answer
    exec {redis}<>"/dev/tcp/127.0.0.1/$1"
    printf 'PING\r\n' >&"$redis"
    read -r -t 2 answer <&"$redis"
    exec {redis}>&-
    [ "$answer" = $'+PONG\r' ]
}

redis_start() {
    mkdir -p "$run/redis"
    serve
    ready "127.0.0.1:$PORT"
}
