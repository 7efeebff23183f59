//! Every SQL step of the runbook by `control`, and again by hand in the DuckDB shell, over one root: equal rows.
//!
//! - The shell's script is what the runbook says: `.read`, then set `_params`, then `.read` again; with files for
//!   MotherDuck. The root is a folder or `s3://`; the shell reads and writes it itself, without `control`'s staging.
//! - Rows are compared both ways (`EXCEPT ALL`), never counts alone, and a comparison of nothing fails.
//! - The agent and the reviewers are played: nothing here is about them.

use anyhow::{Result, ensure};
use proto::store::Store;
use serde_json::{Value, json};

use crate::{
    corpus::{RawDocument, RawPage, examples, put_document, put_examples},
    harness::{Control, Shell},
    played::Played,
    sme::truth::Truth,
};

const BATCH: &str = "pilot-1";
/// What the shell merges, beside what `control` does: as readable by the shell as all of the root.
const RECORDS_BY_HAND: &str = "argilla_records_by_hand.parquet";

/// One pilot done twice: by `control` in `lake/` of its folder, by the shell in `hand/`.
#[derive(Debug)]
pub struct ByHand {
    control: Control,
    shell: Shell,
    store: Store,
}

impl ByHand {
    /// `control` works on the root of `store`, which is empty.
    pub fn new(control: Control, shell: Shell, store: Store) -> Self {
        Self { control, shell, store }
    }

    /// Each step, twice where it may be run again; the first difference is the error.
    pub async fn every_step(&self) -> Result<()> {
        self.fill().await?;
        self.load()?;
        self.merge().await?;
        self.annotations().await?;
        self.checks()
    }

    /// Besides what OCR got right: a wrong hash, two texts for one key, a blank and a null page.
    async fn fill(&self) -> Result<()> {
        put_examples(&self.store, None).await?;
        let mut pages: Vec<_> =
            (1..=6).map(|n| RawPage::new("bad/one", 1, n, &format!("page {n}"))).collect();
        pages[1].text_sha256 = Some("0".repeat(64));
        pages.push(RawPage::new("bad/one", 1, 3, "a rival"));
        (pages[3].text, pages[3].text_sha256) = (None, None);
        pages[4] = RawPage::new("bad/one", 1, 5, " \n\t");
        put_document(&self.store, &RawDocument::new("bad/one", 1), &pages).await?;
        Ok(std::fs::create_dir_all(self.path("hand"))?)
    }

    fn path(&self, below: &str) -> String {
        self.control.folder.join(below).display().to_string()
    }

    fn root(&self) -> String {
        self.store.root().to_string()
    }

    fn played(&self) -> Result<Played> {
        Played::over(self.store.clone(), BATCH)
    }

    /// The statements that attach the lake that is made by hand.
    fn attach(&self) -> String {
        format!(
            "ATTACH '{}' AS rawdb (READ_WRITE);\nATTACH '{}' AS anndb (READ_WRITE);\n",
            self.path("hand/md_raw_ocr.duckdb"),
            self.path("hand/md_annotated.duckdb")
        )
    }

    fn batch(&self, files: &str) -> String {
        format!("{}/argilla/in/vessels_ocr_{BATCH}/{files}", self.root())
    }

    /// That two tables hold the same rows, these columns apart.
    fn same_rows(&self, database: &str, table: &str, less: &[&str]) -> Result<()> {
        let columns =
            if less.is_empty() { "*".to_owned() } else { format!("* EXCLUDE ({})", less.join(", ")) };
        // Without an alias, as a person opens a file: its views must work under any name.
        let of = |lake: &str| -> Result<String> {
            let to = self.path(&format!("{lake}-{table}.parquet"));
            let from = self.path(&format!("{lake}/{database}.duckdb"));
            self.shell.run(&format!(
                "ATTACH '{from}' (READ_ONLY);\n\
                 COPY (SELECT {columns} FROM {database}.main.{table}) TO '{to}';\n"
            ))?;
            Ok(format!("SELECT * FROM read_parquet('{to}')"))
        };
        self.shell.same(&of("lake")?, &of("hand")?, table)
    }

    /// Runbook, step 2.
    fn load(&self) -> Result<()> {
        self.control.json(&["lake", "init"])?;
        let report = self.control.json(&["ocr", "load"])?;
        told(&report, &[("/pages_in", 85), ("/pages_out", 85)])?;
        told(&report, &[("/outcomes/flagged_wrong_hash", 1), ("/outcomes/flagged_key_taken", 2)])?;
        let by_hand = format!(
            "{}.read sql/motherduck/ddl_raw.sql\n.read sql/motherduck/ddl_annotated.sql\n\
             .read sql/motherduck/examples_load_parquet.sql\n\
             UPDATE _params SET documents_glob = '{root}/md_raw_ocr/documents/**/*.parquet', \
             pages_glob = '{root}/md_raw_ocr/pages/**/*.parquet';\n\
             .read sql/motherduck/examples_load_parquet.sql\n",
            self.attach(),
            root = self.root(),
        );
        // Twice: it may be run again.
        for _ in 0..2 {
            self.shell.run(&by_hand)?;
            already_done(&self.control.json(&["ocr", "load"])?)?;
        }
        for table in ["raw_documents", "raw_pages", "vw_argilla_pages"] {
            self.same_rows("md_raw_ocr", table, &[])?;
        }
        let counts = self.shell.rows(
            &self.attach(),
            "SELECT (SELECT count(*) FROM rawdb.main.raw_documents) AS documents, \
             (SELECT count(*) FROM rawdb.main.raw_pages) AS pages",
        )?;
        ensure!(counts == [json!({"documents": 17, "pages": 85})], "{counts:?}");
        Ok(())
    }

