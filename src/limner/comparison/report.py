"""The report: one HTML file that needs no other and no network, the same as Markdown, the numbers as CSV."""

import base64
import html
from dataclasses import dataclass
from pathlib import Path

from limner.comparison import plots, sheets
from limner.comparison.found import Comparison
from limner.comparison.tables import Table, as_csv, tables
from limner.evaluation.table import replaced

TITLE = "The same words to every painter"
HTML, MARKDOWN, CSV = "report.html", "report.md", "scores.csv"


@dataclass(frozen=True)
class Shown:
    """A picture of the report: its file's name, what it shows, and its bytes; `folded` away in the HTML."""

    name: str
    caption: str
    data: bytes
    folded: bool = False


def write(of: Comparison, out: Path, *, page: Path | None = None) -> Path:
    """report.html, report.md with its pictures in report/, and scores.csv in `out`; the path of the first.

    `page`: a Markdown file of another name to write as well, with its pictures in a folder beside it that is
    called like it, as documentation has them.
    """
    pictures = shown(of)
    replaced(out / CSV, as_csv(of).encode())
    for file in (out / MARKDOWN, *(() if page is None else (page,))):
        for one in pictures:
            replaced(file.with_suffix("") / one.name, one.data)
        title = TITLE if page is None or file != page else f"{file.stem}: {TITLE[0].lower()}{TITLE[1:]}"
        replaced(file, markdown(of, pictures, folder=file.stem, title=title).encode())
    replaced(out / HTML, as_html(of, pictures).encode())
    return out / HTML


def shown(of: Comparison) -> list[Shown]:
    """Every sheet and plot."""
    found = [
        Shown(
            "sheet.png",
            "The first picture of the first prompts, by everybody. Nothing is picked.",
            sheets.png(sheets.everybody(of)),
        ),
        Shown(
            "measures.png",
            "Every measure, with 95 % intervals: to the right is better.",
            plots.png(plots.measures(of)),
        ),
    ]
    if (curves := plots.blurring(of)) is not None:
        said = "Distance and score as painted and real pictures are blurred alike (Ramesh et al. 2021)."
        found.append(Shown("blur.png", said, plots.png(curves)))
    for one in of.painted:
        name = f"sheet-{one.name.replace(':', '-')}.png"
        caption = f"{one.title}: all pictures of the first prompts"
        found.append(Shown(name, caption, sheets.png(sheets.own(of, one)), folded=True))
    return found


def told(of: Comparison) -> str:
    """What this is, in a few sentences."""
    who = ", ".join(one.title for one in of.painted)
    return (
        f"{who}: {of.count} pictures of each of {len(of.prompts)} prompts, at {of.size} pixels a side, from "
        "the same seeds. In brackets stand 95 % intervals, of prompts drawn again whole beside the same real "
        "pictures: how far other prompts might lead, not other real pictures. Arrows say which way is better."
    )


def markdown(of: Comparison, pictures: list[Shown], *, folder: str, title: str) -> str:
    """The report as Markdown, its pictures in `folder` beside it."""
    parts = [f"# {title}", told(of), f"```\n{of.command}\n```"]
    if of.warnings:
        parts.append("\n".join(f"- **Few pictures:** {one}." for one in of.warnings))
    plain = [one for one in pictures if not one.folded]
    parts.append(f"![{plain[0].caption}]({folder}/{plain[0].name})")
    for table in tables(of):
        parts += [f"## {table.heading}", table.before, as_markdown(table)]
    for one in plain[1:]:
        parts += [one.caption, f"![{one.caption}]({folder}/{one.name})"]
    parts.append("## Everybody's own")
    parts += [f"![{one.caption}]({folder}/{one.name})" for one in pictures if one.folded]
    return "\n\n".join(parts) + "\n"


