//! Finds the DuckDB library that `make deps` fetched, and writes its place into the binaries.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=DUCKDB_LIB_DIR");
    if env::var_os("CARGO_FEATURE_BUNDLED_DUCKDB").is_some() {
        return;
    }
    let folder = PathBuf::from(env::var_os("DUCKDB_LIB_DIR").unwrap_or_default());
    let library = ["libduckdb.so", "libduckdb.dylib"]
        .map(|name| folder.join(name))
        .into_iter()
        .find(|file| file.is_file());
    match library.and_then(|file| file.canonicalize().ok()) {
        Some(file) => {
            println!("cargo::rerun-if-changed={}", file.display());
            if let Some(folder) = file.parent() {
                println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN,-rpath,{}", folder.display());
            }
        }
        None => println!(
            "cargo::error=there is no DuckDB library in {}: run `make deps`, or build with `--features \
             control/bundled-duckdb` (20 to 25 minutes)",
            folder.display()
        ),
    }
}
