-- The annotated lake: what people made of the pages, export by export, and the state of the ingestion.
--
--     ATTACH 'md:md_annotated' AS anndb;      -- or a file: ATTACH 'lake/md_annotated.duckdb' AS anndb;
--     .read sql/motherduck/ddl_annotated.sql
--
-- May be run again at any time. `control lake init` runs this same file. Times are UTC. The annotations are
-- facts and append-only; argilla_ingest_log is state. Offsets count Unicode code points, end exclusive.

CREATE TABLE IF NOT EXISTS anndb.main.schema_version (
    version INTEGER NOT NULL,
    applied_at TIMESTAMP NOT NULL
);

-- One row an export; key (argilla_dataset, export_run_id). record_count counts distinct records.
CREATE TABLE IF NOT EXISTS anndb.main.annotations_exports (
    export_run_id BIGINT NOT NULL,
    argilla_dataset VARCHAR NOT NULL,
    record_count BIGINT NOT NULL,
    checksum VARCHAR NOT NULL,
    started_at TIMESTAMP,
    completed_at TIMESTAMP,
    tool_version VARCHAR,
    created_at TIMESTAMP NOT NULL
);

-- One row a record and annotator. run_id and page_sha256 lead back to the very raw page that was annotated.
CREATE TABLE IF NOT EXISTS anndb.main.annotations_pages (
    export_run_id BIGINT NOT NULL,
    argilla_dataset VARCHAR NOT NULL,
    argilla_record_id VARCHAR NOT NULL,
    doc_id VARCHAR,
    page_num INTEGER,
    status VARCHAR,
    annotator_id VARCHAR,
    reviewer_id VARCHAR,
    record_sha256 VARCHAR,
    record_json VARCHAR,
    run_id BIGINT,
    page_sha256 VARCHAR,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL
);

-- One row a span and annotator. text_sha256 is of the span, page_sha256 of its page.
CREATE TABLE IF NOT EXISTS anndb.main.annotations_spans (
    export_run_id BIGINT NOT NULL,
    argilla_dataset VARCHAR NOT NULL,
    argilla_record_id VARCHAR NOT NULL,
    span_id VARCHAR,
    doc_id VARCHAR,
    page_num INTEGER,
    label VARCHAR,
    "start" INTEGER,
    "end" INTEGER,
    text VARCHAR,
    text_sha256 VARCHAR,
    norm_value VARCHAR,
    annotator_id VARCHAR,
    run_id BIGINT,
    page_sha256 VARCHAR,
    confidence DOUBLE,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL
);

-- What `control argilla autoload` found and did; key (dataset, object_uri, object_etag).
-- status: discovered, ingesting, ingested, failed. owner, epoch and heartbeat_at are the lease of a worker.
CREATE TABLE IF NOT EXISTS anndb.main.argilla_ingest_log (
    dataset VARCHAR NOT NULL,
    object_uri VARCHAR NOT NULL,
    object_etag VARCHAR NOT NULL,
    object_bytes BIGINT,
    discovered_at TIMESTAMP NOT NULL,
    ingested_at TIMESTAMP,
    status VARCHAR NOT NULL,
    message VARCHAR,
    owner VARCHAR,
    epoch BIGINT,
    heartbeat_at TIMESTAMP
);

-- A withdrawn document: its annotations stay in the tables and leave vw_latest_annotations_spans.
CREATE TABLE IF NOT EXISTS anndb.main.tombstones (
    doc_id VARCHAR NOT NULL,
    withdrawn_at TIMESTAMP NOT NULL,
    reason VARCHAR
);

CREATE OR REPLACE VIEW anndb.main.vw_latest_exports AS
SELECT exports.*
FROM main.annotations_exports AS exports
JOIN (
    SELECT argilla_dataset, max(export_run_id) AS export_run_id
    FROM main.annotations_exports GROUP BY argilla_dataset
) AS latest
    ON latest.argilla_dataset = exports.argilla_dataset AND latest.export_run_id = exports.export_run_id;

CREATE OR REPLACE VIEW anndb.main.vw_latest_annotations_spans AS
SELECT spans.*
FROM main.annotations_spans AS spans
JOIN main.vw_latest_exports AS latest
    ON latest.argilla_dataset = spans.argilla_dataset AND latest.export_run_id = spans.export_run_id
WHERE NOT EXISTS (FROM main.tombstones AS gone WHERE gone.doc_id = spans.doc_id);

CREATE OR REPLACE TEMP TABLE _version AS
SELECT 1 AS version, make_timestamp(epoch_us(now())) AS applied_at;

INSERT INTO anndb.main.schema_version
FROM _version AS new
WHERE NOT EXISTS (FROM anndb.main.schema_version AS old WHERE old.version = new.version);
