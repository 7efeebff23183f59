#!/usr/bin/env python3
"""Checks the sample corpus: keys, hashes, page numbers, and that each truth row is where it says. Exit 1 on a fault.

python examples/check_corpus.py [ROOT]
"""

import hashlib
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq

from corpus import lake
from corpus.truth import noise


def rows(path: Path, schema) -> list[dict]:
    table = pq.ParquetFile(path).read()
    assert table.schema.equals(schema), f"{path}: {table.schema}"
    return table.to_pylist()


def imo_is_valid(digits: str) -> bool:
    return sum(int(digit) * weight for digit, weight in zip(digits, range(7, 1, -1))) % 10 == int(digits[-1])


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
    faults: list[str] = []
    documents: set = set()
    for path in sorted(root.glob("md_raw_ocr/documents/**/*.parquet")):
        for row in rows(path, lake.DOCUMENTS):
            key = lake.documents_key(row["ingest_ts"].date().isoformat(), row["doc_id"], row["run_id"])
            documents.add((row["doc_id"], row["run_id"]))
            if path != root / key:
                faults.append(f"{path} should lie at {key}")
    pages: dict = {}
    for path in sorted(root.glob("md_raw_ocr/pages/**/*.parquet")):
        found = rows(path, lake.PAGES)
        if [row["page_num"] for row in found] != list(range(1, len(found) + 1)):
            faults.append(f"{path}: page numbers do not count from 1")
        for row in found:
            pages[row["doc_id"], row["run_id"], row["page_num"]] = row["text"]
            if path != root / lake.pages_key(row["doc_id"], row["run_id"]):
                faults.append(f"{path} holds {row['doc_id']!r} run {row['run_id']}")
            if row["text_sha256"] != hashlib.sha256(row["text"].encode()).hexdigest():
                faults.append(f"{path}: wrong hash of page {row['page_num']}")
    if documents != {(doc_id, run_id) for doc_id, run_id, _ in pages}:
        faults.append("documents and pages differ")

    truth = rows(root / "truth.parquet", lake.TRUTH)
    spans: dict = {}
    for row in truth:
        key = (row["doc_id"], row["run_id"], row["page_num"])
        if row["label"] == "IMO" and not imo_is_valid(row["norm_value"]):
            faults.append(f"{key}: IMO {row['norm_value']} has a wrong check digit")
        if row["start"] is not None:
            spans.setdefault(key, []).append((row["start"], row["end"]))
            if pages[key][row["start"] : row["end"]] != row["ocr_text"]:
                faults.append(f"{key}: {row['label']} {row['value']!r} is not at {row['start']}:{row['end']}")
    for key, found in spans.items():
        found.sort()
        if any(following[0] < span[1] for span, following in pairwise(found)):
            faults.append(f"{key}: truth spans overlap")

    blank = sum(not text.strip() for text in pages.values())
    distinct = len({(doc_id, page) for doc_id, _, page in pages})
    print(f"{len({d for d, _ in documents})} documents, {distinct} pages, {len(pages)} page rows ({blank} blank)")
    print(
        f"{len(truth)} planted: "
        + ", ".join(f"{name} {count / len(truth):.1%}" for name, count in noise(truth).most_common())
    )
    print(
        "labels: " + ", ".join(f"{label} {count}" for label, count in Counter(r["label"] for r in truth).most_common())
    )
    print("\n".join(faults) or "no faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