def as_markdown(table: Table) -> str:
    """A table; what would end a cell is spelled out."""
    lines = [table.header, ("---",) * len(table.header), *table.rows]
    cells = [[html.escape(cell, quote=False).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1d2126; --soft: #59636d; --line: #d9dee3; --page: #fff; --band: #f5f7f9;
  --held: #0b7a3b; --not: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e7ea; --soft: #a3adb6; --line: #3a4148; --page: #16191d; --band: #1e2328;
    --held: #5fd38d; --not: #ff8a80;
  }
}
* { box-sizing: border-box }
body {
  margin: 0 auto; max-width: 1180px; padding: 2rem 1.25rem 5rem;
  background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif;
}
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .6rem }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .4rem }
p { max-width: 46rem; margin: .4rem 0 .9rem; color: var(--soft) }
nav { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; font-size: .9rem; margin: 1rem 0 1.6rem }
nav a { color: inherit }
/* A word of the command is broken where it is wider than the page, and not at its hyphens. */
pre span { display: inline-block; max-width: 100%; overflow-wrap: anywhere }
pre { white-space: pre-wrap; background: var(--band); padding: .7rem .9rem; border-radius: 6px }
pre, .few, figcaption { font-size: .88rem }
.few { border-left: 4px solid #d08700; background: var(--band); padding: .6rem 1rem; margin: 1rem 0 }
.few ul { margin: .2rem 0; padding-left: 1.1rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; width: 100% }
th, td { text-align: left; padding: .42rem .6rem; border-bottom: 1px solid var(--line) }
th, td { vertical-align: top; overflow-wrap: anywhere }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom }
tbody th { font-weight: 600; white-space: nowrap }
tbody tr:hover { background: var(--band) }
td.num { white-space: nowrap }
td.held { color: var(--held); font-weight: 600; white-space: nowrap }
td.not { color: var(--not); font-weight: 600; white-space: nowrap }
td.open { color: var(--soft); white-space: nowrap }
figure { margin: 1.2rem 0 }
figcaption { color: var(--soft); margin-bottom: .4rem }
img { max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line); border-radius: 6px }
details { margin: .1rem 0 }
summary { cursor: pointer; padding: .3rem 0 }
@media print { nav { display: none } }
"""

VERDICTS = {"held": "held", "did not hold": "not", "not settled": "open"}


def as_html(of: Comparison, pictures: list[Shown]) -> str:
    """The report as one file: pictures are in it, and it asks nobody for anything."""
    found = tables(of)
    links = "".join(f'<a href="#{anchor(one)}">{html.escape(one.heading)}</a>' for one in found)
    plain = [one for one in pictures if not one.folded]
    folded = "".join(
        f"<details><summary>{html.escape(one.caption)}</summary>{image(one)}</details>"
        for one in pictures
        if one.folded
    )
    words = [f"<span>{html.escape(word)}</span>" for word in of.command.split(" ")]
    few = ""
    if of.warnings:
        said = "".join(f"<li>{html.escape(one)}</li>" for one in of.warnings)
        few = f'<div class="few"><strong>Few pictures</strong><ul>{said}</ul></div>'
    body = [
        f"<h1>{TITLE}</h1><p>{html.escape(told(of))}</p>",
        f"<pre>{' '.join(words)}</pre>{few}<nav>{links}</nav>",
        figure(plain[0]),
        f"<h2>Everybody’s own</h2>{folded}",
        *(part(one) for one in found[:-1]),
        "<h2>Plots</h2>",
        *(figure(one) for one in plain[1:]),
        part(found[-1]),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{TITLE}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def anchor(table: Table) -> str:
    """Where a link leads."""
    return "".join(c if c.isalnum() else "-" for c in table.heading.lower()).strip("-")


def part(table: Table) -> str:
    """A heading, what it means, the table."""
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in table.header)
    named = table.header[0] in ("", "what")
    rows = "".join(f"<tr>{''.join(cells(row, named=named))}</tr>" for row in table.rows)
    return (
        f'<h2 id="{anchor(table)}">{html.escape(table.heading)}</h2><p>{html.escape(table.before)}</p>'
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def cells(row: tuple[str, ...], *, named: bool) -> list[str]:
    """A row: its first cell may name it, verdicts have a colour besides, and numbers are not broken."""
    first = html.escape(row[0])
    found = [f'<th scope="row">{first}</th>' if named else f"<td>{first}</td>"]
    for cell in row[1:]:
        kind = VERDICTS.get(cell, "num" if cell[:1].isdigit() and len(cell) < 30 else "")
        found.append(
            f'<td class="{kind}">{html.escape(cell)}</td>' if kind else f"<td>{html.escape(cell)}</td>"
        )
    return found


def figure(one: Shown) -> str:
    """A picture and what it shows."""
    return f"<figure><figcaption>{html.escape(one.caption)}</figcaption>{image(one)}</figure>"


def image(one: Shown) -> str:
    """A picture in the page itself."""
    data = base64.b64encode(one.data).decode()
    return f'<img alt="{html.escape(one.caption)}" src="data:image/png;base64,{data}">'
