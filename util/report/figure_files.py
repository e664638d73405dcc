"""Files of figures: PNG, and SVG and PDF with vector lines and bars, texts that can be selected and photos as JPEG."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import cv2
import numpy as np

from util.files import write_atomically
from util.report.figure import INK, Bar, Figure, Line, Text
from util.report.pictures import write_png

QUALITY = 95  # of a photo's JPEG
EM = 26  # font size in pixels of a text of scale 1
POINTS = 0.75  # PDF's points in a pixel


def svg(figure: Figure) -> str:
    """Return a figure as SVG."""
    size = f'width="{figure.width}" height="{figure.height}" viewBox="0 0 {figure.width} {figure.height}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="Helvetica, Arial, sans-serif">']
    parts.append('<rect width="100%" height="100%" fill="white"/>')
    for shape in figure.shapes:
        if isinstance(shape, Line):
            points = " ".join(f"{x:.2f},{y:.2f}" for x, y in shape.points)
            look = f'fill="none" stroke="{_hex(shape.colour)}" stroke-width="{shape.width}"'
            parts.append(f'<polyline points="{points}" {look}/>')
        elif isinstance(shape, Bar):
            box = f'x="{shape.left:.2f}" y="{shape.top:.2f}" width="{shape.width:.2f}" height="{shape.height:.2f}"'
            parts.append(f'<rect {box} fill="{_hex(shape.colour)}"/>')
        elif isinstance(shape, Text):
            look = f'font-size="{EM * shape.scale:.1f}" fill="{_hex(INK)}"'
            printable = "".join(c if c.isprintable() else " " for c in shape.text)
            parts.append(f'<text x="{shape.left:.2f}" y="{shape.baseline:.2f}" {look}>{escape(printable)}</text>')
        else:
            height, width = shape.pixels.shape[:2]
            data = base64.b64encode(_jpeg(shape.pixels)).decode()
            box = f'x="{shape.left}" y="{shape.top}" width="{width}" height="{height}"'
            parts.append(f'<image {box} href="data:image/jpeg;base64,{data}"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def pdf(figure: Figure) -> bytes:
    """Return a figure as a PDF of one page; characters beyond Latin-1 become question marks, as in PNGs."""
    drawn: list[str] = [f"{POINTS} 0 0 {POINTS} 0 0 cm"]
    photos: list[np.ndarray] = []
    for shape in figure.shapes:
        if isinstance(shape, Line):
            points = [f"{x:.2f} {figure.height - y:.2f}" for x, y in shape.points]
            path = " ".join(f"{p} {'l' if i else 'm'}" for i, p in enumerate(points))
            drawn.append(f"{_rgb(shape.colour)} RG {shape.width} w {path} S")
        elif isinstance(shape, Bar):
            bottom = figure.height - shape.top - shape.height
            box = f"{shape.left:.2f} {bottom:.2f} {shape.width:.2f} {shape.height:.2f}"
            drawn.append(f"{_rgb(shape.colour)} rg {box} re f")
        elif isinstance(shape, Text):
            at = f"{shape.left:.2f} {figure.height - shape.baseline:.2f}"
            font = f"/F {EM * shape.scale:.1f} Tf"
            drawn.append(f"BT {_rgb(INK)} rg {font} {at} Td <{_latin(shape.text).hex()}> Tj ET")
        else:
            height, width = shape.pixels.shape[:2]
            corner = f"{shape.left} {figure.height - shape.top - height}"
            drawn.append(f"q {width} 0 0 {height} {corner} cm /P{len(photos)} Do Q")
            photos.append(shape.pixels)
    return _document(figure, "\n".join(drawn), photos)


VECTORS: dict[str, Callable[[Figure], str | bytes]] = {"pdf": pdf, "svg": svg}  # by the name of --figures
SUFFIXES = ("png", *VECTORS)  # of a figure's files


def write_figure(path: Path, figure: Figure, vectors: str | None = None) -> np.ndarray:
    """Write ``path.png``, and ``path.pdf`` or ``path.svg`` if ``vectors`` names one; return the pixels of the first.

    Raises:
        WriteError: the disk is full or the folder cannot be written.
    """
    pixels = figure.pixels()
    write_png(path.with_name(f"{path.name}.png"), pixels)
    if vectors is not None:
        write_atomically(path.with_name(f"{path.name}.{vectors}"), VECTORS[vectors](figure))
    return pixels


def _document(figure: Figure, drawn: str, photos: list[np.ndarray]) -> bytes:
    """Return the file of one page, of its content and its photos."""
    first = 6  # number of the first photo's object
    names = " ".join(f"/P{i} {first + i} 0 R" for i in range(len(photos)))
    box = f"[0 0 {figure.width * POINTS:.2f} {figure.height * POINTS:.2f}]"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox {box} /Contents 4 0 R "
        f"/Resources << /Font << /F 5 0 R >> /XObject << {names} >> >> >>".encode(),
        _stream("/Filter /FlateDecode", zlib.compress(drawn.encode("ascii"))),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for pixels in photos:
        height, width = pixels.shape[:2]
        kind = f"/Type /XObject /Subtype /Image /Width {width} /Height {height} /BitsPerComponent 8"
        objects.append(_stream(f"{kind} /ColorSpace /DeviceRGB /Filter /DCTDecode", _jpeg(pixels)))
    out, places = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    trailer = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    return out + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{trailer}".encode()


def _stream(entries: str, content: bytes) -> bytes:
    return b"<< %s /Length %d >>\nstream\n%s\nendstream" % (entries.encode(), len(content), content)


def _jpeg(pixels: np.ndarray) -> bytes:
    _, content = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return content.tobytes()


def _latin(text: str) -> bytes:
    return "".join(c if c.isprintable() else " " for c in text).encode("cp1252", "replace")


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{value:02x}" for value in colour)


def _rgb(colour: tuple[int, int, int]) -> str:
    return " ".join(f"{value / 255:.3f}" for value in colour)
