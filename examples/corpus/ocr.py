"""Tesseract's reading of one page: its words in its order, and the page text made of them."""

import csv
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .render import Box


@dataclass(frozen=True)
class OcrWord:
    """A word as read; `start` and `end` are its code points in the page text, `box` its place in pixels."""

    text: str
    start: int
    end: int
    box: Box
    confidence: float
    line: int


@dataclass(frozen=True)
class Reading:
    """`confidence` is the mean of the words' confidences, 0 to 1, or None for a page without words."""

    text: str
    words: list[OcrWord]
    confidence: float | None

    def lines(self) -> list[dict]:
        """Each line's place in the text and on the image, and its confidence."""
        lines: dict[int, list[OcrWord]] = {}
        for word in self.words:
            lines.setdefault(word.line, []).append(word)
        return [
            {
                "start": line[0].start,
                "end": line[-1].end,
                "bbox": [round(pick(word.box[n] for word in line)) for n, pick in enumerate((min, min, max, max))],
                "confidence": round(sum(word.confidence for word in line) / len(line), 3),
            }
            for line in lines.values()
        ]


def version() -> str:
    output = subprocess.run(["tesseract", "--version"], check=True, capture_output=True, text=True)
    return output.stdout.split()[1]


def read(image: Path, languages: str, psm: int, dpi: int) -> Reading:
    """Runs Tesseract. Words of a line are joined by blanks, lines by a line break, blocks by an empty line."""
    command = ["tesseract", str(image), "stdout", "-l", languages, "--psm", str(psm), "--dpi", str(dpi), "tsv"]
    environment = os.environ | {"OMP_THREAD_LIMIT": "1"}
    output = subprocess.run(command, check=True, capture_output=True, env=environment).stdout.decode("utf-8")
    words: list[OcrWord] = []
    text = ""
    place = None
    line = 0
    for row in csv.DictReader(output.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE):
        if row["level"] != "5" or not row["text"].strip():
            continue
        here = (row["block_num"], row["par_num"], row["line_num"])
        if place is not None:
            text += " " if here == place else "\n\n" if here[:2] != place[:2] else "\n"
            line += here != place
        place = here
        left, top, width, height = (int(row[key]) for key in ("left", "top", "width", "height"))
        start = len(text)
        text += row["text"]
        box = (left, top, left + width, top + height)
        words.append(OcrWord(row["text"], start, len(text), box, float(row["conf"]) / 100, line))
    confidence = sum(word.confidence for word in words) / len(words) if words else None
    return Reading(text, words, confidence)
