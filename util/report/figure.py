"""Figures: lines, bars, texts and photos at places in pixels, drawn as pixels here, as files in ``figure_files.py``."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

Colour = tuple[int, int, int]  # RGB
Point = tuple[float, float]  # across, down
FONT, TEXT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.5
INK, WHITE = (30, 30, 30), 255


@dataclass(frozen=True)
class Line:
    """A line through points."""

    points: list[Point]
    colour: Colour
    width: int


@dataclass(frozen=True)
class Bar:
    """A filled rectangle."""

    left: float
    top: float
    width: float
    height: float
    colour: Colour


@dataclass(frozen=True)
class Text:
    """A text whose baseline begins at a point; ``scale`` 1 has capitals of 22 pixels."""

    text: str
    left: float
    baseline: float
    scale: float


@dataclass(frozen=True)
class Photo:
    """A picture (H, W, 3) uint8 RGB at its own size."""

    left: int
    top: int
    pixels: np.ndarray


@dataclass
class Figure:
    """Shapes on white, later ones on top; ``width`` and ``height`` are pixels."""

    width: int
    height: int
    shapes: list[Line | Bar | Text | Photo] = field(default_factory=list)

    def line(self, points: list[Point], colour: Colour, width: int = 1) -> None:
        """Add a line."""
        self.shapes.append(Line(points, colour, width))

    def bar(self, left: float, top: float, width: float, height: float, colour: Colour) -> None:
        """Add a filled rectangle."""
        self.shapes.append(Bar(left, top, width, height, colour))

    def text(self, text: str, left: float, baseline: float, scale: float = TEXT_SCALE) -> None:
        """Add a text."""
        self.shapes.append(Text(text, left, baseline, scale))

    def photo(self, left: int, top: int, pixels: np.ndarray) -> None:
        """Add a picture (H, W, 3) uint8 RGB."""
        self.shapes.append(Photo(left, top, pixels))

    def add(self, other: Figure, top: int) -> None:
        """Add the shapes of a figure of photos and texts, moved down."""
        for shape in other.shapes:
            if isinstance(shape, Photo):
                self.photo(shape.left, shape.top + top, shape.pixels)
            elif isinstance(shape, Text):
                self.text(shape.text, shape.left, shape.baseline + top, shape.scale)

    def pixels(self) -> np.ndarray:
        """Return the figure as an RGB image (height, width, 3) uint8."""
        out = np.full((self.height, self.width, 3), WHITE, np.uint8)
        for shape in self.shapes:
            if isinstance(shape, Line):
                points = np.array(shape.points).round().astype(np.int32)
                cv2.polylines(out, [points], False, shape.colour, shape.width, cv2.LINE_AA)
            elif isinstance(shape, Bar):
                corner = round(shape.left + shape.width), round(shape.top + shape.height)
                cv2.rectangle(out, (round(shape.left), round(shape.top)), corner, shape.colour, -1)
            elif isinstance(shape, Text):
                at = round(shape.left), round(shape.baseline)
                cv2.putText(out, shape.text, at, FONT, shape.scale, INK, 1, cv2.LINE_AA)
            else:
                height, width = shape.pixels.shape[:2]
                out[shape.top : shape.top + height, shape.left : shape.left + width] = shape.pixels
        return out


def text_width(text: str, scale: float = TEXT_SCALE) -> int:
    """Return the width of a text in pixels."""
    return cv2.getTextSize(text, FONT, scale, 1)[0][0]
