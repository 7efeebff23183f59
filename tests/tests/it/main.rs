//! End-to-end tests, one file a hop. They run the binaries of this workspace: build them first
//! (`make test` does; by hand: `cargo build --workspace --bins`).

mod corpus;
