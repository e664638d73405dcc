"""Each setting states in its field's metadata, as ``decides``, whether it decides scores, weights or neither."""

from enum import IntEnum


class Decides(IntEnum):
    """The results that differ where a setting does; each value includes those before it."""

    NOTHING = 0  # but where, how fast, and what is shown
    SCORES = 1  # of a test; of weights it decides nothing that their digests do not tell
    WEIGHTS = 2  # that a training leaves; a setting that states nothing is of this kind
    IDENTITY = 3  # which weights a network takes at all
