"""The invented fleet: vessels with valid identifiers, and the ways in which a document writes them.

Nothing here is real but countries, ports, species, gear and the regional organisations. IMO numbers have a
true check digit but lie in 3000000-4999999, a range in which we know of no ship; MMSIs have the
flag's country code (MID) and call signs the flag's prefix.
"""

import datetime as dt
import random
import tomllib
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = ("en", "es", "fr", "ru")

# ISO 3166 alpha-3: maritime identification digits (ITU), call sign prefixes (ITU).
FLAGS = {
    "CHL": (("725",), ("CB", "CA")),
    "CIV": (("619",), ("TU",)),
    "ECU": (("735",), ("HC",)),
    "ESP": (("224", "225"), ("EA", "EB", "EG")),
    "FJI": (("520",), ("3D",)),
    "FRA": (("226", "227", "228"), ("FG", "FI", "FN")),
    "GHA": (("627",), ("9G",)),
    "KOR": (("440", "441"), ("6K", "DT", "HL")),
    "LBR": (("636", "637"), ("5L", "A8", "D5")),
    "MUS": (("645",), ("3B",)),
    "NOR": (("257", "258", "259"), ("LA", "LK", "LM")),
    "PAN": (("351", "352", "354", "371"), ("3E", "3F", "HO", "HP")),
    "PER": (("760",), ("OA", "OB")),
    "PRT": (("263",), ("CS", "CU")),
    "RUS": (("273",), ("UA", "UB", "UC", "UD")),
    "SEN": (("663",), ("6V",)),
    "SYC": (("664",), ("S7",)),
    "URY": (("770",), ("CV", "CX")),
    "VUT": (("576", "577"), ("YJ",)),
}
RFMOS = {
    "en": ("ICCAT", "IOTC", "WCPFC", "SPRFMO"),
    "es": ("CIAT", "CICAA", "OROP-PS"),
    "fr": ("CTOI", "CICTA"),
    "ru": ("НЕАФК", "АНТКОМ", "НАФО"),
}
PORTS = {
    "en": ("Suva", "Port Louis", "Las Palmas", "Walvis Bay", "Manta", "Busan", "Montevideo", "Cape Town"),
    "es": ("Callao", "Manta", "Vigo", "Montevideo", "Las Palmas de Gran Canaria", "Chimbote", "Dakar"),
    "fr": ("Abidjan", "Dakar", "Port Victoria", "Concarneau", "Port-Louis", "Saint-Denis"),
    "ru": ("Владивосток", "Находка", "Мурманск", "Пусан", "Петропавловск-Камчатский", "Калининград"),
}


@dataclass(frozen=True)
class Vessel:
    """One invented vessel; `length` in metres, `tonnage` in gross tons, `flag` ISO 3166 alpha-3."""

    name: str
    imo: str
    mmsi: str
    call_sign: str
    flag: str
    owner: str
    operator: str
    master: str
    gear: str
    vessel_type: str
    licence_no: str
    length: float
    tonnage: int


class Language:
    """What documents in one language are written from: `texts/<code>.toml`, and a fleet that they share."""

    def __init__(self, code: str, seed: int):
        self.code = code
        self.texts = tomllib.loads((Path(__file__).parent / "texts" / f"{code}.toml").read_text("utf-8"))
        rng = random.Random(f"{seed}/{code}")
        self.fleet = [self._vessel(rng, name) for name in self.texts["vessels"]]

    def number(self, value: float, decimals: int) -> str:
        plain = f"{value:,.{decimals}f}"
        return plain.translate(str.maketrans({",": self.texts["thousands"], ".": self.texts["decimal"]}))

    def date(self, rng: random.Random, day: dt.date) -> str:
        month = day.month - 1
        return rng.choice(self.texts["dates"]).format(
            d=day.day, m=day.month, y=day.year, month=self.texts["months"][month], mon=self.texts["mon"][month]
        )

    def _vessel(self, rng: random.Random, name: str) -> Vessel:
        flag = rng.choice(list(self.texts["flags"]))
        mids, prefixes = FLAGS[flag]
        licence = rng.choice(self.texts["licences"])
        return Vessel(
            name=name,
            imo=imo_number(rng),
            mmsi=rng.choice(mids) + f"{rng.randrange(1_000_000):06}",
            call_sign=call_sign(rng, rng.choice(prefixes)),
            flag=flag,
            owner=rng.choice(self.texts["owners"]),
            operator=rng.choice(self.texts["operators"]),
            master=rng.choice(self.texts["masters"]),
            gear=rng.choice(self.texts["gear"]),
            vessel_type=rng.choice(self.texts["vessel_type"]),
            licence_no=licence.format(y=rng.randrange(2019, 2025), n=rng.randrange(1, 9999)),
            length=round(rng.uniform(18, 119), rng.choice((1, 2))),
            tonnage=rng.randrange(140, 4800),
        )


def imo_number(rng: random.Random) -> str:
    """Seven digits; the last is the check digit: the sum of the first six times 7, 6, 5, 4, 3, 2, modulo 10."""
    digits = str(rng.randrange(300_000, 500_000))
    check = sum(int(digit) * weight for digit, weight in zip(digits, range(7, 1, -1))) % 10
    return f"{digits}{check}"


def call_sign(rng: random.Random, prefix: str) -> str:
    """A ship station's call sign: the prefix of the country, two letters and often a digit."""
    letters = "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(2))
    return prefix + letters + rng.choice(("", "2", "5", "7", "8"))
