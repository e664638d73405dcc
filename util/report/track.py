"""Tracks: the data that a method learnt from. Numbers of one protocol but of different tracks are not comparable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from util.data.words.text import NO_TEXT

NOT_STATED = "not stated"
IN_DOMAIN, NO_TRAINING = "in-domain", "none"  # values of ``Track.training`` beside names of data sets
REMOVED, KEPT = "removed", "kept"


@dataclass(frozen=True)
class Track:
    """The data that a result's method learnt from; None: not known.

    Attributes:
        encoder_data: the data that its encoder's first weights were trained on; '' without an encoder.
        text: whether class names, or vectors of them, were read.
        training: ``IN_DOMAIN`` (base classes of the tested data set), ``NO_TRAINING``, or another data set's name.
        novel_photos: whether photos that show novel classes were ``REMOVED`` from training or ``KEPT``.
        train_shot: the number of shots of its training.
    """

    encoder_data: str | None = None
    text: bool | None = None
    training: str | None = None
    novel_photos: str | None = None
    train_shot: int | None = None

    def words(self) -> str:
        """Return the track in words, but for the number of shots."""
        parts = [] if self.encoder_data == "" else [f"encoder's data: {self.encoder_data or NOT_STATED}"]
        parts.append("text: " + (NOT_STATED if self.text is None else "read" if self.text else "none"))
        parts.append(f"training: {self.training or NOT_STATED}")
        if self.training in (None, IN_DOMAIN):
            parts.append(f"photos of novel classes: {self.novel_photos or NOT_STATED}")
        return "; ".join(parts)


def track_of(result: dict[str, Any]) -> Track:
    """Return the track of a result; results that were written before tracks state the text alone."""
    given = result.get("track")
    return Track(text=False if result["text"] == NO_TEXT else None) if given is None else Track(**given)


def in_words(tracks: Mapping[int, Track]) -> str:
    """Return the tracks of a row, number of test shots -> track, in words."""
    words = {shot: track.words() for shot, track in tracks.items()}
    whole = "; ".join(dict.fromkeys(words.values()))
    if len(set(words.values())) > 1:
        whole = "; ".join(f"{shot}-shot: {text}" for shot, text in words.items())
    reused = [f"{n}-shot by weights of {t.train_shot} shot" for n, t in tracks.items() if t.train_shot not in (None, n)]
    return "; ".join([whole, *reused])
