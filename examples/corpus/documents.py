"""The documents of the corpus: language, year, kinds of pages, look, and the OCR runs over each."""

import datetime as dt
from dataclasses import dataclass

from .render import Style


@dataclass(frozen=True)
class Run:
    """One OCR run over a document, at the resolution it was scanned at."""

    run_id: int
    dpi: int
    date: dt.date


@dataclass(frozen=True)
class Document:
    """`kinds`: a section of the language's TOML file for each page; `psm`: Tesseract's page segmentation mode."""

    doc_id: str
    language: str
    year: int
    kinds: tuple[str, ...]
    style: Style
    runs: tuple[Run, ...]
    psm: int = 3


def style(family: str, points: float = 10.5, table_points: float = 8.5, **changes) -> Style:
    """A look by font family, mildly spoiled; `changes` override single properties."""
    regular, bold = {
        "liberation-serif": ("liberation/LiberationSerif-Regular.ttf", "liberation/LiberationSerif-Bold.ttf"),
        "liberation-sans": ("liberation/LiberationSans-Regular.ttf", "liberation/LiberationSans-Bold.ttf"),
        "liberation-mono": ("liberation/LiberationMono-Regular.ttf", "liberation/LiberationMono-Bold.ttf"),
        "dejavu-serif": ("dejavu/DejaVuSerif.ttf", "dejavu/DejaVuSerif-Bold.ttf"),
        "dejavu-sans": ("dejavu/DejaVuSans.ttf", "dejavu/DejaVuSans-Bold.ttf"),
        "free-mono": ("freefont/FreeMono.ttf", "freefont/FreeMonoBold.ttf"),
        "free-serif": ("freefont/FreeSerif.ttf", "freefont/FreeSerifBold.ttf"),
    }[family]
    base = {"ruled": False, "justified": True, "blur": 0.5, "noise": 10.0, "specks": 400, "skew": 0.5, "jpeg": 45}
    return Style(font=regular, bold=bold, points=points, table_points=table_points, **base | changes)


def once(dpi: int, date: str) -> tuple[Run, ...]:
    return (Run(1, dpi, dt.date.fromisoformat(date)),)


CORPUS = (
    Document(
        "vessel-register-2023",
        "en",
        2023,
        ("register",) * 6,
        style("liberation-sans", table_points=7.5),
        once(150, "2024-02-06"),
        psm=6,
    ),
    Document(
        "00123",
        "en",
        2022,
        ("licence", "licence", "letter", "licence", "blank"),
        style("dejavu-serif", ruled=True),
        once(120, "2024-02-06"),
    ),
    Document(
        "boarding-report-17",
        "en",
        2021,
        ("inspection", "inspection", "catch", "inspection", "letter"),
        style("free-mono", points=10, blur=0.7),
        once(130, "2024-02-06"),
    ),
    Document(
        "transhipment-2024-05",
        "en",
        2024,
        ("transhipment", "transhipment", "catch", "transhipment", "transhipment"),
        style("liberation-mono", points=9.5, fax=True, noise=26.0),
        (Run(1, 100, dt.date(2024, 6, 3)), Run(2, 170, dt.date(2024, 7, 15))),
    ),
    Document(
        "crew-lists.ocean",
        "en",
        2023,
        ("crew",) * 4,
        style("liberation-serif", ruled=True),
        once(120, "2024-02-07"),
        psm=4,
    ),
    Document(
        "acta-inspeccion-0417",
        "es",
        2022,
        ("inspection", "catch", "inspection", "letter", "inspection", "catch"),
        style("liberation-serif", blur=0.6),
        once(125, "2024-02-07"),
    ),
    Document(
        "registro buques Nº 7",
        "es",
        2020,
        ("register",) * 5,
        style("dejavu-sans", points=9.5, table_points=6.8, ruled=True),
        once(160, "2024-02-08"),
        psm=6,
    ),
    Document(
        "licencia-0098",
        "es",
        2023,
        ("licence",) * 4,
        style("free-serif", points=11, noise=18.0),
        once(115, "2024-02-08"),
    ),
    Document(
        "déclaration-transbordement",
        "fr",
        2021,
        ("transhipment", "transhipment", "catch", "transhipment", "letter"),
        style("liberation-sans", fax=True, noise=22.0),
        once(115, "2024-02-09"),
    ),
    Document(
        "rôle-d'équipage",
        "fr",
        2022,
        ("crew", "crew", "crew", "blank"),
        style("liberation-serif", ruled=True, skew=0.9),
        once(125, "2024-02-09"),
        psm=4,
    ),
    Document(
        "licence-peche-77",
        "fr",
        2024,
        ("licence", "licence", "inspection", "register", "licence"),
        style("dejavu-serif", points=9.5, table_points=7),
        once(140, "2024-03-01"),
        psm=4,
    ),
    Document(
        "rapport_inspection_31",
        "fr",
        2023,
        ("inspection", "inspection", "catch", "inspection"),
        style("liberation-mono", points=9.5, blur=0.7),
        once(130, "2024-03-01"),
    ),
    Document(
        "судовой-реестр",
        "ru",
        2021,
        ("register", "register", "register", "letter", "register"),
        style("liberation-sans", table_points=7.2),
        once(160, "2024-03-04"),
        psm=6,
    ),
    Document(
        "акт проверки 12",
        "ru",
        2022,
        ("inspection", "catch", "inspection", "letter", "inspection"),
        style("liberation-serif", points=11),
        once(130, "2024-03-04"),
    ),
    Document(
        "ru-razreshenie-5",
        "ru",
        2023,
        ("licence", "licence", "crew", "transhipment", "licence"),
        style("dejavu-sans", points=10, noise=16.0),
        once(120, "2024-03-05"),
        psm=4,
    ),
)
