"""The kinds of things that a setting decides, by ``decides`` in its field's metadata."""

from enum import IntEnum


class Decides(IntEnum):
    """The results that change with a setting; each value includes those before it."""

    NOTHING = 0  # no result: only folders, speed and what is shown
    SCORES = 1  # scores of a test; it changes weights only if their digest changes, too
    WEIGHTS = 2  # weights after a training; the default of settings without ``decides``
    IDENTITY = 3  # which weights fit the network
