"""Contact sheet of a test's pictures: one self-contained HTML page that can be sorted and filtered."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from util.files import write_atomically

THUMBNAIL_WIDTH, THUMBNAIL_QUALITY = 900, 80
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; background: #fff }}
button, select {{ font: inherit; margin-right: .5em }}
figure {{ margin: 1.2em 0; border-top: 1px solid #ccc; padding-top: .6em }}
figure img {{ max-width: 100%; height: auto; display: block }}
figcaption b {{ font-variant-numeric: tabular-nums }}
</style></head><body>
<h1>{title}</h1>
<p>{count} episodes. IoU is of the final output. Click a picture for its full size.</p>
<p>
<button data-key="iou" data-way="1">IoU, worst first</button>
<button data-key="iou" data-way="-1">IoU, best first</button>
<button data-key="class" data-way="1">class</button>
<select id="class"><option value="">every class</option>{classes}</select>
<select id="kind"><option value="">every kind</option>{kinds}</select>
</p>
<main>
{figures}
</main>
<script>
const main = document.querySelector("main");
function order(key, way) {{
  const figures = [...main.children];
  const value = f => key === "iou" ? Number(f.dataset.iou) : f.dataset[key];
  figures.sort((a, b) => {{
    const x = value(a), y = value(b);
    return x < y ? -way : x > y ? way : Number(a.dataset.iou) - Number(b.dataset.iou);
  }});
  main.append(...figures);
}}
function filter() {{
  const chosen = document.getElementById("class").value, kind = document.getElementById("kind").value;
  for (const f of main.children) {{
    f.hidden = (chosen && f.dataset.class !== chosen) || (kind && !f.dataset.kinds.split(" ").includes(kind));
  }}
}}
document.querySelectorAll("button").forEach(b => b.onclick = () => order(b.dataset.key, Number(b.dataset.way)));
document.querySelectorAll("select").forEach(s => s.onchange = filter);
</script>
</body></html>
"""
FIGURE = """<figure data-iou="{iou:.4f}" data-class="{class_name}" data-kinds="{kinds}">
<figcaption><b>{iou:.1f} %</b> {class_name}, {query} ({kinds})</figcaption>
<a href="{file}"><img loading="lazy" alt="{class_name}, {query}" src="data:image/jpeg;base64,{thumbnail}"></a>
</figure>"""


@dataclass(frozen=True)
class Entry:
    """Picture of one episode on the sheet."""

    file: str
    class_name: str
    iou: float  # in percent
    kinds: list[str]
    query: str
    thumbnail: str  # of ``thumbnail``


def write_sheet(path: Path, title: str, entries: list[Entry]) -> None:
    """Write the page with embedded thumbnails and links to the full pictures beside it.

    Raises:
        WriteError: the disk is full or the folder cannot be written.
    """
    figures = [
        FIGURE.format(
            iou=e.iou,
            class_name=html.escape(e.class_name),
            kinds=" ".join(e.kinds),
            query=html.escape(e.query),
            file=html.escape(e.file),
            thumbnail=e.thumbnail,
        )
        for e in sorted(entries, key=lambda e: e.iou)
    ]
    page = PAGE.format(
        title=html.escape(title),
        count=len(entries),
        classes=_options({e.class_name for e in entries}),
        kinds=_options({k for e in entries for k in e.kinds}),
        figures="\n".join(figures),
    )
    write_atomically(path, page)


def _options(names: set[str]) -> str:
    return "".join(f"<option>{html.escape(name)}</option>" for name in sorted(names))


def thumbnail(picture: np.ndarray) -> str:
    """Return a picture (H, W, 3) uint8 RGB as a small JPEG in base64."""
    scale = min(THUMBNAIL_WIDTH / picture.shape[1], 1)
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, content = cv2.imencode(
        ".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, THUMBNAIL_QUALITY]
    )
    return base64.b64encode(content.tobytes()).decode()
