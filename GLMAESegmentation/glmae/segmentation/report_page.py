"""A page to leaf through a batch in any browser: each result with its picture and its doubts, doubtful ones first."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from ..files import whole_file
from ..scans.classes import ClassTable, SegmentClass
from .report import CaseRecord, Report
from .thumbnail import SIDE

_STYLE = """
body { background: #16181d; color: #e8eaed; font: 15px sans-serif; margin: 24px; }
h1, h2 { font-size: 20px; font-weight: normal; }
main { display: flex; flex-wrap: wrap; gap: 20px; }
figure { margin: 0; max-width: 660px; overflow-wrap: anywhere; }
i { display: inline-block; width: 14px; height: 14px; margin: 0 6px 0 16px; }
ul { margin: 4px 0; padding-left: 20px; color: #ffb74d; }
"""


def write_page(report: Report, records: Sequence[CaseRecord], classes: ClassTable) -> None:
    """Write `index.html`, which shows the pictures that lie in `cases` beside it.

    Raises:
        StorageError: it cannot be written.
    """
    done = sorted((record for record in records if record.state == "done"), key=lambda record: not record.flags)
    failed = [record for record in records if record.state == "failed"]
    models = ", ".join(dict.fromkeys(record.model.name for record in done))
    title = escape(f"Segmentations by {models}" if done else "No segmentations")
    counts = f"{len(done)} done, {sum(bool(record.flags) for record in done)} doubtful, {len(failed)} failed"
    lines = [
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1><p>{counts}</p>",
        f"<p>{''.join(map(_legend, classes.with_colors()))}</p>",
        "<main>",
        *(_figure(report, record) for record in done),
        "</main>",
    ]
    if failed:
        lines += ["<h2>Failed</h2><ul>", *(f"<li>{escape(record.message or record.case)}</li>" for record in failed)]
        lines.append("</ul>")
    with whole_file(report.page) as temporary:
        temporary.write_text("\n".join([*lines, "</body></html>\n"]), encoding="utf-8", newline="\n")


def _legend(entry: SegmentClass) -> str:
    assert entry.color is not None
    color = ", ".join(f"{part:.0%}" for part in entry.color)
    return f'<i style="background: rgb({color})"></i>{escape(entry.name)}'


def _figure(report: Report, record: CaseRecord) -> str:
    picture = report.thumbnail(record.file)
    address = quote(picture.relative_to(report.folder).as_posix())
    image = f'<img src="{address}" alt="" width="{3 * SIDE}" height="{SIDE}" loading="lazy">'
    doubts = "".join(f"<li>{escape(flag.message)}</li>" for flag in record.flags)
    return (
        f"<figure>{image if picture.is_file() else ''}<figcaption>{escape(record.case)}"
        f"{f'<ul>{doubts}</ul>' if doubts else ''}</figcaption></figure>"
    )
