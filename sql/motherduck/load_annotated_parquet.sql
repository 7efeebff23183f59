-- An export from Argilla into md_annotated (runbook, step 6). `control annotations load` runs this same file.
--
--     ATTACH 'md:md_annotated' AS anndb;      -- or a file; its tables come from ddl_annotated.sql
--     CREATE OR REPLACE TEMP TABLE _params AS SELECT
--         'vessels_ocr_pilot-1' AS argilla_dataset,
--         's3://bucket/prefix/argilla/out/vessels_ocr_pilot-1/export_run_id=1/pages/*.parquet' AS pages_glob,
--         's3://bucket/prefix/argilla/out/vessels_ocr_pilot-1/export_run_id=1/spans/*.parquet' AS spans_glob;
--     .read sql/motherduck/load_annotated_parquet.sql
--
-- _params, one row; also UPDATE _params SET … after a first run, then .read again:
--   argilla_dataset  the dataset that was exported
--   pages_glob       files of annotated pages: a path, a glob, or a list of them
--   spans_glob       files of annotated spans ([] for none)
--   export_run_id    BIGINT; default: the number in the files' folder export_run_id=N, else the next one
--   record_count     BIGINT, what the exporter counted; default: the distinct records of the files
--   started_at, completed_at, loaded_at  TIMESTAMP, UTC; tool_version
--
-- An export is loaded whole, once: again with the same content changes nothing, with other content is refused.
-- Leaves _annotations_report(metric, value).

CREATE TEMP TABLE IF NOT EXISTS _params AS SELECT NULL::VARCHAR AS pages_glob;
ALTER TABLE _params ADD COLUMN IF NOT EXISTS argilla_dataset VARCHAR;
ALTER TABLE _params ADD COLUMN IF NOT EXISTS pages_glob VARCHAR;
ALTER TABLE _params ADD COLUMN IF NOT EXISTS spans_glob VARCHAR;
ALTER TABLE _params ADD COLUMN IF NOT EXISTS export_run_id BIGINT;
ALTER TABLE _params ADD COLUMN IF NOT EXISTS record_count BIGINT;
ALTER TABLE _params ADD COLUMN IF NOT EXISTS started_at TIMESTAMP;
ALTER TABLE _params ADD COLUMN IF NOT EXISTS completed_at TIMESTAMP;
ALTER TABLE _params ADD COLUMN IF NOT EXISTS loaded_at TIMESTAMP;
ALTER TABLE _params ADD COLUMN IF NOT EXISTS tool_version VARCHAR;

-- The last value set wins, so that INSERT INTO _params works as well as UPDATE.
SET VARIABLE page_files = (
    SELECT last(coalesce(try_cast(pages_glob AS VARCHAR[]), [pages_glob::VARCHAR]) ORDER BY rowid)
        FILTER (pages_glob IS NOT NULL)
    FROM _params);
SET VARIABLE span_files = (
    SELECT last(coalesce(try_cast(spans_glob AS VARCHAR[]), [spans_glob::VARCHAR]) ORDER BY rowid)
        FILTER (spans_glob IS NOT NULL)
    FROM _params);

-- The shell may run the statements after an error: without these tables and this variable they do nothing.
SET VARIABLE ready = false;
DROP TABLE IF EXISTS temp._annotations_given;
DROP TABLE IF EXISTS temp._annotations_columns;
DROP TABLE IF EXISTS temp._annotations_wrong;
DROP TABLE IF EXISTS temp._stage_pages;
DROP TABLE IF EXISTS temp._stage_spans;
DROP TABLE IF EXISTS temp._export;
DROP TABLE IF EXISTS temp._new_export;
DROP TABLE IF EXISTS temp._annotations_report;
CREATE TEMP TABLE _annotations_given AS
SELECT
    last(argilla_dataset::VARCHAR ORDER BY rowid) FILTER (argilla_dataset IS NOT NULL) AS argilla_dataset,
    last(export_run_id::BIGINT ORDER BY rowid) FILTER (export_run_id IS NOT NULL) AS export_run_id,
    last(record_count::BIGINT ORDER BY rowid) FILTER (record_count IS NOT NULL) AS record_count,
    last(started_at::TIMESTAMP ORDER BY rowid) FILTER (started_at IS NOT NULL) AS started_at,
    last(completed_at::TIMESTAMP ORDER BY rowid) FILTER (completed_at IS NOT NULL) AS completed_at,
    coalesce(last(loaded_at::TIMESTAMP ORDER BY rowid) FILTER (loaded_at IS NOT NULL),
        make_timestamp(epoch_us(now()))) AS loaded_at,
    last(tool_version::VARCHAR ORDER BY rowid) FILTER (tool_version IS NOT NULL) AS tool_version
