# shellcheck shell=bash
# DuckDB's shell 1.5.5 with its httpfs extension (there is none for 1.5.6), for SQL by hand on s3://; and the shell
# 1.5.6 that the other tests use. Nothing is started.

duckdb_wants() { :; }

duckdb_make() {
    local wheel
    wheels duckdb
    for wheel in "$scratch"/duckdb_*.whl; do
        python3 -m zipfile -e "$wheel" wheel
    done
    mv wheel/duckdb_cli/duckdb duckdb
    mv wheel/duckdb_extension_httpfs/extensions/v1.5.5/httpfs.duckdb_extension httpfs.duckdb_extension
    rm -r wheel
    chmod +x duckdb
    ./duckdb -c "LOAD '$PWD/httpfs.duckdb_extension'; SELECT version();"
}

duckdb_install() {
    place duckdb-1.5.5 duckdb_make
    STEP='getting the shell 1.5.6'
    duckdb_shell=$(three "$clone/deploy/deps/duckdb-cli.sh" 2>>"$LOG")
}

duckdb_start() {
    give DUCKDB_CLI "$duckdb_shell"
    give DUCKDB_CLI_HTTPFS "$cache/duckdb-1.5.5/duckdb"
    give DUCKDB_HTTPFS_EXTENSION "$cache/duckdb-1.5.5/httpfs.duckdb_extension"
}
