# shellcheck shell=bash
# Argilla's server, on PostgreSQL, Redis and OpenSearch, with an owner, the workspace `vessels` and an annotator in it.
# In a virtual environment of its own, by the hashes of pins/argilla.txt.

argilla_place() {
    python3 -c 'import sys; print("argilla-2.8.0-py%d.%d" % sys.version_info[:2])'
}

argilla_wants() {
    if python3 -c '' 2>/dev/null; then
        python3 -c 'import venv, ensurepip' 2>/dev/null || lacks "python3's venv" python3-venv
        # An environment whose Python is gone is no environment.
        argilla_home="$cache/$(argilla_place)"
        if [ -e "$argilla_home/.complete" ] && ! "$argilla_home/bin/python" -c '' 2>/dev/null; then
            rm -f "$argilla_home/.complete"
        fi
    fi
}

argilla_make() {
    python3 -m venv .
    PIP_CACHE_DIR="$scratch/pip" three nice -n 10 ./bin/python -m pip --disable-pip-version-check --no-input install \
        --progress-bar off --no-deps --require-hashes --requirement "$pins/argilla.txt"
    ./bin/python -m pip check
}

argilla_install() { place "$(argilla_place)" argilla_make; }

argilla_launch() {
    launch TERM "${argilla_env[@]}" "$argilla_home/bin/python" -m uvicorn argilla_server:app \
        --host 127.0.0.1 --port "$1" --no-access-log
}

argilla_answers() { http /api/v1/version; }

# api METHOD PATH [JSON]: as the owner.
argilla_api() {
    http "/api/v1/$2" -X "$1" -H 'Content-Type: application/json' ${3:+--data "$3"} \
        --config - <<<"header = \"X-Argilla-Api-Key: $argilla_owner_key\""
}

# field NAME: of the JSON object on stdin.
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

argilla_start() {
    local mark postgres redis opensearch workspace user facts
    argilla_home="$cache/$(argilla_place)"
    LOG="$run/log/$SERVICE.log"
    STEP='waiting for PostgreSQL'
    read -r -a postgres <<<"$(await postgres)"
    mkdir -p "$run/argilla"
    argilla_env=(env HOME="$run/argilla" ARGILLA_HOME_PATH="$run/argilla" ARGILLA_AUTH_SECRET_KEY="$(secret)"
        ARGILLA_DATABASE_URL="postgresql+asyncpg://argilla:${postgres[1]}@${postgres[0]}/postgres"
        ARGILLA_SEARCH_ENGINE=opensearch ARGILLA_ENABLE_TELEMETRY=0 HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1
        NO_PROXY=127.0.0.1 no_proxy=127.0.0.1)
    STEP='migrating its database'
    mark=$(now)
    argilla_owner_key=$(secret)
    (
        cd "$run/argilla"
        "${argilla_env[@]}" "$argilla_home/bin/python" -m argilla_server database migrate
        "${argilla_env[@]}" "$argilla_home/bin/python" -m argilla_server database users create_default \
            --api-key "$argilla_owner_key" --password "$(secret)"
    ) >>"$LOG" 2>&1
    say "database migrated  $(since "$mark")"
    STEP='waiting for Redis and OpenSearch'
    redis=$(await redis)
    opensearch=$(await opensearch)
    argilla_env+=(ARGILLA_REDIS_URL="redis://$redis/0" ARGILLA_ELASTICSEARCH="http://$opensearch")
    serve
    STEP='making the workspace and the annotator'
    workspace=$(argilla_api POST workspaces '{"name": "vessels"}' | field id)
    facts=$(argilla_api POST users "{\"username\": \"live-annotator\", \"first_name\": \"Live\",
        \"last_name\": \"Annotator\", \"role\": \"annotator\", \"password\": \"$(secret)\"}")
    user=$(field id <<<"$facts")
    argilla_api POST "workspaces/$workspace/users" "{\"user_id\": \"$user\"}" >>"$LOG"
    give ARGILLA_API_URL "http://127.0.0.1:$PORT"
    give ARGILLA_API_KEY "$argilla_owner_key"
    give LIVE_ARGILLA_ANNOTATOR_USERNAME live-annotator
    give LIVE_ARGILLA_ANNOTATOR_KEY "$(field api_key <<<"$facts")"
}
