-- OCR Parquet into md_raw_ocr (runbook, step 2). `control ocr load` runs this same file.
--
--     ATTACH 'md:md_raw_ocr' AS rawdb;        -- or a file; its tables come from ddl_raw.sql
--     CREATE OR REPLACE TEMP TABLE _params AS SELECT
--         's3://bucket/prefix/md_raw_ocr/documents/**/*.parquet' AS documents_glob,
--         's3://bucket/prefix/md_raw_ocr/pages/**/*.parquet' AS pages_glob;
--     .read sql/motherduck/examples_load_parquet.sql
--
-- _params, one row; also UPDATE _params SET … after a first run, then .read again:
--   documents_glob  files of raw_documents: a path, a glob, or a list of them ([] for none)
--   pages_glob      files of raw_pages
--   doc_ids         VARCHAR[]: only these documents; NULL: all
--
-- May be run again: a row that is there with the same content is not inserted twice. A row whose key is taken
-- by other content, or whose hash is wrong, is loaded and flagged (_load_flags). Nothing is loaded when a file
-- lacks a column or has it in another type. Leaves _load_report(metric, value).

CREATE TEMP TABLE IF NOT EXISTS _params AS SELECT NULL::VARCHAR AS pages_glob;
ALTER TABLE _params ADD COLUMN IF NOT EXISTS documents_glob VARCHAR;
ALTER TABLE _params ADD COLUMN IF NOT EXISTS pages_glob VARCHAR;
ALTER TABLE _params ADD COLUMN IF NOT EXISTS doc_ids VARCHAR[];

-- The last value set wins, so that INSERT INTO _params works as well as UPDATE.
SET VARIABLE document_files = (
    SELECT last(coalesce(try_cast(documents_glob AS VARCHAR[]), [documents_glob::VARCHAR]) ORDER BY rowid)
        FILTER (documents_glob IS NOT NULL)
    FROM _params);
SET VARIABLE page_files = (
    SELECT last(coalesce(try_cast(pages_glob AS VARCHAR[]), [pages_glob::VARCHAR]) ORDER BY rowid)
        FILTER (pages_glob IS NOT NULL)
    FROM _params);
SET VARIABLE doc_ids = (
    SELECT last(doc_ids::VARCHAR[] ORDER BY rowid) FILTER (doc_ids IS NOT NULL) FROM _params);

-- The shell may run the statements after an error: without these tables and this variable they do nothing.
SET VARIABLE ready = false;
DROP TABLE IF EXISTS temp._load_columns;
DROP TABLE IF EXISTS temp._load_wrong;
DROP TABLE IF EXISTS temp._stage_documents;
DROP TABLE IF EXISTS temp._stage_pages;
DROP TABLE IF EXISTS temp._load_report;
CREATE OR REPLACE TEMP TABLE _load_missing AS
SELECT unnest(list_filter([
    CASE WHEN getvariable('document_files') IS NULL THEN 'nothing loaded: set _params.documents_glob' END,
    CASE WHEN getvariable('page_files') IS NULL THEN 'nothing loaded: set _params.pages_glob' END,
    CASE WHEN NOT EXISTS (
        FROM duckdb_tables() WHERE database_name = 'rawdb' AND schema_name = 'main' AND table_name = 'raw_pages'
    ) THEN 'nothing loaded: no table rawdb.main.raw_pages: ATTACH it, .read sql/motherduck/ddl_raw.sql' END
], lambda message: message IS NOT NULL)) AS message;