FROM _params;
CREATE OR REPLACE TEMP TABLE _annotations_missing AS
SELECT unnest(list_filter([
    CASE WHEN argilla_dataset IS NULL THEN 'nothing loaded: set _params.argilla_dataset' END,
    CASE WHEN getvariable('page_files') IS NULL THEN 'nothing loaded: set _params.pages_glob' END,
    CASE WHEN getvariable('span_files') IS NULL THEN 'nothing loaded: set _params.spans_glob' END,
    CASE WHEN NOT EXISTS (
        FROM duckdb_tables()
        WHERE database_name = 'anndb' AND schema_name = 'main' AND table_name = 'annotations_exports'
    ) THEN 'nothing loaded: no table anndb.main.annotations_exports: ATTACH it, .read sql/motherduck/ddl_annotated.sql'
    END
], lambda message: message IS NOT NULL)) AS message FROM _annotations_given;

-- Every file has every column, in a type that can be read as the table's; all are of one export.
SET VARIABLE schemas = (SELECT coalesce(string_agg(
    'SELECT ''' || kind || ''' AS kind, file_name, name, duckdb_type FROM parquet_schema(getvariable('''
    || files || '''))', ' UNION ALL '),
    'SELECT NULL::VARCHAR AS kind, NULL::VARCHAR AS file_name, NULL::VARCHAR AS name, NULL::VARCHAR AS duckdb_type
     WHERE false')
    FROM (
        SELECT 'annotations_pages' AS kind, 'page_files' AS files WHERE len(getvariable('page_files')) > 0
        UNION ALL
        SELECT 'annotations_spans', 'span_files' WHERE len(getvariable('span_files')) > 0
    ) WHERE NOT EXISTS (FROM _annotations_missing));
CREATE TEMP TABLE _annotations_columns AS FROM query(getvariable('schemas'));
CREATE TEMP TABLE _annotations_wrong AS
SELECT format('{}: column "{}" of {} is {}, and must be {}', file_name, wanted.name, kind,
    coalesce(found.duckdb_type, 'missing'), wanted.data_type) AS problem
FROM (SELECT DISTINCT kind, file_name FROM _annotations_columns) AS files
JOIN (
    SELECT table_name AS kind, column_name AS name, data_type FROM duckdb_columns()
    WHERE database_name = 'anndb' AND schema_name = 'main' AND column_name NOT IN
        ('export_run_id', 'argilla_dataset', 'confidence', 'created_at', 'updated_at')
) AS wanted USING (kind)
LEFT JOIN _annotations_columns AS found USING (kind, file_name, name)
WHERE coalesce(NOT CASE
    WHEN found.duckdb_type = '"NULL"' THEN true
    WHEN wanted.data_type IN ('BIGINT', 'INTEGER') THEN found.duckdb_type LIKE '%INT%'
    ELSE found.duckdb_type = wanted.data_type
END, true)
UNION ALL
SELECT 'the files are of several exports: ' || string_agg(DISTINCT run, ', ' ORDER BY run)
FROM (SELECT regexp_extract(file_name, 'export_run_id=([0-9]+)[/\\]', 1) AS run FROM _annotations_columns)
WHERE run <> '' HAVING count(DISTINCT run) > 1;
SET VARIABLE ready = (
    SELECT error('nothing loaded: ' || string_agg(problem, '; ' ORDER BY problem))
    FROM (FROM _annotations_wrong ORDER BY problem LIMIT 20) HAVING count(*) > 0);
SET VARIABLE ready =
    (SELECT count(*) = 0 FROM _annotations_missing) AND (SELECT count(*) = 0 FROM _annotations_wrong);

SET VARIABLE pages = CASE WHEN getvariable('ready') AND len(getvariable('page_files')) > 0
    THEN 'FROM read_parquet(getvariable(''page_files''), hive_partitioning = false, union_by_name = true)'
    ELSE 'FROM anndb.main.annotations_pages WHERE false' END;
CREATE TEMP TABLE _stage_pages AS
SELECT
    argilla_record_id::VARCHAR AS argilla_record_id, doc_id::VARCHAR AS doc_id, page_num::INTEGER AS page_num,
    status::VARCHAR AS status, annotator_id::VARCHAR AS annotator_id, reviewer_id::VARCHAR AS reviewer_id,
    record_sha256::VARCHAR AS record_sha256, record_json::VARCHAR AS record_json, run_id::BIGINT AS run_id,
    page_sha256::VARCHAR AS page_sha256
FROM query(getvariable('pages'));

SET VARIABLE spans = CASE WHEN getvariable('ready') AND len(getvariable('span_files')) > 0
    THEN 'FROM read_parquet(getvariable(''span_files''), hive_partitioning = false, union_by_name = true)'
    ELSE 'FROM anndb.main.annotations_spans WHERE false' END;
CREATE TEMP TABLE _stage_spans AS
SELECT
    argilla_record_id::VARCHAR AS argilla_record_id, span_id::VARCHAR AS span_id, doc_id::VARCHAR AS doc_id,
    page_num::INTEGER AS page_num, label::VARCHAR AS label, "start"::INTEGER AS "start", "end"::INTEGER AS "end",
    "text"::VARCHAR AS "text", text_sha256::VARCHAR AS text_sha256, norm_value::VARCHAR AS norm_value,
    annotator_id::VARCHAR AS annotator_id, run_id::BIGINT AS run_id, page_sha256::VARCHAR AS page_sha256
FROM query(getvariable('spans'));

-- The export. Its checksum does not depend on the order of rows or on how they are cut into files.
CREATE TEMP TABLE _export AS
WITH sums AS (
    SELECT
        (SELECT count(*) || ':' || coalesce(sum(md5_number_lower(to_json(page)::VARCHAR)), 0)
            FROM _stage_pages AS page) AS pages,
        (SELECT count(*) || ':' || coalesce(sum(md5_number_lower(to_json(span)::VARCHAR)), 0)
            FROM _stage_spans AS span) AS spans
), named AS (
    SELECT given.* REPLACE (coalesce(given.record_count,
            (SELECT count(DISTINCT argilla_record_id) FROM _stage_pages)) AS record_count),
        sha256(sums.pages || ' ' || sums.spans) AS checksum,
        (SELECT try_cast(max(regexp_extract(file_name, 'export_run_id=([0-9]+)[/\\]', 1)) AS BIGINT)
            FROM _annotations_columns) AS folder_run_id
    FROM _annotations_given AS given, sums WHERE getvariable('ready')
)
SELECT * EXCLUDE (folder_run_id) REPLACE (coalesce(
    export_run_id,
    folder_run_id,
    (SELECT max(old.export_run_id) FROM anndb.main.annotations_exports AS old
        WHERE old.argilla_dataset = named.argilla_dataset AND old.checksum = named.checksum),
    (SELECT max(old.export_run_id) + 1 FROM anndb.main.annotations_exports AS old
        WHERE old.argilla_dataset = named.argilla_dataset),
    1) AS export_run_id)
FROM named;
SET VARIABLE ready = (
    SELECT error(format('nothing loaded: export {} of {} is loaded already with other content: export again under '
        || 'a new export_run_id', new.export_run_id, new.argilla_dataset))
    FROM _export AS new JOIN anndb.main.annotations_exports AS old USING (argilla_dataset, export_run_id)
    WHERE old.checksum <> new.checksum LIMIT 1);
SET VARIABLE ready = (
    SELECT error(format('nothing loaded: {} rows have no argilla_record_id', count(*))) FROM (
        SELECT argilla_record_id FROM _stage_pages UNION ALL SELECT argilla_record_id FROM _stage_spans
    ) WHERE argilla_record_id IS NULL HAVING count(*) > 0);

-- One transaction writes one database: the export is there whole or not at all.
BEGIN;
CREATE TEMP TABLE _new_export AS
FROM _export AS new WHERE NOT EXISTS (
    FROM anndb.main.annotations_exports AS old
    WHERE old.argilla_dataset = new.argilla_dataset AND old.export_run_id = new.export_run_id);
INSERT INTO anndb.main.annotations_exports BY NAME
SELECT * EXCLUDE (loaded_at), loaded_at AS created_at FROM _new_export;
INSERT INTO anndb.main.annotations_pages BY NAME
SELECT export.export_run_id, export.argilla_dataset, page.*,
    export.loaded_at AS created_at, export.loaded_at AS updated_at
FROM _stage_pages AS page, _new_export AS export;
INSERT INTO anndb.main.annotations_spans BY NAME
SELECT export.export_run_id, export.argilla_dataset, span.*, NULL::DOUBLE AS confidence,
    export.loaded_at AS created_at, export.loaded_at AS updated_at
FROM _stage_spans AS span, _new_export AS export;
COMMIT;

CREATE TEMP TABLE _annotations_report AS
WITH loaded AS (SELECT count(*) AS exports FROM _new_export)
SELECT unnest([
    {'metric': 'export_run_id', 'value': export_run_id},
    {'metric': 'record_count', 'value': record_count},
    {'metric': 'pages_in_files', 'value': (SELECT count(*) FROM _stage_pages)},
    {'metric': 'pages_loaded', 'value': loaded.exports * (SELECT count(*) FROM _stage_pages)},
    {'metric': 'spans_in_files', 'value': (SELECT count(*) FROM _stage_spans)},
    {'metric': 'spans_loaded', 'value': loaded.exports * (SELECT count(*) FROM _stage_spans)}
], recursive := true)
FROM _export, loaded
UNION ALL
SELECT message, NULL FROM _annotations_missing;
FROM _annotations_report;
