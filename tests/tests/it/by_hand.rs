//! Every step of the runbook by `control`, and again by hand in the DuckDB shell, on the same input: equal rows.
//!
//! The shell comes from `deploy/deps/duckdb-cli.sh`. Its script is what the runbook says, with a folder for a bucket
//! and files for MotherDuck: `.read`, then set `_params`, then `.read` again.

use e2e::{
    corpus::{RawDocument, RawPage, copy_examples, examples, write_document},
    harness::{Control, Shell},
    played::Played,
    sme::truth::Truth,
};
use serde_json::{Value, json};

const BATCH: &str = "pilot-1";

/// One pilot done twice: by `control` in `control/`, by hand in `hand/`.
struct Pilot {
    folder: tempfile::TempDir,
    control: Control,
    shell: Shell,
}

impl Pilot {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("data");
        copy_examples(&root).unwrap();
        // Besides what OCR got right: a wrong hash, two texts for one key, a blank and a null page.
        let root = root.to_str().unwrap().to_owned();
        let mut pages: Vec<_> =
            (1..=6).map(|n| RawPage::new("bad/one", 1, n, &format!("page {n}"))).collect();
        pages[1].text_sha256 = Some("0".repeat(64));
        pages.push(RawPage::new("bad/one", 1, 3, "a rival"));
        (pages[3].text, pages[3].text_sha256) = (None, None);
        pages[4] = RawPage::new("bad/one", 1, 5, " \n\t");
        write_document(&root, &RawDocument::new("bad/one", 1), &pages).await.unwrap();
        std::fs::create_dir_all(folder.path().join("hand")).unwrap();
        let cache = folder.path().join("cache").display().to_string();
        let control = Control::new(folder.path(), &root).with("PREANNOTATE_CACHE", &cache);
        Self { folder, control, shell: Shell::find().unwrap() }
    }

    fn path(&self, below: &str) -> String {
        self.folder.path().join(below).to_str().unwrap().to_owned()
    }

    fn root(&self) -> String {
        self.path("data")
    }

    fn played(&self) -> Played {
        Played::new(&self.root(), BATCH).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        self.control.json(args).unwrap()
    }

    fn by_hand(&self, script: &str) {
        self.shell.run(script).unwrap();
    }

    fn rows(&self, before: &str, query: &str) -> Vec<Value> {
        self.shell.rows(before, query).unwrap()
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
    fn same_rows(&self, database: &str, table: &str, less: &[&str]) {
        let columns =
            if less.is_empty() { "*".to_owned() } else { format!("* EXCLUDE ({})", less.join(", ")) };
        // Without an alias, as a person opens a file: its views must work under any name.
        let of = |lake: &str| {
            let to = self.path(&format!("{lake}-{table}.parquet"));
            let from = self.path(&format!("{lake}/{database}.duckdb"));
            self.by_hand(&format!(
                "ATTACH '{from}' (READ_ONLY);\n\
                 COPY (SELECT {columns} FROM {database}.main.{table}) TO '{to}';\n"
            ));
            format!("SELECT * FROM read_parquet('{to}')")
        };
        self.same("", &of("lake"), &of("hand"), table);
    }

    fn same(&self, before: &str, left: &str, right: &str, what: &str) {
        let count = |query: &str| format!("(SELECT count(*) FROM ({query}))");
        let query = format!(
            "SELECT {} AS rows, {} AS control_only, {} AS hand_only",
            count(left),
            count(&format!("({left}) EXCEPT ALL ({right})")),
            count(&format!("({right}) EXCEPT ALL ({left})")),
        );
        let found = &self.rows(before, &query)[0];
        assert_eq!((&found["control_only"], &found["hand_only"]), (&json!(0), &json!(0)), "{what}: {found}");
        assert_ne!(found["rows"], json!(0), "{what}");
    }

    /// Runbook, step 2.
    fn load(&self) {
        self.json(&["lake", "init"]);
        let report = self.json(&["ocr", "load"]);
        assert_eq!((&report["pages_in"], &report["pages_out"]), (&json!(85), &json!(85)), "{report}");
        assert_eq!(report["outcomes"]["flagged_wrong_hash"], json!(1), "{report}");
        assert_eq!(report["outcomes"]["flagged_key_taken"], json!(2), "{report}");
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
            self.by_hand(&by_hand);
            assert_eq!(self.json(&["ocr", "load"])["already_done"], json!(true));
        }
        for table in ["raw_documents", "raw_pages", "vw_argilla_pages"] {
            self.same_rows("md_raw_ocr", table, &[]);
        }
        let counts = self.rows(
            &self.attach(),
            "SELECT (SELECT count(*) FROM rawdb.main.raw_documents) AS documents, \
             (SELECT count(*) FROM rawdb.main.raw_pages) AS pages",
        );
        assert_eq!(counts, [json!({"documents": 17, "pages": 85})]);
    }

    /// Runbook, steps 3 and 4.
    async fn merge(&self) {
        self.json(&["batch", "create", BATCH, "--all", "--part-pages", "30"]);
        let truth = Truth::read(&examples().join("truth.parquet")).unwrap();
        self.played().annotate(&truth, &[0, 1, 2], true).await.unwrap();
        let report = self.json(&["merge", BATCH]);
        assert_eq!((&report["pages_in"], &report["pages_out"]), (&json!(79), &json!(73)), "{report}");
        assert_eq!(report["outcomes"]["skipped"], json!(3), "{report}");
        assert_eq!(report["outcomes"]["blank"], json!(3), "{report}");
        let again = self.json(&["merge", BATCH]);
        assert_eq!(again["already_done"], json!(true), "{again}");
        let records = self.path("hand/argilla_records.parquet");
        self.by_hand(&format!(
            ".read sql/motherduck/merge_suggestions_for_argilla.sql\n\
             UPDATE _params SET pages_glob = '{}', suggestions_glob = '{}', output_uri = '{records}';\n\
             .read sql/motherduck/merge_suggestions_for_argilla.sql\n",
            self.batch("pages/*.parquet"),
            self.batch("suggestions/*.parquet"),
        ));
        let of = |file: &str| format!("SELECT * FROM read_parquet('{file}')");
        self.same("", &of(&self.batch("argilla_records.parquet")), &of(&records), "argilla_records");
    }

    /// Runbook, step 6.
    async fn annotations(&self) {
        self.played().export(1).await.unwrap();
        let report = self.json(&["annotations", "load", BATCH]);
        assert_eq!(report["outcomes"]["answers_loaded"], json!(146), "{report}");
        assert_eq!(self.json(&["annotations", "load", BATCH])["already_done"], json!(true));
        let export = format!("{}/argilla/out/vessels_ocr_{BATCH}/export_run_id=1", self.root());
        let by_hand = format!(
            "{}.read sql/motherduck/load_annotated_parquet.sql\n\
             UPDATE _params SET argilla_dataset = 'vessels_ocr_{BATCH}', \
             pages_glob = '{export}/pages/*.parquet', spans_glob = '{export}/spans/*.parquet';\n\
             .read sql/motherduck/load_annotated_parquet.sql\n",
            self.attach(),
        );
        self.by_hand(&by_hand);
        self.by_hand(&by_hand);
        let loaded = ["created_at", "updated_at"];
        self.same_rows("md_annotated", "annotations_pages", &loaded);
        self.same_rows("md_annotated", "annotations_spans", &loaded);
        self.same_rows("md_annotated", "vw_latest_annotations_spans", &loaded);
        // By hand nobody says when and by what the export was made.
        let not_said = ["created_at", "started_at", "completed_at", "tool_version"];
        self.same_rows("md_annotated", "annotations_exports", &not_said);
    }

    /// Runbook, step 7.
    fn checks(&self) {
        let done = self.control.run(&["check", BATCH, "--json"]).unwrap();
        assert_eq!(done.code, Some(1), "{done:?}");
        let checks: Value = serde_json::from_str(&done.stdout).unwrap();
        let checks = checks["checks"].as_array().unwrap();
        let status: Vec<_> = checks.iter().map(|check| check["status"].as_str().unwrap()).collect();
        let all_but_3_and_4: Vec<_> =
            (1..=10).map(|number| if [3, 4].contains(&number) { "FAIL" } else { "PASS" }).collect();
        assert_eq!(status, all_but_3_and_4, "{checks:#?}");
        assert_eq!(checks[2]["offenders"], json!(["bad/one:2 (run 1)"]));
        self.by_hand(&format!(
            "{}.read sql/motherduck/checks_integrity.sql\n\
             UPDATE _params SET argilla_dataset = 'vessels_ocr_{BATCH}', pages_glob = '{}', \
             suggestions_glob = '{}';\n.read sql/motherduck/checks_integrity.sql\n\
             COPY (SELECT check_no AS number, * EXCLUDE (check_no) FROM _checks ORDER BY check_no) TO '{}' \
             (FORMAT json, ARRAY true);\n",
            self.attach(),
            self.batch("pages/*.parquet"),
            self.batch("suggestions/*.parquet"),
            self.path("hand/checks.json"),
        ));
        let by_hand = std::fs::read_to_string(self.path("hand/checks.json")).unwrap();
        assert_eq!(&serde_json::from_str::<Vec<Value>>(&by_hand).unwrap(), checks);
    }
}

#[tokio::test]
async fn every_step_by_control_and_by_hand_gives_equal_rows() {
    let pilot = Pilot::new().await;
    pilot.load();
    pilot.merge().await;
    pilot.annotations().await;
    pilot.checks();
}
