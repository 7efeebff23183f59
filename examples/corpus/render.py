"""From blocks to a page image that looks scanned, and the boxes of the planted values on it.

Drawing is at `DRAW_DPI`; `scan` brings a page to a scanner's resolution and spoils it: skew, uneven light, blur,
noise, specks, a fax's two colours, JPEG. Boxes are (left, top, right, bottom) in pixels and follow the image.
"""

import io
import math
import random
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from .pages import Block, Field, Footer, Heading, Paragraph, Planted, Runs, Table

DRAW_DPI = 200
WIDTH, HEIGHT = 1654, 2339  # A4
MARGIN = 150
FONTS = Path("/usr/share/fonts/truetype")

Box = tuple[float, float, float, float]
Glyphs = list[tuple[str, Planted | None]]


@dataclass(frozen=True)
class Style:
    """How one document looks and how badly it was scanned."""

    font: str
    bold: str
    points: float
    table_points: float
    ruled: bool
    justified: bool
    blur: float
    noise: float
    specks: int
    skew: float
    jpeg: int
    fax: bool = False


@dataclass
class Page:
    image: Image.Image
    boxes: list[tuple[Planted, Box]] = field(default_factory=list)


def glyphs(runs: Runs) -> Glyphs:
    """Characters that know the entity they belong to."""
    found: Glyphs = []
    for run in runs:
        text, owner = (run, None) if isinstance(run, str) else (run.value, run)
        found += [(c, owner) for c in text]
    return found


def words(characters: Glyphs) -> list[Glyphs]:
    found: list[Glyphs] = [[]]
    for character in characters:
        if character[0] == " ":
            found.append([])
        else:
            found[-1].append(character)
    return [word for word in found if word]


def draw(blocks: list[Block], style: Style, rng: random.Random) -> Page:
    """The page, drawn black on white. A block that does not fit whole is left off, with what is planted in it."""
    page = Page(Image.new("L", (WIDTH, HEIGHT), 255))
    pen = _Pen(page, style, rng)
    for block in blocks:
        pen.block(block)
    return page


class _Pen:
    def __init__(self, page: Page, style: Style, rng: random.Random):
        self.page, self.style, self.rng = page, style, rng
        self.canvas = ImageDraw.Draw(page.image)
        self.y = float(MARGIN)
        self.body = self._font(style.font, style.points)
        self.bold = self._font(style.bold, style.points)
        self.title = self._font(style.bold, style.points * 1.35)
        self.cell = self._font(style.font, style.table_points)
        self.cell_bold = self._font(style.bold, style.table_points)

    @staticmethod
    def _font(name: str, points: float) -> ImageFont.FreeTypeFont:
        return ImageFont.truetype(str(FONTS / name), round(points * DRAW_DPI / 72))

    def block(self, block: Block) -> None:
        width = WIDTH - 2 * MARGIN
        match block:
            case Heading(runs):
                self._paragraph(glyphs(runs), self.title, MARGIN, width, False)
                self.y += 25
            case Field(name, runs):
                self._field(name, runs, width)
            case Paragraph(runs):
                self.y += 14
                self._paragraph(glyphs(runs), self.body, MARGIN, width, self.style.justified)
            case Table():
                self.y += 14
                self._table(block, width)
            case Footer(runs):
                line = glyphs(runs)
                left = (WIDTH - self._width(line, self.cell)) / 2
                self._text(line, self.cell, left, HEIGHT - MARGIN + 30)

    def _field(self, name: str, runs: Runs, width: int) -> None:
        if self.y + self._height(self.body) > HEIGHT - MARGIN:
            return
        self._text(glyphs([name + ":"]), self.bold, MARGIN, self.y)
        self._text(glyphs(runs), self.body, MARGIN + width * 0.38, self.y)
        self.y += self._height(self.body) * 1.08

    def _paragraph(
        self, text: Glyphs, font: ImageFont.FreeTypeFont, left: float, width: float, justified: bool
    ) -> None:
        lines = self._lines(text, font, width, hyphenate=True)
        if self.y + len(lines) * self._height(font) > HEIGHT - MARGIN:
            return
        for number, line in enumerate(lines):
            spare = width - self._width(line, font)
            gaps = sum(1 for c, _ in line if c == " ")
            stretch = spare / gaps if justified and gaps and number + 1 < len(lines) else 0.0
            self._text(line, font, left, self.y, stretch)
            self.y += self._height(font)

    def _table(self, table: Table, width: float) -> None:
        scale = width / sum(table.weights)
        lefts = [MARGIN + scale * sum(table.weights[:n]) for n in range(len(table.weights) + 1)]
        pad = 8
        rows = [([glyphs([name]) for name in table.header], self.cell_bold)]
        rows += [([glyphs(runs) for runs in row], self.cell) for row in table.rows]
        top = self.y
        for cells, font in rows:
            room = [right - left - 2 * pad for left, right in pairwise(lefts)]
            wrapped = [self._lines(cell, font, space, hyphenate=False) for cell, space in zip(cells, room)]
            height = max(len(lines) for lines in wrapped) * self._height(font) + 8
            if self.y + height > HEIGHT - MARGIN:
                break
            for lines, left in zip(wrapped, lefts):
                for number, line in enumerate(lines):
                    self._text(line, font, left + pad, self.y + 4 + number * self._height(font))
            self.y += height
            if self.style.ruled or font is self.cell_bold:
                self.canvas.line((MARGIN, self.y, MARGIN + width, self.y), fill=60, width=2)
        if self.style.ruled:
            for left in lefts:
                self.canvas.line((left, top, left, self.y), fill=60, width=2)

    def _lines(self, text: Glyphs, font: ImageFont.FreeTypeFont, width: float, hyphenate: bool) -> list[Glyphs]:
        """Greedy line breaks; a long word at a line's end is sometimes hyphenated, a longer-than-line word is cut."""
        space: Glyphs = [(" ", None)]
        lines: list[Glyphs] = [[]]
        queue = words(text)
        while queue:
            word = queue.pop(0)
            line = lines[-1] + (_space_between(lines[-1], word) if lines[-1] else []) + word
            if self._width(line, font) <= width:
                lines[-1] = line
            elif hyphenate and lines[-1] and (cut := self._hyphen(lines[-1] + space, word, font, width)):
                owner = word[cut - 1][1] if word[cut - 1][1] is word[cut][1] else None
                lines[-1] = lines[-1] + space + word[:cut] + [("-", owner)]
                lines.append([])
                queue.insert(0, word[cut:])
            elif not lines[-1]:
                cut = max(n for n in range(1, len(word) + 1) if n == 1 or self._width(word[:n], font) <= width)
                lines[-1] = word[:cut]
                if word[cut:]:
                    queue.insert(0, word[cut:])
                    lines.append([])
            else:
                lines.append([])
                queue.insert(0, word)
        return lines

    def _hyphen(self, before: Glyphs, word: Glyphs, font: ImageFont.FreeTypeFont, width: float) -> int:
        """Where to cut a word of letters so that its head fits the line, or 0."""
        if len(word) < 8 or not all(c.isalpha() for c, _ in word[:-1]) or self.rng.random() < 0.35:
            return 0
        fits = [n for n in range(3, len(word) - 3) if self._width(before + word[:n] + [("-", None)], font) <= width]
        return fits[-1] if fits else 0

    def _text(self, line: Glyphs, font: ImageFont.FreeTypeFont, left: float, top: float, stretch: float = 0.0) -> None:
        """Draws a line word by word and notes a box for each stretch of a planted value in a word."""
        x = left
        for word in words(line):
            text = "".join(c for c, _ in word)
            self.canvas.text((x, top), text, font=font, fill=self.rng.randrange(0, 40))
            start = 0
            for end in range(1, len(word) + 1):
                if end == len(word) or word[end][1] is not word[start][1]:
                    if (planted := word[start][1]) is not None:
                        edges = (x + font.getlength(text[:start]), x + font.getlength(text[:end]))
                        self.page.boxes.append((planted, (edges[0], top, edges[1], top + self._height(font) * 0.9)))
                    start = end
            x += font.getlength(text) + font.getlength(" ") + stretch

    @staticmethod
    def _width(line: Glyphs, font: ImageFont.FreeTypeFont) -> float:
        return font.getlength("".join(c for c, _ in line))

    @staticmethod
    def _height(font: ImageFont.FreeTypeFont) -> float:
        return font.size * 1.28


