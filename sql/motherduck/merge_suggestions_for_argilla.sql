-- A batch's pages, suggestions and ledger into argilla_records.parquet (runbook, step 4).
-- `control merge` runs this same file.
--
--     CREATE OR REPLACE TEMP TABLE _params AS SELECT
--         's3://bucket/prefix/argilla/in/vessels_ocr_pilot-1/pages/*.parquet' AS pages_glob,
--         's3://bucket/prefix/argilla/in/vessels_ocr_pilot-1/suggestions/*.parquet' AS suggestions_glob,
--         's3://bucket/prefix/argilla/in/vessels_ocr_pilot-1/argilla_records.parquet' AS output_uri;
--     .read sql/motherduck/merge_suggestions_for_argilla.sql
--
-- _params, one row; also UPDATE _params SET … after a first run, then .read again:
--   pages_glob        files of the batch's pages: a path, a glob, or a list of them
--   suggestions_glob  files of suggestions
--   output_uri        the file to write
--   ledger_glob       files of the ledger; default: as suggestions_glob, in the folder ledger/ beside it
--
-- One record a page that was looked at and has text: outcome suggested, empty or failed. So
-- pages = records + skipped + blank + unaccounted + changed; the last two are 0 for a complete batch.
-- A page that failed and was tried again by another batch (control batch create --failed) becomes what it is there:
-- add that batch's files to suggestions_glob and ledger_glob.
-- Reads files, writes one file, touches no database. Leaves _merge_report(metric, value).

CREATE TEMP TABLE IF NOT EXISTS _params AS SELECT NULL::VARCHAR AS pages_glob;
ALTER TABLE _params ADD COLUMN IF NOT EXISTS pages_glob VARCHAR;
ALTER TABLE _params ADD COLUMN IF NOT EXISTS suggestions_glob VARCHAR;
ALTER TABLE _params ADD COLUMN IF NOT EXISTS ledger_glob VARCHAR;
ALTER TABLE _params ADD COLUMN IF NOT EXISTS output_uri VARCHAR;

-- The last value set wins, so that INSERT INTO _params works as well as UPDATE.
SET VARIABLE page_files = (
    SELECT last(coalesce(try_cast(pages_glob AS VARCHAR[]), [pages_glob::VARCHAR]) ORDER BY rowid)
        FILTER (pages_glob IS NOT NULL)
    FROM _params);
SET VARIABLE suggestion_files = (
    SELECT last(coalesce(try_cast(suggestions_glob AS VARCHAR[]), [suggestions_glob::VARCHAR]) ORDER BY rowid)
        FILTER (suggestions_glob IS NOT NULL)
    FROM _params);
SET VARIABLE ledger_files = (
    SELECT last(coalesce(try_cast(ledger_glob AS VARCHAR[]), [ledger_glob::VARCHAR]) ORDER BY rowid)
        FILTER (ledger_glob IS NOT NULL)
    FROM _params);
SET VARIABLE ledger_files = coalesce(getvariable('ledger_files'), list_transform(
    getvariable('suggestion_files')::VARCHAR[],
    lambda file: regexp_replace(file, '(^|/)suggestions/([^/]*)$', '\1ledger/\2')));
SET VARIABLE output_uri = (SELECT last(output_uri ORDER BY rowid) FILTER (output_uri IS NOT NULL) FROM _params);

-- The shell may run the statements after an error: without these tables and this variable they do nothing.
SET VARIABLE ready = false;
DROP TABLE IF EXISTS temp._merge_ledger;
DROP TABLE IF EXISTS temp._merge_spans;
DROP TABLE IF EXISTS temp._merge_pages;
DROP TABLE IF EXISTS temp._merge_records;
DROP TABLE IF EXISTS temp._merge_report;
CREATE OR REPLACE TEMP TABLE _merge_missing AS
SELECT unnest(list_filter([
    CASE WHEN getvariable('page_files') IS NULL THEN 'nothing merged: set _params.pages_glob' END,
    CASE WHEN getvariable('suggestion_files') IS NULL THEN 'nothing merged: set _params.suggestions_glob' END,
    CASE WHEN getvariable('ledger_files') = getvariable('suggestion_files')
        THEN 'nothing merged: set _params.ledger_glob' END,
    CASE WHEN getvariable('output_uri') IS NULL THEN 'nothing merged: set _params.output_uri' END
], lambda message: message IS NOT NULL)) AS message;
SET VARIABLE ready = (SELECT count(*) = 0 FROM _merge_missing);

SET VARIABLE ledger = CASE WHEN getvariable('ready')
    THEN 'FROM read_parquet(getvariable(''ledger_files''), hive_partitioning = false, union_by_name = true)'
    ELSE 'SELECT NULL AS doc_id, NULL AS page_num, NULL AS page_sha256, NULL AS outcome, NULL AS reason,
        NULL AS run_id WHERE false' END;
CREATE TEMP TABLE _merge_ledger AS
SELECT
    doc_id::VARCHAR AS doc_id, page_num::INTEGER AS page_num, page_sha256::VARCHAR AS page_sha256,
    outcome::VARCHAR AS outcome, reason::VARCHAR AS reason, run_id::BIGINT AS run_id
FROM query(getvariable('ledger'));

-- The spans of a page as Argilla takes them: no score unless every span has one; an agent of its alphabet.
SET VARIABLE suggestions = CASE WHEN getvariable('ready')
    THEN 'FROM read_parquet(getvariable(''suggestion_files''), hive_partitioning = false, union_by_name = true)'
    ELSE 'SELECT NULL AS doc_id, NULL AS page_num, NULL AS page_sha256, NULL AS label, NULL AS "start",
        NULL AS "end", NULL AS confidence, NULL AS model WHERE false' END;
