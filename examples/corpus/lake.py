"""Keys and Parquet files as the pipeline's design lays them down (the crate `proto` is where it is written in code)."""

from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

TEXT, TIME = pa.string(), pa.timestamp("us", tz="UTC")

DOCUMENTS = pa.schema({
    "doc_id": TEXT, "run_id": pa.int64(), "ingest_ts": TIME, "filename": TEXT, "r2_key": TEXT,
    "content_type": TEXT, "size_bytes": pa.int64(), "doc_sha256": TEXT, "uploader": TEXT,
    "source_meta_json": TEXT, "hf_space_commit": TEXT, "ocr_model": TEXT, "ocr_image_digest": TEXT,
    "ocr_params_json": TEXT,
})  # fmt: skip
PAGES = pa.schema({
    "doc_id": TEXT, "run_id": pa.int64(), "page_num": pa.int32(), "page_width": pa.int32(),
    "page_height": pa.int32(), "text": TEXT, "text_sha256": TEXT, "page_image_sha256": TEXT,
    "ocr_confidence": pa.float64(), "blocks_json": TEXT, "lines_json": TEXT, "tables_json": TEXT,
    "figures_json": TEXT, "ocr_runtime_ms": pa.int64(), "created_at": TIME,
})  # fmt: skip
TRUTH = pa.schema({
    "doc_id": TEXT, "run_id": pa.int64(), "page_num": pa.int32(), "label": TEXT, "value": TEXT,
    "start": pa.int32(), "end": pa.int32(), "ocr_text": TEXT, "norm_value": TEXT,
})  # fmt: skip


def encoded(doc_id: str) -> str:
    """Percent-encodes all but ASCII letters and digits, `-`, `_`, and `.` where it does not lead."""
    key = quote(doc_id, safe="").replace("~", "%7E")
    return "%2E" + key[1:] if key.startswith(".") else key


def documents_key(date: str, doc_id: str, run_id: int) -> str:
    return f"md_raw_ocr/documents/date={date}/doc_id={encoded(doc_id)}/run_id={run_id}/part-000.parquet"


def pages_key(doc_id: str, run_id: int) -> str:
    return f"md_raw_ocr/pages/doc_id={encoded(doc_id)}/run_id={run_id}/part-000.parquet"


def write(path: Path, rows: list[dict], schema: pa.Schema) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), path, compression="zstd", store_schema=False)
