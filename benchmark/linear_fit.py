"""Linear fits of measured costs: the cost of each further unit, with its 95 % interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

CONFIDENCE = 0.95
LEAST = 3  # measurements, with which an interval exists
HEADER = ["against", "at 0", "for each further one", "95 % interval", "explained %"]


class LinearFit(NamedTuple):
    """The least-squares line through measurements, ``start + slope x``."""

    start: float
    slope: float
    low: float  # of the slope's interval, by Student's t
    high: float
    explained: float  # share of the variance, R squared

    def line(self, name: str) -> list[str]:
        """Return a line of the table below ``HEADER``."""
        interval = f"{self.low:.3g} to {self.high:.3g}"
        return [name, f"{self.start:.3g}", f"{self.slope:.3g}", interval, f"{100 * self.explained:.1f}"]


def linear_fit(measured: Mapping[float, Sequence[float]]) -> LinearFit | None:
    """Return the line through all measurements at each x; None with fewer than two x or three measurements."""
    pairs = [(x, value) for x, values in measured.items() for value in values]
    if len(measured) < 2 or len(pairs) < LEAST:
        return None
    from scipy.stats import linregress, t

    x, y = zip(*pairs)
    found = linregress(x, y)
    reach = float(t.ppf((1 + CONFIDENCE) / 2, len(pairs) - 2)) * float(found.stderr)
    slope = float(found.slope)
    return LinearFit(float(found.intercept), slope, slope - reach, slope + reach, float(found.rvalue) ** 2)
