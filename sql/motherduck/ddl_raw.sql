-- The raw lake: what the OCR job wrote, kept as it came. Facts are append-only; no row is changed or removed.
--
--     ATTACH 'md:md_raw_ocr' AS rawdb;        -- or a file: ATTACH 'lake/md_raw_ocr.duckdb' AS rawdb;
--     .read sql/motherduck/ddl_raw.sql
--
-- May be run again at any time. `control lake init` runs this same file. Times are UTC. There are no keys on
-- purpose: a row whose key is taken or whose hash is wrong must be loaded to be found (checks 3 and 4).

CREATE TABLE IF NOT EXISTS rawdb.main.schema_version (
    version INTEGER NOT NULL,
    applied_at TIMESTAMP NOT NULL
);

-- Key (doc_id, run_id).
CREATE TABLE IF NOT EXISTS rawdb.main.raw_documents (
    doc_id VARCHAR NOT NULL,
    run_id BIGINT NOT NULL,
    ingest_ts TIMESTAMP,
    filename VARCHAR,
    r2_key VARCHAR,
    content_type VARCHAR,
    size_bytes BIGINT,
    doc_sha256 VARCHAR,
    uploader VARCHAR,
    source_meta_json VARCHAR,
    hf_space_commit VARCHAR,
    ocr_model VARCHAR,
    ocr_image_digest VARCHAR,
    ocr_params_json VARCHAR
);

-- Key (doc_id, run_id, page_num); page_num counts from 1. text_sha256 is the lower hex SHA-256 of the UTF-8 text.
CREATE TABLE IF NOT EXISTS rawdb.main.raw_pages (
    doc_id VARCHAR NOT NULL,
    run_id BIGINT NOT NULL,
    page_num INTEGER NOT NULL,
    page_width INTEGER,
    page_height INTEGER,
    text VARCHAR,
    text_sha256 VARCHAR,
    page_image_sha256 VARCHAR,
    ocr_confidence DOUBLE,
    blocks_json VARCHAR,
    lines_json VARCHAR,
    tables_json VARCHAR,
    figures_json VARCHAR,
    ocr_runtime_ms BIGINT,
    created_at TIMESTAMP
);

-- A withdrawn document: it stays in the tables and leaves the views.
CREATE TABLE IF NOT EXISTS rawdb.main.tombstones (
    doc_id VARCHAR NOT NULL,
    withdrawn_at TIMESTAMP NOT NULL,
    reason VARCHAR
);

-- What is annotated: the newest run of each document. A view names no database, so that it works under any name.
CREATE OR REPLACE VIEW rawdb.main.vw_argilla_pages AS
SELECT pages.doc_id, pages.page_num, pages.text, pages.text_sha256, pages.run_id
FROM main.raw_pages AS pages
JOIN (
    SELECT doc_id, max(run_id) AS run_id FROM main.raw_pages GROUP BY doc_id
) AS newest ON newest.doc_id = pages.doc_id AND newest.run_id = pages.run_id
WHERE NOT EXISTS (FROM main.tombstones AS gone WHERE gone.doc_id = pages.doc_id);

CREATE OR REPLACE TEMP TABLE _version AS
SELECT 1 AS version, make_timestamp(epoch_us(now())) AS applied_at;

INSERT INTO rawdb.main.schema_version
FROM _version AS new
WHERE NOT EXISTS (FROM rawdb.main.schema_version AS old WHERE old.version = new.version);
