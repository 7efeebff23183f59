//! Argilla: a batch's records into it, and what people answered out of it.
//!
//! ```text
//! argilla_records.parquet ─► plan (display) ─► push ─► dataset in Argilla ─► people
//!                                                                              │
//! argilla/out/…/export_run_id=N ◄─ export ◄─ answers ◄─ scan ◄─────────────────┘
//! ```

pub mod answers;
pub mod client;
pub mod dataset;
pub mod display;
pub mod error;
pub mod export;
pub mod model;
pub mod plan;
pub mod push;
pub mod retry;
pub mod scan;
