"""Tables of scores, as a person reads them."""

from __future__ import annotations

from typing import Any


def text_table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table with aligned columns; the first is left-aligned, the others right-aligned."""
    widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        aligned = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "| " + " | ".join(aligned) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([line(header), rule, *(line(r) for r in rows)])


def score_table(result: dict[str, Any]) -> str:
    """Return the table of a test's result: an output per line, mIoU and FB-IoU as mean (and deviation) over seeds."""
    rows = []
    for name, scores in result["mean"].items():
        cells = [name]
        for key in ("miou", "fb_iou"):
            spread = result["deviation"][name].get(key, 0.0)
            several = f" +- {spread:.2f}" if len(result["seeds"]) > 1 else ""
            cells.append(f"{scores[key]:.2f}{several}" if key in scores else "-")
        rows.append(cells)
    return text_table(["output", "mIoU %", "FB-IoU %"], rows)
