"""From templates to page content: blocks of text that know which words are a planted entity.

A block holds runs: plain strings and `Planted` values. Nothing here knows about pixels.
"""

import datetime as dt
import random
import re
from dataclasses import dataclass

from .world import PORTS, RFMOS, Language, Vessel

PLACEHOLDER = re.compile(r"\{([A-Za-z_]+)(@b)?\}")


@dataclass(frozen=True, eq=False)
class Planted:
    """An entity, compared by identity: `value` as printed, `norm_value` its normal form where there is one."""

    label: str
    value: str
    norm_value: str | None


Runs = list[str | Planted]


@dataclass(frozen=True)
class Heading:
    runs: Runs


@dataclass(frozen=True)
class Field:
    """A line of a form: what is asked, and the answer."""

    name: str
    runs: Runs


@dataclass(frozen=True)
class Paragraph:
    runs: Runs


@dataclass(frozen=True)
class Table:
    """Cells are runs; `weights` share out the page's width; a cell that is too long wraps."""

    header: list[str]
    rows: list[list[Runs]]
    weights: list[float]


@dataclass(frozen=True)
class Footer:
    runs: Runs


Block = Heading | Field | Paragraph | Table | Footer

WEIGHTS = {
    "no": 0.35, "VESSEL_NAME": 1.7, "FLAG": 1.1, "VESSEL_TYPE": 1.2, "OWNER": 1.9, "SPECIES": 1.6, "person": 1.8,
    "LENGTH": 0.75, "TONNAGE": 0.65, "IMO": 0.8, "CALL_SIGN": 0.8, "kg": 0.8, "boxes": 0.6,
}  # fmt: skip


class Writer:
    """Writes the pages of one document: its language and year, and a source of chance."""

    def __init__(self, language: Language, rng: random.Random, year: int):
        self.language = language
        self.texts = language.texts
        self.rng = rng
        self.year = year
        self.rfmo = rng.choice(RFMOS[language.code])
        self.fleet = language.fleet

    def page(self, kind: str, number: int, of: int) -> list[Block]:
        """The blocks of a page of this kind (a section of the language's TOML file), or none for `blank`."""
        if kind == "blank":
            return []
        pair = self.rng.sample(self.fleet, 2)
        section = self.texts[kind]
        write = {"register": self._register, "catch": self._catch}.get(kind, self._form)
        blocks = [Heading([section["title"]]), *write(kind, section, pair)]
        return [*blocks, Footer([self.texts["page"].format(n=number, of=of)])]

    def _register(self, _kind: str, section: dict, pair: list[Vessel]) -> list[Block]:
        vessels = self.rng.sample(self.fleet, min(len(self.fleet), self.rng.randrange(9, 13)))
        rows = [self._cells(section["columns"], n, [vessel, vessel]) for n, vessel in enumerate(vessels, 1)]
        intro, note = (Paragraph(self._runs(section[key], pair)) for key in ("intro", "note"))
        return [intro, self._table(section["columns"], rows), note]

    def _catch(self, _kind: str, section: dict, pair: list[Vessel]) -> list[Block]:
        rows = [self._cells(section["columns"], n, pair) for n in range(1, self.rng.randrange(9, 17))]
        intro, note = (Paragraph(self._runs(section[key], pair)) for key in ("intro", "note"))
        return [intro, self._table(section["columns"], rows), note]

    def _form(self, kind: str, section: dict, pair: list[Vessel]) -> list[Block]:
        blocks: list[Block] = [Field(name, self._runs(text, pair)) for name, text in section.get("fields", [])]
        if "columns" in section:
            count = self.rng.randrange(9, 15) if kind == "crew" else self.rng.randrange(4, 9)
            rows = [self._cells(section["columns"], n, pair) for n in range(1, count)]
            blocks.append(self._table(section["columns"], rows))
        paragraphs = section.get("paragraphs", [])
        keep = max(len(paragraphs) - self.rng.randrange(3), min(len(paragraphs), 1))
        chosen = sorted(self.rng.sample(range(len(paragraphs)), keep))
        blocks += [Paragraph(self._runs(paragraphs[n], pair)) for n in chosen]
        if "note" in section:
            blocks.append(Paragraph(self._runs(section["note"], pair)))
        return blocks

    def _table(self, columns: list[str], rows: list[list[Runs]]) -> Table:
        header = [self.texts["columns"][column] for column in columns]
        return Table(header, rows, [WEIGHTS.get(column, 1.0) for column in columns])

    def _cells(self, columns: list[str], number: int, pair: list[Vessel]) -> list[Runs]:
        """A table's row; lengths and tonnages stand without their unit, which the header names."""
        cells: list[Runs] = []
        for column in columns:
            if column == "no":
                cells.append([str(number)])
            elif column in ("LENGTH", "TONNAGE"):
                cells.append([self._entity(column, pair[0], with_unit=False)])
            else:
                cells.append(self._runs("{" + column + "}", pair))
        return cells

    def _runs(self, template: str, pair: list[Vessel]) -> Runs:
        runs: Runs = []
        end = 0
        for match in PLACEHOLDER.finditer(template):
            name, second = match.groups()
            runs.append(template[end : match.start()])
            runs.append(self._entity(name, pair[1 if second else 0]) if name.isupper() else self._filler(name))
            end = match.end()
        runs.append(template[end:])
        return [run for run in runs if run != ""]

    def _entity(self, label: str, vessel: Vessel, with_unit: bool = True) -> Planted:
        rng, texts = self.rng, self.texts
        match label:
            case "DATE":
                day = dt.date(self.year, 1, 1) + dt.timedelta(days=rng.randrange(365))
                return Planted(label, self.language.date(rng, day), day.isoformat())
            case "FLAG":
                return Planted(label, texts["flags"][vessel.flag], vessel.flag)
            case "LENGTH":
                decimals = 1 if round(vessel.length, 1) == vessel.length else 2
                number = self.language.number(vessel.length, decimals)
                unit = rng.choice(texts["lengths"]) if with_unit else "{n}"
                return Planted(label, unit.format(n=number), f"{vessel.length:.{decimals}f}")
            case "TONNAGE":
                number = self.language.number(vessel.tonnage, 0)
                unit = rng.choice(texts["tonnages"]) if with_unit else "{n}"
                return Planted(label, unit.format(n=number), str(vessel.tonnage))
            case "IMO" | "MMSI" | "CALL_SIGN":
                identifier = getattr(vessel, label.lower())
                return Planted(label, identifier, identifier)
            case "SPECIES":
                return Planted(label, rng.choice(texts["species"]), None)
            case "PORT":
                return Planted(label, rng.choice(PORTS[self.language.code]), None)
            case "RFMO":
                return Planted(label, self.rfmo, None)
        field = {"VESSEL_NAME": "name", "GEAR_TYPE": "gear"}.get(label, label.lower())
        return Planted(label, getattr(vessel, field), None)

    def _filler(self, name: str) -> str:
        rng = self.rng
        match name:
            case "n":
                return str(rng.randrange(12, 990))
            case "kg":
                return self.language.number(rng.randrange(80, 96_000), 0)
            case "boxes":
                return str(rng.randrange(4, 2400))
            case "time":
                return f"{rng.randrange(24):02}:{rng.randrange(60):02}"
            case "position":
                latitude = f"{rng.randrange(60):02}°{rng.randrange(600) / 10:04.1f}'{rng.choice('NS')}"
                return f"{latitude} {rng.randrange(180):03}°{rng.randrange(600) / 10:04.1f}'{rng.choice('EW')}"
            case "person":
                return rng.choice(self.texts["people"])
        return rng.choice(self.texts["filler"][name])
