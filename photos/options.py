"""The options of ``predict.py`` as typed fields, grouped by the code that reads them."""

import argparse
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeVar

from photos.prediction import Decision
from photos.results import PICTURES
from photos.segmenter import BATCH
from util.loaded import FINAL

NONE = "none"  # of --adapt
AnyOptions = TypeVar("AnyOptions", bound="SegmenterOptions")


@dataclass(frozen=True, kw_only=True)
class SegmenterOptions:
    """The network, the supports, and how masks are decided; field names are those of the options."""

    checkpoint: str | None = None
    config: str | None = None
    overrides: list[str] = field(default_factory=list)
    device: str | None = None
    resize: int | None = None
    vectors: Path | None = None
    output: str = FINAL
    supports: list[str] = field(default_factory=list)  # --support
    support_files: list[str] = field(default_factory=list)  # --supports
    photos: Path | None = None
    classes: str = ""
    max_shots: int | None = None
    name: str | None = None
    mask_value: int | None = None
    radius: float | None = None
    min_score: float | None = None
    threshold: float | None = None
    min_pixels: int = 0
    refine: bool = True
    tile: int | None = None
    adapt: str = NONE
    keep_base: bool = False

    @property
    def decision(self) -> Decision:
        """The rule of the masks."""
        return Decision(self.min_score, self.threshold, self.min_pixels, self.refine)

    @property
    def reads_annotations(self) -> bool:
        """Whether supports come from annotations of many photos, of which --max-shots takes some."""
        return bool(self.support_files)


@dataclass(frozen=True, kw_only=True)
class PredictOptions(SegmenterOptions):
    """A prediction: the queries and the results."""

    queries: list[Path] = field(default_factory=list)
    recursive: bool = False
    out: Path | None = None
    overwrite: bool = False
    resume: bool = False
    formats: str = PICTURES
    instances: bool = False
    outlines: str = "rle"
    batch: int = BATCH


@dataclass(frozen=True, kw_only=True)
class ServerOptions(SegmenterOptions):
    """A server: the page, or the model of Label Studio."""

    queries: list[Path] = field(default_factory=list)  # which it refuses
    out: Path | None = None
    host: str | None = None
    port: int | None = None


@dataclass(frozen=True, kw_only=True)
class LabelStudioOptions(ServerOptions):
    """The model of a Label Studio server."""

    label_studio: str
    serve: bool = False  # which it refuses
    token: str | None = None
    project: int | None = None

    @property
    def reads_annotations(self) -> bool:
        """Those of the server."""
        return True


def options_of(kind: type[AnyOptions], parsed: argparse.Namespace) -> AnyOptions:
    """Return the options of a kind from a parsed command line, which may lack some."""
    names = {each.name for each in fields(kind)}
    return kind(**{name: value for name, value in vars(parsed).items() if name in names})
