-- The ten integrity checks (runbook, step 7). `control check` and `control signoff` run this same file.
--
--     ATTACH 'md:md_raw_ocr' AS rawdb;        -- or files
--     ATTACH 'md:md_annotated' AS anndb;
--     .read sql/motherduck/checks_integrity.sql
--
-- _params, one row; all optional, but a check without its input says NOT RUN, which is no pass:
--   doc_ids           VARCHAR[]: checks 1 to 4 look at these documents and those of pages_glob; neither: at all
--   argilla_dataset   checks 5 to 8 look at this dataset; NULL: at all
--   pages_glob        the batch's pages: a path, a glob, or a list of them      (checks 1 to 4, 9, 10)
--   suggestions_glob  its suggestions                                           (checks 9, 10)
--   ledger_glob       its ledger; default: the folder ledger/ beside suggestions/      (check 10)
--
-- Checks 1 to 4 look at the run that the batch has, else at the newest run of a document; checks 5 to 8 at the
-- newest export of a dataset, and join back to raw by run and page hash. Changes nothing.
-- Leaves _checks(check_no, name, status, expected, found, offenders), with up to 20 offending keys a check.

CREATE TEMP TABLE IF NOT EXISTS _params AS SELECT NULL::VARCHAR AS pages_glob;
ALTER TABLE _params ADD COLUMN IF NOT EXISTS doc_ids VARCHAR[];
ALTER TABLE _params ADD COLUMN IF NOT EXISTS argilla_dataset VARCHAR;
ALTER TABLE _params ADD COLUMN IF NOT EXISTS pages_glob VARCHAR;
ALTER TABLE _params ADD COLUMN IF NOT EXISTS suggestions_glob VARCHAR;
ALTER TABLE _params ADD COLUMN IF NOT EXISTS ledger_glob VARCHAR;

-- The last value set wins, so that INSERT INTO _params works as well as UPDATE.
SET VARIABLE doc_ids = (
    SELECT last(doc_ids::VARCHAR[] ORDER BY rowid) FILTER (doc_ids IS NOT NULL) FROM _params);
SET VARIABLE dataset = (
    SELECT last(argilla_dataset::VARCHAR ORDER BY rowid) FILTER (argilla_dataset IS NOT NULL) FROM _params);
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
SET VARIABLE ledger_files = CASE WHEN getvariable('ledger_files') IS DISTINCT FROM getvariable('suggestion_files')
    THEN getvariable('ledger_files') END;

-- The inputs, as views; an input that is missing is a view without rows. The shell may run the statements after
-- an error: what an input's error leaves undefined makes its checks NOT RUN.
SET VARIABLE has_raw = (
    SELECT count(*) = 3 FROM duckdb_tables() WHERE database_name = 'rawdb' AND schema_name = 'main'
        AND table_name IN ('raw_documents', 'raw_pages', 'tombstones'));
SET VARIABLE has_annotations = (
    SELECT count(*) = 3 FROM duckdb_tables() WHERE database_name = 'anndb' AND schema_name = 'main'
        AND table_name IN ('annotations_exports', 'annotations_pages', 'annotations_spans'));
SET VARIABLE has_pages = false;
DROP VIEW IF EXISTS temp._raw_documents;
DROP VIEW IF EXISTS temp._raw_pages;
DROP VIEW IF EXISTS temp._tombstones;
DROP VIEW IF EXISTS temp._exports;
DROP VIEW IF EXISTS temp._annotated_pages;
DROP VIEW IF EXISTS temp._annotated_spans;
DROP VIEW IF EXISTS temp._batch_pages;
DROP VIEW IF EXISTS temp._suggestions;
DROP VIEW IF EXISTS temp._ledger;
DROP TABLE IF EXISTS temp._scope;
DROP TABLE IF EXISTS temp._latest;

SET VARIABLE raw_documents = if(getvariable('has_raw'), 'FROM rawdb.main.raw_documents',
    'SELECT NULL::VARCHAR AS doc_id, NULL::BIGINT AS run_id WHERE false');