    /// Runbook, steps 3 and 4.
    async fn merge(&self) -> Result<()> {
        self.control.json(&["batch", "create", BATCH, "--all", "--part-pages", "30"])?;
        let truth = Truth::read(&examples().join("truth.parquet"))?;
        self.played()?.annotate(&truth, &[0, 1, 2], true).await?;
        let report = self.control.json(&["merge", BATCH])?;
        told(&report, &[("/pages_in", 79), ("/pages_out", 73)])?;
        told(&report, &[("/outcomes/skipped", 3), ("/outcomes/blank", 3)])?;
        already_done(&self.control.json(&["merge", BATCH])?)?;
        let records = format!("{}/{RECORDS_BY_HAND}", self.root());
        let by_hand = format!(
            ".read sql/motherduck/merge_suggestions_for_argilla.sql\n\
             UPDATE _params SET pages_glob = '{}', suggestions_glob = '{}', output_uri = '{records}';\n\
             .read sql/motherduck/merge_suggestions_for_argilla.sql\n",
            self.batch("pages/*.parquet"),
            self.batch("suggestions/*.parquet"),
        );
        self.shell.run(&by_hand)?;
        self.shell.run(&by_hand)?;
        let both = [self.batch("argilla_records.parquet"), records];
        let [control, hand] = both.each_ref().map(|file| format!("SELECT * FROM read_parquet('{file}')"));
        self.shell.same(&control, &hand, "argilla_records")?;
        let [control, hand] =
            both.each_ref().map(|file| format!("SELECT * EXCLUDE (file_name) FROM parquet_schema('{file}')"));
        self.shell.same(&control, &hand, "the schema of argilla_records")
    }

    /// Runbook, step 6.
    async fn annotations(&self) -> Result<()> {
        self.played()?.export(1).await?;
        told(&self.control.json(&["annotations", "load", BATCH])?, &[("/outcomes/answers_loaded", 146)])?;
        already_done(&self.control.json(&["annotations", "load", BATCH])?)?;
        let export = format!("{}/argilla/out/vessels_ocr_{BATCH}/export_run_id=1", self.root());
        let by_hand = format!(
            "{}.read sql/motherduck/load_annotated_parquet.sql\n\
             UPDATE _params SET argilla_dataset = 'vessels_ocr_{BATCH}', \
             pages_glob = '{export}/pages/*.parquet', spans_glob = '{export}/spans/*.parquet';\n\
             .read sql/motherduck/load_annotated_parquet.sql\n",
            self.attach(),
        );
        self.shell.run(&by_hand)?;
        self.shell.run(&by_hand)?;
        let loaded = ["created_at", "updated_at"];
        self.same_rows("md_annotated", "annotations_pages", &loaded)?;
        self.same_rows("md_annotated", "annotations_spans", &loaded)?;
        self.same_rows("md_annotated", "vw_latest_annotations_spans", &loaded)?;
        // By hand nobody says when and by what the export was made.
        let not_said = ["created_at", "started_at", "completed_at", "tool_version"];
        self.same_rows("md_annotated", "annotations_exports", &not_said)
    }

    /// Runbook, step 7.
    fn checks(&self) -> Result<()> {
        let done = self.control.run(&["check", BATCH, "--json"])?;
        ensure!(done.code == Some(1), "{done:?}");
        let answer: Value = serde_json::from_str(&done.stdout)?;
        let checks = answer["checks"].as_array().cloned().unwrap_or_default();
        let failed: Vec<_> =
            checks.iter().filter(|check| check["status"] != "PASS").map(|check| &check["number"]).collect();
        ensure!(checks.len() == 10 && failed == [3, 4], "{checks:#?}");
        ensure!(checks[2]["offenders"] == json!(["bad/one:2 (run 1)"]), "{checks:#?}");
        self.shell.run(&format!(
            "{}.read sql/motherduck/checks_integrity.sql\n\
             UPDATE _params SET argilla_dataset = 'vessels_ocr_{BATCH}', pages_glob = '{}', \
             suggestions_glob = '{}';\n.read sql/motherduck/checks_integrity.sql\n\
             COPY (SELECT check_no AS number, * EXCLUDE (check_no) FROM _checks ORDER BY check_no) TO '{}' \
             (FORMAT json, ARRAY true);\n",
            self.attach(),
            self.batch("pages/*.parquet"),
            self.batch("suggestions/*.parquet"),
            self.path("hand/checks.json"),
        ))?;
        let by_hand = std::fs::read_to_string(self.path("hand/checks.json"))?;
        let by_hand: Vec<Value> = serde_json::from_str(&by_hand)?;
        ensure!(by_hand == checks, "by hand {by_hand:#?}, by control {checks:#?}");
        Ok(())
    }
}

fn told(report: &Value, wanted: &[(&str, u64)]) -> Result<()> {
    for (name, count) in wanted {
        ensure!(report.pointer(name) == Some(&json!(count)), "{name} is not {count}: {report}");
    }
    Ok(())
}

fn already_done(report: &Value) -> Result<()> {
    ensure!(report["already_done"] == json!(true), "it was done again: {report}");
    Ok(())
}