-- Every file has every column, in a type that can be read as the table's.
SET VARIABLE schemas = (SELECT coalesce(string_agg(
    'SELECT ''' || kind || ''' AS kind, file_name, name, duckdb_type FROM parquet_schema(getvariable('''
    || files || '''))', ' UNION ALL '),
    'SELECT NULL::VARCHAR AS kind, NULL::VARCHAR AS file_name, NULL::VARCHAR AS name, NULL::VARCHAR AS duckdb_type
     WHERE false')
    FROM (
        SELECT 'raw_documents' AS kind, 'document_files' AS files WHERE len(getvariable('document_files')) > 0
        UNION ALL
        SELECT 'raw_pages', 'page_files' WHERE len(getvariable('page_files')) > 0
    ) WHERE NOT EXISTS (FROM _load_missing));
CREATE OR REPLACE TEMP TABLE _load_columns AS FROM query(getvariable('schemas'));
CREATE OR REPLACE TEMP TABLE _load_wrong AS
SELECT format('{}: column "{}" of {} is {}, and must be {}', file_name, wanted.name, kind,
    coalesce(found.duckdb_type, 'missing'), wanted.data_type) AS problem
FROM (SELECT DISTINCT kind, file_name FROM _load_columns) AS files
JOIN (
    SELECT table_name AS kind, column_name AS name, data_type FROM duckdb_columns()
    WHERE database_name = 'rawdb' AND schema_name = 'main'
) AS wanted USING (kind)
LEFT JOIN _load_columns AS found USING (kind, file_name, name)
WHERE coalesce(NOT CASE
    WHEN found.duckdb_type = '"NULL"' THEN true
    WHEN wanted.data_type IN ('BIGINT', 'INTEGER') THEN found.duckdb_type LIKE '%INT%'
    WHEN wanted.data_type = 'DOUBLE' THEN regexp_matches(found.duckdb_type, 'INT|DOUBLE|FLOAT|DECIMAL')
    ELSE starts_with(found.duckdb_type, wanted.data_type)
END, true);
SET VARIABLE ready = (
    SELECT error('nothing loaded: ' || string_agg(problem, '; ' ORDER BY problem))
    FROM (FROM _load_wrong ORDER BY problem LIMIT 20) HAVING count(*) > 0);
SET VARIABLE ready = (SELECT count(*) = 0 FROM _load_missing) AND (SELECT count(*) = 0 FROM _load_wrong);

-- union_by_name takes the widest type of the files; the empty SELECT types a column that is null throughout.
SET VARIABLE documents = CASE WHEN getvariable('ready') AND len(getvariable('document_files')) > 0
    THEN 'FROM read_parquet(getvariable(''document_files''), hive_partitioning = false, union_by_name = true)
        UNION ALL BY NAME SELECT NULL::TIMESTAMP AS ingest_ts WHERE false'
    ELSE 'FROM rawdb.main.raw_documents WHERE false' END;
CREATE OR REPLACE TEMP TABLE _stage_documents AS
SELECT
    doc_id::VARCHAR AS doc_id, run_id::BIGINT AS run_id, make_timestamp(epoch_us(ingest_ts)) AS ingest_ts,
    filename::VARCHAR AS filename, r2_key::VARCHAR AS r2_key, content_type::VARCHAR AS content_type,
    size_bytes::BIGINT AS size_bytes, doc_sha256::VARCHAR AS doc_sha256, uploader::VARCHAR AS uploader,
    source_meta_json::VARCHAR AS source_meta_json, hf_space_commit::VARCHAR AS hf_space_commit,
    ocr_model::VARCHAR AS ocr_model, ocr_image_digest::VARCHAR AS ocr_image_digest,
    ocr_params_json::VARCHAR AS ocr_params_json,
    row_number() OVER (PARTITION BY doc_id, run_id, doc_sha256 ORDER BY ingest_ts) AS copy
FROM query(getvariable('documents'))
WHERE getvariable('doc_ids') IS NULL OR doc_id::VARCHAR IN (SELECT unnest(getvariable('doc_ids')::VARCHAR[]));

SET VARIABLE pages = CASE WHEN getvariable('ready') AND len(getvariable('page_files')) > 0
    THEN 'FROM read_parquet(getvariable(''page_files''), hive_partitioning = false, union_by_name = true)
        UNION ALL BY NAME SELECT NULL::TIMESTAMP AS created_at WHERE false'
    ELSE 'FROM rawdb.main.raw_pages WHERE false' END;
CREATE OR REPLACE TEMP TABLE _stage_pages AS
SELECT
    doc_id::VARCHAR AS doc_id, run_id::BIGINT AS run_id, page_num::INTEGER AS page_num,
    page_width::INTEGER AS page_width, page_height::INTEGER AS page_height, "text"::VARCHAR AS "text",
    text_sha256::VARCHAR AS text_sha256, page_image_sha256::VARCHAR AS page_image_sha256,
    ocr_confidence::DOUBLE AS ocr_confidence, blocks_json::VARCHAR AS blocks_json,
    lines_json::VARCHAR AS lines_json, tables_json::VARCHAR AS tables_json, figures_json::VARCHAR AS figures_json,
    ocr_runtime_ms::BIGINT AS ocr_runtime_ms, make_timestamp(epoch_us(created_at)) AS created_at,
    sha256("text"::VARCHAR) AS true_sha256,
    row_number() OVER (PARTITION BY doc_id, run_id, page_num, text_sha256, sha256("text"::VARCHAR)
        ORDER BY created_at) AS copy
FROM query(getvariable('pages'))
WHERE getvariable('doc_ids') IS NULL OR doc_id::VARCHAR IN (SELECT unnest(getvariable('doc_ids')::VARCHAR[]));

-- One transaction writes one database. What is already there is looked up inside it.
BEGIN;
CREATE OR REPLACE TEMP TABLE _new_documents AS
SELECT stage.*, EXISTS (
    FROM rawdb.main.raw_documents AS old WHERE old.doc_id = stage.doc_id AND old.run_id = stage.run_id
) AS key_taken
FROM _stage_documents AS stage
WHERE copy = 1 AND doc_id <> '' AND run_id IS NOT NULL AND NOT EXISTS (
    FROM rawdb.main.raw_documents AS old
    WHERE old.doc_id = stage.doc_id AND old.run_id = stage.run_id
        AND old.doc_sha256 IS NOT DISTINCT FROM stage.doc_sha256);

CREATE OR REPLACE TEMP TABLE _old_pages AS
SELECT DISTINCT doc_id, run_id, page_num, text_sha256, sha256("text") AS true_sha256
FROM rawdb.main.raw_pages SEMI JOIN _stage_pages USING (doc_id, run_id, page_num);
CREATE OR REPLACE TEMP TABLE _new_pages AS
SELECT stage.*, EXISTS (
    FROM _old_pages AS old
    WHERE old.doc_id = stage.doc_id AND old.run_id = stage.run_id AND old.page_num = stage.page_num
) AS key_taken
FROM _stage_pages AS stage
WHERE copy = 1 AND doc_id <> '' AND run_id IS NOT NULL AND page_num IS NOT NULL AND NOT EXISTS (
    FROM _old_pages AS old
    WHERE old.doc_id = stage.doc_id AND old.run_id = stage.run_id AND old.page_num = stage.page_num
        AND old.text_sha256 IS NOT DISTINCT FROM stage.text_sha256
        AND old.true_sha256 IS NOT DISTINCT FROM stage.true_sha256);

INSERT INTO rawdb.main.raw_documents BY NAME
SELECT * EXCLUDE (copy, key_taken) FROM _new_documents;
INSERT INTO rawdb.main.raw_pages BY NAME
SELECT * EXCLUDE (copy, key_taken, true_sha256) FROM _new_pages;
COMMIT;

CREATE OR REPLACE TEMP TABLE _load_flags AS
SELECT doc_id, run_id, NULL::INTEGER AS page_num, 'the key is taken by other content' AS reason
FROM (SELECT *, count(*) OVER (PARTITION BY doc_id, run_id) AS rivals FROM _new_documents)
WHERE key_taken OR rivals > 1
UNION ALL
SELECT doc_id, run_id, page_num, 'the key is taken by other content'
FROM (SELECT *, count(*) OVER (PARTITION BY doc_id, run_id, page_num) AS rivals FROM _new_pages)
WHERE key_taken OR rivals > 1
UNION ALL
SELECT doc_id, run_id, page_num, 'text_sha256 is not the hash of the text'
FROM _new_pages WHERE text_sha256 IS DISTINCT FROM true_sha256
UNION ALL
SELECT doc_id, run_id, NULL, 'not loaded: the document has no doc_id or run_id'
FROM _stage_documents WHERE NOT coalesce(doc_id <> '' AND run_id IS NOT NULL, false)
UNION ALL
SELECT doc_id, run_id, page_num, 'not loaded: the page has no doc_id, run_id or page_num'
FROM _stage_pages WHERE NOT coalesce(doc_id <> '' AND run_id IS NOT NULL AND page_num IS NOT NULL, false);

CREATE OR REPLACE TEMP TABLE _load_report AS
WITH staged AS (
    SELECT 'documents' AS what, count(*) AS rows FROM _stage_documents
    UNION ALL SELECT 'pages', count(*) FROM _stage_pages
), loaded AS (
    SELECT 'documents' AS what, count(*) AS rows FROM _new_documents
    UNION ALL SELECT 'pages', count(*) FROM _new_pages
), refused AS (
    SELECT if(reason LIKE '%the document%', 'documents', 'pages') AS what, count(*) AS rows
    FROM _load_flags WHERE starts_with(reason, 'not loaded') GROUP BY ALL
)
SELECT what || '_in_files' AS metric, staged.rows AS value FROM staged WHERE getvariable('ready')
UNION ALL
SELECT what || '_loaded', loaded.rows FROM loaded WHERE getvariable('ready')
UNION ALL
SELECT what || '_there_already', staged.rows - loaded.rows - coalesce(refused.rows, 0)
FROM staged JOIN loaded USING (what) LEFT JOIN refused USING (what) WHERE getvariable('ready')
UNION ALL
SELECT what || '_without_key', coalesce(refused.rows, 0)
FROM staged LEFT JOIN refused USING (what) WHERE getvariable('ready')
UNION ALL
SELECT 'flagged_key_taken', count(*) FROM _load_flags WHERE reason LIKE 'the key%' HAVING getvariable('ready')
UNION ALL
SELECT 'flagged_wrong_hash', count(*) FROM _load_flags WHERE reason LIKE 'text_sha256%' HAVING getvariable('ready')
UNION ALL
SELECT message, NULL FROM _load_missing;
FROM _load_report ORDER BY metric;
