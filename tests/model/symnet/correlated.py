"""The correlation of one feature map, as a network passes it: supports one by one, then the queries."""

from __future__ import annotations
