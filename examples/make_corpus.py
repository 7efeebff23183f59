#!/usr/bin/env python3
"""Makes the sample corpus: invents documents, draws and spoils their pages, reads them with Tesseract.

    python examples/make_corpus.py                     # writes examples/md_raw_ocr and examples/truth.parquet
    python examples/make_corpus.py --out /tmp/corpus --images /tmp/images

The same seed, Tesseract, language data, fonts and Python packages give the same bytes. See README.md.
"""

import argparse
import datetime as dt
import hashlib
import io
import json
import random
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from corpus import lake, ocr
from corpus.documents import CORPUS, Document
from corpus.pages import Writer
from corpus.render import DRAW_DPI, draw, scan
from corpus.truth import locate, noise
from corpus.world import Language

TESSERACT_LANGUAGES = {"en": "eng", "es": "spa", "fr": "fra", "ru": "rus+eng"}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pdf(images: list[Image.Image], dpi: int) -> bytes:
    """The scan as the PDF that would have been uploaded; only its size and hash are kept."""
    day = time.struct_time((2024, 1, 1, 0, 0, 0, 0, 1, 0))
    buffer = io.BytesIO()
    images[0].save(
        buffer, "PDF", save_all=True, append_images=images[1:], resolution=dpi, creationDate=day, modDate=day
    )
    return buffer.getvalue()


def make_document(document: Document, seed: int, images: Path, out: Path) -> list[dict]:
    """Writes the files of every run of one document and returns its truth rows."""
    rng = random.Random(f"{seed}/{document.doc_id}")
    writer = Writer(Language(document.language, seed), rng, document.year)
    drawn = [
        draw(writer.page(kind, number, len(document.kinds)), document.style, rng)
        for number, kind in enumerate(document.kinds, 1)
    ]
    noise_seeds = [rng.randrange(2**32) for _ in drawn]
    original = pdf([page.image for page in drawn], DRAW_DPI)
    truth: list[dict] = []
    for run in document.runs:
        created = dt.datetime.combine(run.date, dt.time(9, 30), dt.UTC)
        pages: list[dict] = []
        for number, (page, noise_seed) in enumerate(zip(drawn, noise_seeds), 1):
            scanned, jpeg = scan(page, document.style, run.dpi, noise_seed)
            file = images / f"{lake.encoded(document.doc_id)}-run{run.run_id}-p{number:02}.jpg"
            file.write_bytes(jpeg)
            reading = ocr.read(file, TESSERACT_LANGUAGES[document.language], document.psm, run.dpi)
            key = {"doc_id": document.doc_id, "run_id": run.run_id, "page_num": number}
            pages.append(key | {
                "page_width": scanned.image.width,
                "page_height": scanned.image.height,
                "text": reading.text,
                "text_sha256": sha256(reading.text.encode()),
                "page_image_sha256": sha256(jpeg),
                "ocr_confidence": reading.confidence,
                "lines_json": json.dumps(reading.lines(), separators=(",", ":")),
                "created_at": created + dt.timedelta(seconds=number),
            })  # fmt: skip
            for planted, span in locate(scanned.boxes, reading):
                start, end = span or (None, None)
                found = {"start": start, "end": end, "ocr_text": span and reading.text[start:end]}
                named = {"label": planted.label, "value": planted.value, "norm_value": planted.norm_value}
                truth.append(key | named | found)
        filename = f"{document.doc_id}.pdf"
        parameters = {"languages": TESSERACT_LANGUAGES[document.language], "psm": document.psm, "dpi": run.dpi}
        row = {
            "doc_id": document.doc_id,
            "run_id": run.run_id,
            "ingest_ts": created,
            "filename": filename,
            "r2_key": f"uploads/{filename}",
            "content_type": "application/pdf",
            "size_bytes": len(original),
            "doc_sha256": sha256(original),
            "uploader": "make_corpus.py",
            "source_meta_json": json.dumps({"invented": True, "language": document.language, "seed": seed}),
            "ocr_model": f"tesseract-{ocr.version()}",
            "ocr_params_json": json.dumps(parameters),
        }
        lake.write(out / lake.documents_key(run.date.isoformat(), document.doc_id, run.run_id), [row], lake.DOCUMENTS)
        lake.write(out / lake.pages_key(document.doc_id, run.run_id), pages, lake.PAGES)
    return truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="root of the corpus (default: here)")
    parser.add_argument("--seed", type=int, default=20240206)
    parser.add_argument("--images", type=Path, help="keep the page images in this folder, to look at")
    parser.add_argument("--jobs", type=int, default=2, help="documents at a time (default 2)")
    options = parser.parse_args()

    shutil.rmtree(options.out / "md_raw_ocr", ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.jobs) as pool:
        images = options.images or Path(scratch)
        images.mkdir(parents=True, exist_ok=True)
        rows = list(pool.map(lambda document: make_document(document, options.seed, images, options.out), CORPUS))
    truth = [row for document in rows for row in document]
    lake.write(options.out / "truth.parquet", truth, lake.TRUTH)
    for document, planted in zip(CORPUS, rows):
        print(f"{document.doc_id:28} {len(document.kinds):2} pages, {len(planted):4} planted: {dict(noise(planted))}")
    print(f"all: {len(CORPUS)} documents, {len(truth)} planted: {dict(noise(truth))}")


if __name__ == "__main__":
    main()
