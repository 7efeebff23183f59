"""langextract's aligner on the cases of `bench-ground --cases`, one JSON document a line on stdin: the same table.

    bench-ground --cases | python ground_langextract.py
"""

import json
import sys
import time
from collections import Counter

from langextract.core import data
from langextract.resolver import WordAligner


def core(text, start, end):
    while start < end and not text[start].isalnum():
        start += 1
    while end > start and not text[end - 1].isalnum():
        end -= 1
    return start, end


def align(case):
    extractions = [data.Extraction(extraction_class=m["label"], extraction_text=m["text"]) for m in case["mentions"]]
    found = [None] * len(extractions)
    order = {id(extraction): n for n, extraction in enumerate(extractions)}
    for group in WordAligner().align_extractions([extractions], case["text"]):
        for extraction in group:
            place = extraction.char_interval
            if place is not None and place.start_pos is not None:
                found[order[id(extraction)]] = (place.start_pos, place.end_pos)
    return found


def main():
    scores, seconds, mentions, failed = {}, 0.0, 0, 0
    for line in sys.stdin:
        case = json.loads(line)
        if not case["mentions"]:
            continue
        begun = time.process_time()
        try:
            found = align(case)
        except Exception:  # the aligner refuses some inputs: it found nothing then
            found, failed = [None] * len(case["mentions"]), failed + 1
        seconds += time.process_time() - begun
        mentions += len(case["mentions"])
        for (kind, places), place in zip(case["expected"], found):
            if place is None:
                judged = "right" if not places else "missed"
            else:
                right = any(core(case["text"], *one) == core(case["text"], *place) for one in places)
                judged = "right" if right else "wrong"
            scores.setdefault(case["set"], {}).setdefault(kind, Counter())[judged] += 1
    for name, kinds in scores.items():
        print(f"\nlangextract, {name}\n{'kind':<24}{'mentions':>9}{'right':>9}{'wrong':>9}{'missed':>9}")
        kinds["all"] = sum(kinds.values(), Counter())
        for kind, score in kinds.items():
            total = score.total()
            shares = "".join(f"{100 * score[part] / total:>7.2f} %" for part in ("right", "wrong", "missed"))
            print(f"{kind:<24}{total:>9}{shares}")
    print(f"\nlangextract: {mentions / max(seconds, 1e-9):.0f} mentions/s on one core; {failed} pages raised an error")


if __name__ == "__main__":
    main()
