"""Everything around the networks: settings, data, the engine that trains and tests, and reports."""

from util import packages  # noqa: F401  which looks whether they are there
