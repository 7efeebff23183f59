//! A root of a test's own in MinIO, and `control` and the shell on it.

use e2e::harness::{Control, Shell};
use proto::store::{Env, Store};

use crate::services::{env, store_env};

pub struct Place {
    pub folder: tempfile::TempDir,
    /// `s3://bucket/prefix`, which nobody had before.
    pub root: String,
    pub store: Store,
    /// `AWS_*`.
    pub env: Env,
    /// What tells this run's names from any other's.
    pub token: String,
}

impl Place {
    pub fn new(what: &str) -> Self {
        let (env, token) = (store_env(), hex::encode(rand::random::<[u8; 4]>()));
        let root = format!("s3://{}/{what}-{token}", self::env("LIVE_S3_BUCKET"));
        let store = Store::open(&root, &env).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), root, store, env, token }
    }

    /// `control` on this root, with a lake and a cache of its own.
    pub fn control(&self) -> Control {
        let cache = self.folder.path().join("cache").display().to_string();
        let control = Control::new(self.folder.path(), &self.root).with("PREANNOTATE_CACHE", &cache);
        self.env.iter().fold(control, |control, (name, value)| control.with(name, value))
    }

    /// The DuckDB shell with httpfs.
    pub fn shell(&self) -> Shell {
        Shell::with_httpfs(env("DUCKDB_CLI_HTTPFS").as_ref(), &env("DUCKDB_HTTPFS_EXTENSION")).unwrap()
    }
}