CREATE TEMP VIEW _raw_documents AS SELECT doc_id, run_id FROM query(getvariable('raw_documents'));
SET VARIABLE raw_pages = if(getvariable('has_raw'), 'FROM rawdb.main.raw_pages',
    'SELECT NULL::VARCHAR AS doc_id, NULL::BIGINT AS run_id, NULL::INTEGER AS page_num, NULL::VARCHAR AS "text",
        NULL::VARCHAR AS text_sha256 WHERE false');
CREATE TEMP VIEW _raw_pages AS
SELECT doc_id, run_id, page_num, "text", text_sha256 FROM query(getvariable('raw_pages'));
SET VARIABLE tombstones = if(getvariable('has_raw'), 'FROM rawdb.main.tombstones',
    'SELECT NULL::VARCHAR AS doc_id WHERE false');
CREATE TEMP VIEW _tombstones AS SELECT doc_id FROM query(getvariable('tombstones'));

SET VARIABLE exports = if(getvariable('has_annotations'), 'FROM anndb.main.annotations_exports',
    'SELECT NULL::VARCHAR AS argilla_dataset, NULL::BIGINT AS export_run_id, NULL::BIGINT AS record_count
    WHERE false');
CREATE TEMP VIEW _exports AS
SELECT argilla_dataset, export_run_id, record_count FROM query(getvariable('exports'));
SET VARIABLE annotated_pages = if(getvariable('has_annotations'), 'FROM anndb.main.annotations_pages',
    'SELECT NULL::VARCHAR AS argilla_dataset, NULL::BIGINT AS export_run_id, NULL::VARCHAR AS argilla_record_id,
        NULL::VARCHAR AS doc_id, NULL::INTEGER AS page_num, NULL::VARCHAR AS annotator_id,
        NULL::BIGINT AS run_id, NULL::VARCHAR AS page_sha256 WHERE false');
CREATE TEMP VIEW _annotated_pages AS
SELECT argilla_dataset, export_run_id, argilla_record_id, doc_id, page_num, annotator_id, run_id, page_sha256
FROM query(getvariable('annotated_pages'));
SET VARIABLE annotated_spans = if(getvariable('has_annotations'), 'FROM anndb.main.annotations_spans',
    'SELECT NULL::VARCHAR AS argilla_dataset, NULL::BIGINT AS export_run_id, NULL::VARCHAR AS argilla_record_id,
        NULL::VARCHAR AS span_id, NULL::VARCHAR AS doc_id, NULL::INTEGER AS page_num, NULL::INTEGER AS "start",
        NULL::INTEGER AS "end", NULL::VARCHAR AS "text", NULL::VARCHAR AS text_sha256,
        NULL::VARCHAR AS annotator_id, NULL::BIGINT AS run_id, NULL::VARCHAR AS page_sha256 WHERE false');
CREATE TEMP VIEW _annotated_spans AS
SELECT argilla_dataset, export_run_id, argilla_record_id, span_id, doc_id, page_num, "start", "end", "text",
    text_sha256, annotator_id, run_id, page_sha256
FROM query(getvariable('annotated_spans'));

-- pages_glob may still lead to the annotated pages of step 6, which have no text: those are not a batch's pages.
SET VARIABLE pages_schema = if(getvariable('page_files') IS NULL, 'SELECT NULL AS name WHERE false',
    'FROM parquet_schema(getvariable(''page_files''))');
SET VARIABLE has_pages = (SELECT count(*) > 0 FROM query(getvariable('pages_schema')) WHERE name = 'text');
SET VARIABLE batch_pages = if(getvariable('has_pages'),
    'FROM read_parquet(getvariable(''page_files''), hive_partitioning = false, union_by_name = true)
        UNION ALL BY NAME SELECT NULL::BIGINT AS run_id WHERE false',
    'SELECT NULL AS doc_id, NULL AS run_id, NULL AS page_num, NULL AS "text", NULL AS text_sha256 WHERE false');
CREATE TEMP VIEW _batch_pages AS
SELECT doc_id::VARCHAR AS doc_id, run_id::BIGINT AS run_id, page_num::INTEGER AS page_num,
    "text"::VARCHAR AS "text", text_sha256::VARCHAR AS text_sha256
FROM query(getvariable('batch_pages'));
SET VARIABLE suggestions = if(getvariable('suggestion_files') IS NOT NULL,
    'FROM read_parquet(getvariable(''suggestion_files''), hive_partitioning = false, union_by_name = true)',
    'SELECT NULL AS span_id, NULL AS doc_id, NULL AS page_num, NULL AS page_sha256, NULL AS "start", NULL AS "end",
        NULL AS "text", NULL AS text_sha256 WHERE false');
CREATE TEMP VIEW _suggestions AS
SELECT span_id::VARCHAR AS span_id, doc_id::VARCHAR AS doc_id, page_num::INTEGER AS page_num,
    page_sha256::VARCHAR AS page_sha256, "start"::INTEGER AS "start", "end"::INTEGER AS "end",
    "text"::VARCHAR AS "text", text_sha256::VARCHAR AS text_sha256
FROM query(getvariable('suggestions'));
SET VARIABLE ledger = if(getvariable('ledger_files') IS NOT NULL,
    'FROM read_parquet(getvariable(''ledger_files''), hive_partitioning = false, union_by_name = true)',
    'SELECT NULL AS doc_id, NULL AS page_num, NULL AS page_sha256, NULL AS outcome, NULL AS reason, NULL AS spans
    WHERE false');
CREATE TEMP VIEW _ledger AS
SELECT doc_id::VARCHAR AS doc_id, page_num::INTEGER AS page_num, page_sha256::VARCHAR AS page_sha256,
    outcome::VARCHAR AS outcome, reason::VARCHAR AS reason, spans::INTEGER AS spans
FROM query(getvariable('ledger'));

-- What checks 1 to 4 look at: a run of each document; run_id is NULL where raw knows nothing of a document.
CREATE TEMP TABLE _scope AS
WITH newest AS (
    SELECT doc_id, max(run_id) AS run_id
    FROM (SELECT doc_id, run_id FROM _raw_documents UNION ALL SELECT doc_id, run_id FROM _raw_pages)
    GROUP BY doc_id
), batch AS (
    SELECT DISTINCT doc_id, run_id FROM _batch_pages WHERE run_id IS NOT NULL
), asked AS (
    SELECT unnest(getvariable('doc_ids')::VARCHAR[]) AS doc_id
    UNION SELECT doc_id FROM _batch_pages WHERE run_id IS NULL
)
FROM batch
UNION
SELECT asked.doc_id, newest.run_id FROM asked LEFT JOIN newest USING (doc_id)
WHERE asked.doc_id NOT IN (SELECT doc_id FROM batch)
UNION
SELECT newest.doc_id, newest.run_id FROM newest ANTI JOIN _tombstones USING (doc_id)
WHERE getvariable('doc_ids') IS NULL AND NOT getvariable('has_pages');
-- What checks 5 to 8 look at.
CREATE TEMP TABLE _latest AS
SELECT argilla_dataset, max(export_run_id) AS export_run_id
FROM (
    SELECT argilla_dataset, export_run_id FROM _exports
    UNION ALL SELECT argilla_dataset, export_run_id FROM _annotated_pages
    UNION ALL SELECT argilla_dataset, export_run_id FROM _annotated_spans)
WHERE getvariable('dataset') IS NULL OR argilla_dataset = getvariable('dataset')
GROUP BY argilla_dataset;

-- A row of a check with an offender is a finding; its one row without says that the check ran.
CREATE OR REPLACE TEMP TABLE _findings (check_no INTEGER, offender VARCHAR, expected VARCHAR, found VARCHAR);

-- 1 documents without pages
INSERT INTO _findings (check_no, offender)
SELECT 1, doc_id FROM _scope
WHERE NOT EXISTS (FROM _raw_pages AS page WHERE page.doc_id = _scope.doc_id AND page.run_id = _scope.run_id)
UNION ALL SELECT 1, NULL WHERE getvariable('has_raw') AND EXISTS (FROM _scope);

-- 2 pages without documents
INSERT INTO _findings (check_no, offender)
SELECT 2, format('{}:{} (run {})', page.doc_id, page.page_num, page.run_id)
FROM _raw_pages AS page SEMI JOIN _scope USING (doc_id, run_id)
WHERE NOT EXISTS (
    FROM _raw_documents AS document WHERE document.doc_id = page.doc_id AND document.run_id = page.run_id)
UNION ALL SELECT 2, NULL WHERE EXISTS (FROM _raw_pages SEMI JOIN _scope USING (doc_id, run_id));

-- 3 text hash mismatches
INSERT INTO _findings (check_no, offender)
SELECT 3, format('{}:{} (run {})', doc_id, page_num, run_id)
FROM _raw_pages SEMI JOIN _scope USING (doc_id, run_id)
WHERE text_sha256 IS DISTINCT FROM sha256("text")
UNION ALL SELECT 3, NULL WHERE EXISTS (FROM _raw_pages SEMI JOIN _scope USING (doc_id, run_id));

-- 4 duplicate keys and gaps in page numbers, which count from 1
INSERT INTO _findings (check_no, offender)
WITH documents AS (
    SELECT doc_id, run_id, count(*) AS copies
    FROM _raw_documents SEMI JOIN _scope USING (doc_id, run_id) GROUP BY doc_id, run_id
), pages AS (
    SELECT doc_id, run_id, page_num, count(*) AS copies,
        coalesce(lag(page_num) OVER (PARTITION BY doc_id, run_id ORDER BY page_num), 0) AS before
    FROM _raw_pages SEMI JOIN _scope USING (doc_id, run_id) GROUP BY doc_id, run_id, page_num
)
SELECT 4, format('{} (run {}) is there {} times', doc_id, run_id, copies) FROM documents WHERE copies > 1
UNION ALL
SELECT 4, format('{}:{} (run {}) is there {} times', doc_id, page_num, run_id, copies) FROM pages WHERE copies > 1
UNION ALL
SELECT 4, format('{}:{} (run {}) is no page number', doc_id, page_num, run_id) FROM pages WHERE page_num < 1
UNION ALL
SELECT 4, if(page_num = before + 2, format('{}:{} (run {}) is missing', doc_id, before + 1, run_id),
    format('{}:{} to {} (run {}) are missing', doc_id, before + 1, page_num - 1, run_id))
FROM (SELECT * REPLACE (greatest(before, 0) AS before) FROM pages) WHERE page_num > before + 1
UNION ALL SELECT 4, NULL WHERE EXISTS (FROM _raw_pages SEMI JOIN _scope USING (doc_id, run_id));

-- 5 annotated spans out of bounds or not equal to text[start:end] of the very run they were made on
INSERT INTO _findings (check_no, offender)
SELECT 5, coalesce(span.span_id, span.argilla_record_id)
FROM (
    SELECT DISTINCT * EXCLUDE (annotator_id)
    FROM _annotated_spans SEMI JOIN _latest USING (argilla_dataset, export_run_id)
) AS span
LEFT JOIN _raw_pages AS page
    ON page.doc_id = span.doc_id AND page.run_id = span.run_id AND page.page_num = span.page_num
    AND page.text_sha256 = span.page_sha256
GROUP BY span.argilla_dataset, span.argilla_record_id, span.span_id, span.doc_id, span.page_num, span.run_id,
    span.page_sha256, span."start", span."end", span."text", span.text_sha256
HAVING NOT coalesce(bool_or(
    span."start" >= 0 AND span."start" < span."end" AND span."end" <= length(page."text")
    AND substring(page."text", span."start" + 1, span."end" - span."start") = span."text"
    AND sha256(span."text") = span.text_sha256), false)
UNION ALL SELECT 5, NULL WHERE getvariable('has_raw') AND EXISTS (FROM _latest);

-- 6 export record_count against pages exported
INSERT INTO _findings
WITH counts AS (
    SELECT argilla_dataset, export_run_id,
        (SELECT max(record_count) FROM _exports AS export WHERE export.argilla_dataset = _latest.argilla_dataset
            AND export.export_run_id = _latest.export_run_id) AS said,
        (SELECT count(DISTINCT argilla_record_id) FROM _annotated_pages AS page
            WHERE page.argilla_dataset = _latest.argilla_dataset
            AND page.export_run_id = _latest.export_run_id) AS there
    FROM _latest
)
SELECT 6, format('{} export {}: record_count {}, pages of {} records', argilla_dataset, export_run_id,
    coalesce(said::VARCHAR, 'missing'), there), NULL, NULL
FROM counts WHERE said IS DISTINCT FROM there
UNION ALL
SELECT 6, NULL, format('{} records', coalesce(sum(said), 0)), format('{} records', sum(there))
FROM counts HAVING count(*) > 0;

-- 7 spans without an annotated page
INSERT INTO _findings (check_no, offender)
SELECT 7, coalesce(span.span_id, span.argilla_record_id)
FROM _annotated_spans AS span SEMI JOIN _latest USING (argilla_dataset, export_run_id)
WHERE NOT EXISTS (
    FROM _annotated_pages AS page
    WHERE page.argilla_dataset = span.argilla_dataset AND page.export_run_id = span.export_run_id
        AND page.argilla_record_id = span.argilla_record_id
        AND page.annotator_id IS NOT DISTINCT FROM span.annotator_id)
UNION ALL SELECT 7, NULL WHERE EXISTS (FROM _latest);

-- 8 annotated pages without raw
INSERT INTO _findings (check_no, offender)
SELECT 8, page.argilla_record_id
FROM _annotated_pages AS page SEMI JOIN _latest USING (argilla_dataset, export_run_id)
WHERE NOT EXISTS (
    FROM _raw_pages AS raw
    WHERE raw.doc_id = page.doc_id AND raw.run_id = page.run_id AND raw.page_num = page.page_num
        AND raw.text_sha256 = page.page_sha256)
UNION ALL SELECT 8, NULL WHERE getvariable('has_raw') AND EXISTS (FROM _latest);

-- 9 suggestions without a page or out of bounds
INSERT INTO _findings (check_no, offender)
SELECT 9, coalesce(span.span_id, format('{}:{}', span.doc_id, span.page_num))
FROM (SELECT DISTINCT * FROM _suggestions) AS span
LEFT JOIN _batch_pages AS page
    ON page.doc_id = span.doc_id AND page.page_num = span.page_num AND page.text_sha256 = span.page_sha256
GROUP BY span.span_id, span.doc_id, span.page_num, span.page_sha256, span."start", span."end", span."text",
    span.text_sha256
HAVING NOT coalesce(bool_or(
    span."start" >= 0 AND span."start" < span."end" AND span."end" <= length(page."text")
    AND substring(page."text", span."start" + 1, span."end" - span."start") = span."text"
    AND sha256(span."text") = span.text_sha256), false)
UNION ALL SELECT 9, NULL WHERE getvariable('has_pages') AND getvariable('suggestion_files') IS NOT NULL;

-- 10 ledger against pages: every page of the batch accounted for, once
INSERT INTO _findings
WITH page AS (
    SELECT doc_id, page_num, list(DISTINCT text_sha256) AS hashes FROM _batch_pages GROUP BY doc_id, page_num
), entry AS (
    SELECT doc_id, page_num, count(*) AS entries, any_value(outcome) AS outcome, any_value(reason) AS reason,
        any_value(page_sha256) AS page_sha256, any_value(spans) AS spans
    FROM _ledger GROUP BY doc_id, page_num
), suggested AS (
    SELECT doc_id, page_num, count(*) AS spans FROM _suggestions GROUP BY doc_id, page_num
), judged AS (
    SELECT
        coalesce(page.doc_id, entry.doc_id) AS doc_id, coalesce(page.page_num, entry.page_num) AS page_num,
        page.hashes IS NOT NULL AS of_batch,
        CASE
            WHEN page.hashes IS NULL THEN 'is in the ledger, not in the batch'
            WHEN entry.entries IS NULL THEN 'is not in the ledger'
            WHEN entry.entries > 1 THEN format('is in the ledger {} times', entry.entries)
            WHEN NOT coalesce(entry.outcome IN ('suggested', 'empty', 'failed', 'skipped'), false)
                THEN format('has the outcome {}', coalesce(entry.outcome, 'null'))
            WHEN entry.outcome <> 'suggested' AND entry.reason IS NULL THEN 'has no reason'
            WHEN entry.outcome <> 'skipped' AND NOT coalesce(list_contains(page.hashes, entry.page_sha256), false)
                THEN 'was annotated with another text'
            WHEN (entry.outcome = 'suggested') IS DISTINCT FROM (entry.spans > 0)
                THEN format('is {} with {} spans', entry.outcome, coalesce(entry.spans::VARCHAR, 'null'))
            WHEN getvariable('suggestion_files') IS NOT NULL AND entry.spans <> coalesce(suggested.spans, 0)
                THEN format('has {} spans in the ledger and {} suggestions', entry.spans,
                    coalesce(suggested.spans, 0))
        END AS problem
    FROM page
    FULL JOIN entry ON entry.doc_id = page.doc_id AND entry.page_num = page.page_num
    LEFT JOIN suggested ON suggested.doc_id = entry.doc_id AND suggested.page_num = entry.page_num
)
SELECT 10, format('{}:{} {}', doc_id, page_num, problem), NULL, NULL FROM judged WHERE problem IS NOT NULL
UNION ALL
SELECT 10, NULL, format('{} pages accounted for', count(*) FILTER (of_batch)),
    format('{} pages accounted for', count(*) FILTER (of_batch AND problem IS NULL))
FROM judged HAVING getvariable('has_pages') AND getvariable('ledger_files') IS NOT NULL;

CREATE OR REPLACE TEMP TABLE _checks AS
SELECT
    wanted.check_no,
    wanted.name,
    CASE
        WHEN NOT coalesce(bool_or(finding.check_no IS NOT NULL AND finding.offender IS NULL), false) THEN 'NOT RUN'
        WHEN count(finding.offender) = 0 THEN 'PASS'
        ELSE 'FAIL'
    END AS status,
    coalesce(any_value(finding.expected), '0') AS expected,
    CASE status WHEN 'NOT RUN' THEN 'needs ' || wanted.needs
        ELSE coalesce(any_value(finding.found), count(finding.offender)::VARCHAR) END AS found,
    if(status = 'FAIL', min(finding.offender, 20), []) AS offenders
FROM (VALUES
    (1, 'documents without pages', 'documents in rawdb'),
    (2, 'pages without documents', 'pages in rawdb'),
    (3, 'text hash mismatches', 'pages in rawdb'),
    (4, 'duplicate keys and gaps in page numbers', 'pages in rawdb'),
    (5, 'annotated spans out of bounds or unequal to their text', 'rawdb, and an export in anndb'),
    (6, 'export record_count against pages exported', 'an export in anndb'),
    (7, 'spans without an annotated page', 'an export in anndb'),
    (8, 'annotated pages without raw', 'rawdb, and an export in anndb'),
    (9, 'suggestions without a page or out of bounds', '_params.pages_glob and suggestions_glob of the batch'),
    (10, 'ledger against pages', '_params.pages_glob and ledger_glob of the batch')
) AS wanted(check_no, name, needs)
LEFT JOIN _findings AS finding USING (check_no)
GROUP BY wanted.check_no, wanted.name, wanted.needs;
FROM _checks ORDER BY check_no;