def _space_between(line: Glyphs, word: Glyphs) -> Glyphs:
    same = line[-1][1] is word[0][1]
    return [(" ", word[0][1] if same else None)]


def scan(page: Page, style: Style, dpi: int, seed: int) -> tuple[Page, bytes]:
    """The page as a scanner at `dpi` gives it, and its JPEG bytes. The same seed spoils it the same way."""
    chance = np.random.default_rng(seed)
    factor = dpi / DRAW_DPI
    angle = float(chance.uniform(-style.skew, style.skew))
    image = page.image.rotate(angle, resample=Image.Resampling.BICUBIC, fillcolor=255)
    size = (round(WIDTH * factor), round(HEIGHT * factor))
    image = image.resize(size, Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(style.blur))

    pixels = np.asarray(image, dtype=np.float32)
    light = np.linspace(*chance.uniform(0.82, 1.0, 2), size[0], dtype=np.float32)
    pixels = pixels * light + chance.normal(0, style.noise, pixels.shape).astype(np.float32)
    rows, columns = chance.integers(0, size[1], style.specks), chance.integers(0, size[0], style.specks)
    pixels[rows, columns] = chance.choice((20, 235), style.specks)
    if style.fax:
        pixels = np.where(pixels > 138, 255, 0)

    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=style.jpeg, dpi=(dpi, dpi))
    boxes = [(planted, _turn(box, angle, factor)) for planted, box in page.boxes]
    return Page(Image.open(io.BytesIO(buffer.getvalue())), boxes), buffer.getvalue()


def _turn(box: Box, angle: float, factor: float) -> Box:
    """The box about the turned centre of a box; its size is kept, as angles are below one degree or so."""
    x, y = (box[0] + box[2]) / 2 - WIDTH / 2, (box[1] + box[3]) / 2 - HEIGHT / 2
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    x, y = x * cos + y * sin + WIDTH / 2, -x * sin + y * cos + HEIGHT / 2
    half = ((box[2] - box[0]) / 2, (box[3] - box[1]) / 2)
    return ((x - half[0]) * factor, (y - half[1]) * factor, (x + half[0]) * factor, (y + half[1]) * factor)
