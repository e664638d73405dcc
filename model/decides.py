"""What a setting decides: ``decides`` in the metadata of its field."""

from enum import IntEnum


class Decides(IntEnum):
    """What differs where a setting does; each decides what those before it do, too."""

    NOTHING = 0  # but where, how fast, and what is shown
    SCORES = 1  # of a test; of weights it decides nothing that their digests do not tell
    WEIGHTS = 2  # that a training leaves; a setting that states nothing is of this kind
    IDENTITY = 3  # which weights a network takes at all
