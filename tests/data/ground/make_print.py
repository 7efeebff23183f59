"""Pages of 19th-century print and receipts, really read by Tesseract, with the mentions where OCR left them.

`print/*.txt` hold passages written for this, {mentions} in braces; receipts come from a seed. Each is set in an old
type, worn, scanned and read. Where a mention came out is found by place, not by searching: the whole clean text is
aligned with the whole reading, and a mention is what stands opposite its characters. Nothing is thrown out.

    python make_print.py OUT.jsonl      # Tesseract 5 with eng, deu, fra, frk; Pillow, numpy, RapidFuzz; fonts: see FONTS
"""

import json, random, re, subprocess, sys, tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from rapidfuzz.distance import Levenshtein

HERE = Path(__file__).parent
# Less like a value than this is no longer the value: nobody would mark it.
LEAST = 0.5
FONTS = {
    "oldstandard": "/usr/share/fonts/truetype/fonts-oldstandard/OldStandard-Regular.ttf",
    "garamond": "/usr/share/fonts/opentype/ebgaramond/EBGaramond12-Regular.otf",
    "libertine": "/usr/share/fonts/opentype/linux-libertine/LinLibertine_R.otf",
    "mono": "/usr/share/fonts/truetype/liberation/LiberationMono-Regular.ttf",
}
# (dpi, blur, noise, wear): from a fair scan to a poor one
SCANS = [(170, 0.6, 8, 0.001), (140, 0.7, 14, 0.003), (120, 0.8, 18, 0.004)]


def passages():
    for name in ("en", "de", "fr"):
        for part in (HERE / "print" / f"{name}.txt").read_text("utf-8").split("# ")[1:]:
            title, marked = part.split("\n", 1)
            yield title, name, marked.strip(), "TEXT"


def receipts(count):
    rng = random.Random(7)
    shops = ["KEDAI RUNCIT SENTOSA", "NORTH PIER HARDWARE SDN BHD", "CAFÉ DU VIEUX PORT", "BÄCKEREI HAGENAH & SÖHNE", "SYARIKAT PERNIAGAAN GIN KEE", "PERIWINKLE STATIONERS LTD", "LIBRAIRIE DES QUAIS SARL", "FISCHHAUS KÜLPER GMBH", "UNIHAKKA INTERNATIONAL", "BOOK TA .K (TAMAN DAYA)"]
    streets = ["NO.53 & 55, JALAN SAGU 18, TAMAN DAYA, 81100 JOHOR BAHRU", "LOT 276 JALAN BANTING, 43800 DENGKIL, SELANGOR", "14 QUAI DE LA FOSSE, 44000 NANTES", "AM SANDTORKAI 7, 20457 HAMBURG", "12 COBBLER'S YARD, WHITBY YO22 4DE", "3 & 5, JALAN PERMAS 10/7, BANDAR BARU PERMAS JAYA"]
    goods = ["KINGFISHER PAINT 5L", "TIGER BEER", "PVC PIPE 20MM", "CAFÉ CRÈME", "ROGGENBROT", "NET TWINE 210/36", "HOT MILO", "ROPE 12MM X 50M", "ENVELOPE C4", "SARDINES À L'HUILE", "HERINGSSALAT", "LED BULB 9W"]
    for n in range(count):
        day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(2015, 2019)
        date = rng.choice([f"{day:02}/{month:02}/{year}", f"{day:02}-{month:02}-{year % 100:02}", f"{year}-{month:02}-{day:02}"])
        lines = ["{" + rng.choice(shops) + "}", "{" + rng.choice(streets) + "}", f"TEL : {{0{rng.randint(2,9)}-{rng.randint(1000000,9999999)}}}", f"GST ID : {{{rng.randint(10**11, 10**12-1)}}}", f"INVOICE NO : {{CS{rng.randint(10000,99999)}-{rng.choice('ABK')}}}   DATE : {{{date}}}"]
        total = 0
        for good in rng.sample(goods, rng.randint(3, 7)):
            price = rng.randint(150, 9900)
            total += price
            lines.append(f"{{{good}}}   {rng.randint(1,4)}   {price/100:.2f}")
        lines += [f"TOTAL RM   {{{total/100:.2f}}}", f"CASHIER : {{{rng.choice(['NUR AISYAH', 'M. Legasse', 'H. Külper', 'TAN CHAY YEE', 'Donald Gunn'])}}}", "THANK YOU / MERCI / DANKE"]
        yield f"receipt-{n:02}", "receipt", "\n".join(lines), "RECEIPT"


def unmark(marked):
    text, spans, at = "", [], 0
    for piece in re.split(r"(\{[^}]*\})", marked):
        if piece.startswith("{"):
            spans.append((len(text), len(text) + len(piece) - 2))
            piece = piece[1:-1]
        text += piece
    return text, spans