CREATE TEMP TABLE _merge_spans AS
SELECT
    doc_id, page_num, page_sha256,
    list(span ORDER BY span) AS entities,
    CASE WHEN count(*) FILTER (confidence BETWEEN 0 AND 1) = count(*)
        THEN list(confidence ORDER BY span, confidence) END AS score,
    left(regexp_replace(coalesce(string_agg(DISTINCT nullif(model, ''), '/' ORDER BY nullif(model, '')), 'unknown'),
        '[^a-zA-Z0-9_:./\s-]', '-', 'g'), 200) AS agent
FROM (
    SELECT
        doc_id::VARCHAR AS doc_id, page_num::INTEGER AS page_num, page_sha256::VARCHAR AS page_sha256,
        struct_pack("start" := "start"::INTEGER, "end" := "end"::INTEGER, label := label::VARCHAR) AS span,
        confidence::DOUBLE AS confidence, model::VARCHAR AS model
    FROM query(getvariable('suggestions')))
GROUP BY doc_id, page_num, page_sha256;

-- One row a distinct key. Of several rows of a key, the one that the ledger speaks of; of several ledgers, the one in
-- which it did not fail.
SET VARIABLE pages = CASE WHEN getvariable('ready')
    THEN 'FROM read_parquet(getvariable(''page_files''), hive_partitioning = false, union_by_name = true)
        UNION ALL BY NAME SELECT NULL::BIGINT AS run_id, NULL::VARCHAR AS source_uri WHERE false'
    ELSE 'SELECT NULL AS doc_id, NULL AS page_num, NULL::VARCHAR AS "text", NULL AS run_id, NULL AS source_uri
        WHERE false' END;
CREATE TEMP TABLE _merge_pages AS
SELECT
    page.doc_id, page.page_num, page."text", ledger.page_sha256, page.run_id, page.source_uri, ledger.outcome,
    CASE
        WHEN ledger.outcome = 'skipped' THEN 'skipped'
        WHEN ledger.reason = 'blank_text' THEN 'blank'
        WHEN ledger.outcome IN ('suggested', 'empty', 'failed')
            THEN if(page.true_sha256 = ledger.page_sha256, 'record', 'changed')
        ELSE 'unaccounted'
    END AS became
FROM (
    SELECT doc_id::VARCHAR AS doc_id, page_num::INTEGER AS page_num, "text"::VARCHAR AS "text",
        run_id::BIGINT AS run_id, source_uri::VARCHAR AS source_uri, sha256("text"::VARCHAR) AS true_sha256
    FROM query(getvariable('pages'))
) AS page
LEFT JOIN _merge_ledger AS ledger ON ledger.doc_id = page.doc_id AND ledger.page_num = page.page_num
QUALIFY row_number() OVER (
    PARTITION BY page.doc_id, page.page_num
    ORDER BY coalesce(page.true_sha256 = ledger.page_sha256, false) DESC,
        page.run_id IS NOT DISTINCT FROM ledger.run_id DESC,
        ledger.outcome IS NOT DISTINCT FROM 'failed', page.source_uri) = 1;

CREATE TEMP TABLE _merge_records AS
SELECT
    page.doc_id || ':' || page.page_num AS id,
    page."text",
    page.doc_id,
    page.page_num,
    page.page_sha256 AS text_sha256,
    coalesce(spans.entities, []) AS suggestions_entities,
    spans.score AS suggestions_score,
    spans.agent AS suggestions_agent,
    if(spans.entities IS NULL, NULL, 'model') AS suggestions_type,
    to_json(if(spans.entities IS NULL, [], [struct_pack(
        "value" := spans.entities, score := spans.score, agent := spans.agent, "type" := 'model'
    )]))::VARCHAR AS suggestions_json,
    page.outcome,
    page.run_id,
    page.source_uri
FROM _merge_pages AS page
LEFT JOIN _merge_spans AS spans
    ON page.outcome = 'suggested' AND spans.doc_id = page.doc_id AND spans.page_num = page.page_num
    AND spans.page_sha256 = page.page_sha256
WHERE page.became = 'record';

-- COPY takes no condition: without parameters it has no rows, and then it writes no file.
COPY (FROM _merge_records ORDER BY doc_id, page_num)
TO (coalesce(getvariable('output_uri'), 'argilla_records.parquet'))
(FORMAT parquet, COMPRESSION zstd, WRITE_EMPTY_FILE (getvariable('ready')));

CREATE TEMP TABLE _merge_report AS
SELECT 'pages' AS metric, count(*) AS value FROM _merge_pages HAVING getvariable('ready')
UNION ALL
SELECT kind || if(kind = 'record', 's', ''), (SELECT count(*) FROM _merge_pages WHERE became = kind)
FROM unnest(['record', 'skipped', 'blank', 'unaccounted', 'changed']) AS kinds(kind) WHERE getvariable('ready')
UNION ALL
SELECT 'records_' || kind, (SELECT count(*) FROM _merge_records WHERE outcome = kind)
FROM unnest(['suggested', 'empty', 'failed']) AS kinds(kind) WHERE getvariable('ready')
UNION ALL
SELECT 'spans', coalesce(sum(len(entities)), 0)::BIGINT FROM _merge_spans HAVING getvariable('ready')
UNION ALL
SELECT 'spans_in_records', coalesce(sum(len(suggestions_entities)), 0)::BIGINT
FROM _merge_records HAVING getvariable('ready')
UNION ALL
SELECT message, NULL FROM _merge_missing;
FROM _merge_report;
