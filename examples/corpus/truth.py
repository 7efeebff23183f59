"""Where the planted values came out in the OCR text.

Each value was drawn in known boxes, so the words that Tesseract read in those boxes bound where it can be; within
them the substring with the smallest edit distance is taken. Repeated mentions therefore never get mixed up. A value
has no place (None) where even the best substring is too unlike it, or where Tesseract read its words apart, as it does
with a wrapped cell that is read line by line across its table.
"""

from collections import Counter

from rapidfuzz.distance import Levenshtein

from .ocr import Reading
from .pages import Planted
from .render import Box

LEAST_SIMILARITY = 0.6

Span = tuple[int, int]


def locate(boxes: list[tuple[Planted, Box]], reading: Reading) -> list[tuple[Planted, Span | None]]:
    """Every planted value, in drawing order, with its half-open code point span. Spans never overlap."""
    pieces: dict[Planted, list[Box]] = {}
    for planted, box in boxes:
        pieces.setdefault(planted, []).append(box)
    found: list[tuple[Planted, Span | None]] = []
    taken: list[Span] = []
    for planted, places in pieces.items():
        span = _window(places, reading)
        span = span and _best(planted.value, reading.text, span)
        if span and any(span[0] < end and start < span[1] for start, end in taken):
            span = None
        if span:
            taken.append(span)
        found.append((planted, span))
    return found


def _window(places: list[Box], reading: Reading) -> Span | None:
    """From the first to the last of the words that were read in the boxes, if no word of another place lies between."""
    inside = [n for n, word in enumerate(reading.words) if any(_covers(place, word.box) for place in places)]
    if not inside:
        return None
    between = set(range(inside[0], inside[-1])) - set(inside)
    if any(c.isalnum() for n in between for c in reading.words[n].text):
        return None
    return reading.words[inside[0]].start, reading.words[inside[-1]].end


def _covers(place: Box, word: Box) -> bool:
    """The two share half of the width of the narrower and half of the height of the lower."""
    width = min(place[2], word[2]) - max(place[0], word[0])
    height = min(place[3], word[3]) - max(place[1], word[1])
    narrower = min(place[2] - place[0], word[2] - word[0])
    lower = min(place[3] - place[1], word[3] - word[1])
    return width >= narrower / 2 and height >= lower / 2


def _best(value: str, text: str, window: Span) -> Span | None:
    """The substring nearest to the value; of equals one that starts and ends like a value, then the nearest length."""
    slack = max(2, round(0.4 * len(value)))
    best: tuple[tuple[int, int, int], Span] | None = None
    for start in range(*window):
        for end in range(start + max(1, len(value) - slack), min(window[1], start + len(value) + slack) + 1):
            found = text[start:end]
            if found != found.strip():
                continue
            edges = (found[0], value[0]), (found[-1], value[-1])
            strays = sum(not seen.isalnum() and seen != printed for seen, printed in edges)
            rank = (Levenshtein.distance(value, found), strays, abs(len(value) - len(found)))
            if best is None or rank < best[0]:
                best = (rank, (start, end))
    if best is None or _similarity(value, text[slice(*best[1])]) < LEAST_SIMILARITY:
        return None
    return best[1]


def _similarity(value: str, found: str) -> float:
    """1 for equal; line breaks in the text cost nothing, hyphens at a line's end neither."""
    unbroken = found.replace("-\n", "")
    return 1 - min(
        Levenshtein.normalized_distance(value, unbroken),
        Levenshtein.normalized_distance(value, " ".join(found.split())),
    )


def noise(rows: list[dict]) -> Counter:
    """How the planted values came out: `exact`, `wrapped` (but for line breaks), `garbled`, `lost`."""
    counts: Counter = Counter()
    for row in rows:
        value, found = row["value"], row["ocr_text"]
        if found is None:
            counts["lost"] += 1
        elif found == value:
            counts["exact"] += 1
        elif "".join(found.replace("-\n", "").split()) == "".join(value.split()):
            counts["wrapped"] += 1
        else:
            counts["garbled"] += 1
    return counts