def long_s(text):
    """German print: ſ but at the end of a word or before a hyphen."""
    return re.sub(r"s(?=[a-zäöüß])", "ſ", text)


def draw(text, font, dpi, width_in, rng):
    face = ImageFont.truetype(font, round(dpi * 11 / 72))
    width = round(dpi * width_in)
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            trial = f"{line} {word}".strip(" ") if line else word
            if face.getlength(trial) <= width:
                line = trial
                continue
            cut = next((n for n in range(len(word) - 3, 2, -1) if word[:n].isalpha() and word[n:].isalpha() and face.getlength(f"{line} {word[:n]}-") <= width), 0)
            if cut and len(word) > 7:
                lines.append(f"{line} {word[:cut]}-")
                line = word[cut:]
            else:
                lines.append(line)
                line = word
        lines.append(line)
    height = round(face.size * 1.35)
    image = Image.new("L", (width + dpi, height * len(lines) + dpi), 255)
    pen = ImageDraw.Draw(image)
    for n, line in enumerate(lines):
        pen.text((dpi / 2, dpi / 2 + n * height), line, font=face, fill=20)
    return image


def scan(image, blur, noise, wear, rng):
    grid = np.random.default_rng(rng.randrange(2**32))
    image = image.rotate(rng.uniform(-0.5, 0.5), resample=Image.BICUBIC, fillcolor=255)
    image = image.filter(ImageFilter.GaussianBlur(blur))
    page = np.asarray(image).astype(float)
    page[grid.random(page.shape) < wear] = 0
    page[grid.random(page.shape) < wear * 2] = 255
    page = page * 0.85 + 25 + grid.normal(0, noise, page.shape)
    return Image.fromarray(np.clip(page, 0, 255).astype("uint8"))


def read(image, language, dpi):
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        image.save(file.name)
        out = subprocess.run(["tesseract", file.name, "stdout", "-l", language, "--psm", "6", "--dpi", str(dpi)], check=True, capture_output=True, env={"OMP_THREAD_LIMIT": "1", "PATH": "/usr/bin:/bin"})
    return out.stdout.decode("utf-8").replace("\x0c", "").strip()


def locate(clean, reading, spans):
    """Where each span of the clean text came out; None where nothing of it did."""
    to = [None] * len(clean)
    for op in Levenshtein.opcodes(clean.lower(), reading.lower()):
        if op.tag in ("equal", "replace"):
            for n in range(op.src_end - op.src_start):
                to[op.src_start + n] = op.dest_start + n
    for start, end in spans:
        places = [place for place in to[start:end] if place is not None]
        if not places:
            yield None, None
            continue
        yield best(clean[start:end].lower(), reading.lower(), max(0, places[0] - 4), places[-1] + 5)


def best(value, reading, first, last):
    """Of what stands opposite, give or take four characters, what is most like the value, whole words before parts of
    words; None under LEAST."""

    def cut(at):
        return 0 < at < len(reading) and reading[at - 1].isalnum() and reading[at].isalnum()

    last = min(last, len(reading))
    windows = (
        (Levenshtein.distance(value, reading[a:b]) + cut(a) + cut(b), a - b, a, b)
        for a in range(first, min(first + 9, last))
        for b in range(max(a, last - 9) + 1, last + 1)
    )
    distance, _, a, b = min(windows, default=(len(value), 0, 0, 0))
    return (a, b) if 1 - distance / max(len(value), b - a) >= LEAST else (None, None)


def main(out):
    rng = random.Random(19)
    languages = {"en": "eng", "de": "deu", "fr": "fra", "receipt": "eng"}
    with open(out, "w", encoding="utf-8") as file:
        for title, language, marked, label in [*passages(), *receipts(40)]:
            clean, spans = unmark(marked)
            scans = SCANS if label == "TEXT" else [rng.choice(SCANS)]
            for n, (dpi, blur, noise, wear) in enumerate(scans):
                font = "mono" if label == "RECEIPT" else rng.choice(["oldstandard", "garamond", "libertine"])
                printed, model = clean, languages[language]
                if language == "de" and n != 1:
                    # Read by a model that knows no ſ, as many were.
                    printed = long_s(clean)
                image = scan(draw(printed, FONTS[font], dpi, 5.2 if label == "TEXT" else 4.6, rng), blur, noise, wear, rng)
                reading = read(image, model, dpi)
                mentions = [dict(label=label, text=clean[s:e], start=a, end=b) for (s, e), (a, b) in zip(spans, locate(clean, reading, spans))]
                file.write(json.dumps(dict(doc=title, page=f"{n + 1}", text=reading, mentions=mentions), ensure_ascii=False) + "\n")
                file.flush()


if __name__ == "__main__":
    main(sys.argv[1])
