"""The parts of `make_corpus.py`, in the order of its flow:

world (invented vessels) -> pages (what is planted where) -> render (page images)
-> ocr (Tesseract's words) -> truth (where the planted values came out) -> lake (Parquet).
"""
