"""The options of ``predict.py``, declared in groups, and the frozen records that a command line fills.

A record is consumed where the command begins: what comes after gets supports, a segmenter or a folder of results.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NoReturn, TypeVar

from annotations import recognise
from annotations.region import classes_in
from photos.photo_files import MIN_TILE
from photos.prediction import Decision
from photos.results import FORMATS, PICTURES, Results
from photos.segmenter import Segmenter
from photos.support_check import check_supports
from photos.supports import MAX_SHOTS, MarkedPhoto, parse_support, read_supports
from util.cli import comma_separated, within
from util.errors import UserError
from util.files.images import check_header
from util.files.palette import IGNORE
from util.loaded import MAX_SIDE

AUTO, NONE = "auto", "none"  # of --adapt
RLE, POLYGONS = "rle", "polygons"  # of --outlines
AnyOptions = TypeVar("AnyOptions")


def options_of(kind: type[AnyOptions], parsed: argparse.Namespace) -> AnyOptions:
    """Return the options of a kind from a parsed command line."""
    return kind(**{field.name: getattr(parsed, field.name) for field in fields(kind)})  # type: ignore[arg-type]


def refuse_option(name: str, needed: str) -> NoReturn:
    """Raise the UserError of an option that has no effect without another."""
    raise UserError(f"--{name.replace('_', '-')}: has no effect without {needed}; leave it out")


@dataclass(frozen=True, kw_only=True)
class SegmenterOptions:
    """The network, and how masks are decided."""

    checkpoint: str | None
    config: str | None
    overrides: list[str]
    device: str | None
    resize: int | None
    tile: int | None
    vectors: Path | None
    keep_base: bool
    min_presence: float | None
    refine: bool
    adapt: str

    @staticmethod
    def add_to(parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        weights = "weights, of this project or of a method's authors; default Pocket's, or those of --config"
        add("--checkpoint", help=weights)
        config = "a YAML file, or words such as 'split0 pascal --model insid3'; default: the config in the checkpoint"
        add("--config", help=config)
        add("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
        add("--device", help="auto, cpu, cuda, cuda:1, mps; default as in the config")
        side = "of the network's input; default as trained"
        add("--resize", type=within(int, 1, MAX_SIDE), metavar="SIDE", help=side)
        add("--vectors", type=Path, metavar="FILE", help="word vectors, for names that are no classes of the data set")
        parser.set_defaults(tile=None, keep_base=False, min_presence=None, refine=True, adapt=AUTO)

    @staticmethod
    def add_rules_to(parser: argparse.ArgumentParser) -> None:
        """Declare the options that an exported network cannot have."""
        add = parser.add_argument
        score = "minimum presence score (0 to 1) of a class that is shown; default the calibration's threshold"
        add("--min-presence", type=within(float, 0, 1), metavar="P", help=score)
        refine = "keep the network's edges, not the photo's"
        add("--no-refine", dest="refine", action="store_false", help=refine)
        add("--tile", type=within(int, MIN_TILE), metavar="SIDE", help="split large photos into overlapping tiles")
        adapt = "auto (default): check three or more examples; an object along the border is a material; none: neither"
        add("--adapt", choices=(AUTO, NONE), help=adapt)
        base = "label the weights' base classes too, in one mask; examples are optional"
        add("--keep-base", action="store_true", help=base)

    def segmenter(self, marked: Sequence[MarkedPhoto], device: str | None = None) -> Segmenter:
        """Return the segmenter of marked photos, on a device where one is named; UserError: as it, or of --vectors."""
        segmenter = Segmenter(
            self.checkpoint,
            marked,
            config=self.config,
            overrides=self.overrides,
            side=self.resize,
            tile=self.tile,
            device=device or self.device,
            vectors=self.vectors,
            decision=Decision(self.min_presence, refine=self.refine),
            keep_base=self.keep_base,
        )
        if self.vectors and not segmenter.model.reads_vectors:
            refuse_option("vectors", "a model that reads text")
        if segmenter.model.note:
            print(segmenter.model.note)
        return segmenter if self.adapt == NONE else check_supports(segmenter, progress=True)


@dataclass(frozen=True, kw_only=True)
class SupportOptions:
    """The marked photos."""

    supports: list[str]  # --support
    support_files: list[str]  # --supports
    photos: Path | None
    classes: tuple[str, ...]
    max_shots: int | None
    mask_value: int | None

    @staticmethod
    def add_to(parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        support = "an example, which is a photo and its annotation: mask.png, outlines.json (labelme, COCO), or "
        support += (
            "box=x0,y0,x1,y1;... points=x,y;... scribble=x,y;... not=x,y;... with spaces between them; repeat it "
        )
        support += "for more examples and classes"
        add("--support", dest="supports", action="append", default=[], metavar="[CLASS=]PHOTO:ANNOTATION", help=support)
        files = "annotations of many photos: JSON of COCO, JSON or folder of labelme, data.yaml or folder of YOLO, "
        files += f"folder of masks; FORMAT is one of {', '.join(recognise.FORMATS)}; repeat it for more"
        add(
            "--supports",
            dest="support_files",
            action="append",
            default=[],
            metavar="[FORMAT:]PATH",
            help=files,
        )
        add("--photos", type=Path, metavar="DIR", help="the photos of --supports, where they lie elsewhere")
        add(
            "--classes",
            type=comma_separated,
            default=(),
            metavar="NAMES",
            help="classes of --supports to take, with commas",
        )
        shots = "examples of a class, of each of --supports"
        add("--max-shots", type=within(int, 1, MAX_SHOTS), metavar="K", help=shots)
        value = "of the object in masks; default all but black"
        add("--mask-value", type=within(int, 1, IGNORE), metavar="V", help=value)

    def read(self) -> tuple[list[MarkedPhoto], dict[int, str]]:
        """Return all marked photos, and the first file's categories.

        UserError: as ``parse_support`` and ``read_supports``, or nothing reads an option.
        """
        marked = [parse_support(text, self.mask_value) for text in self.supports]
        masks = [Path(support.marks) for support in marked if support.kinds == {"mask"}]
        for mask in masks:
            check_header(mask)
        of_files, categories = read_supports(
            self.support_files,
            self.photos,
            classes=self.classes,
            shots=self.max_shots,
            mask_value=self.mask_value,
        )
        marked += of_files
        self._refuse_without_effect(marked)
        for mask in masks if self.mask_value is None else ():
            _note_several_values(mask)
        return marked, categories

    def _refuse_without_effect(self, marked: Sequence[MarkedPhoto]) -> None:
        """Refuse (UserError) an option that nothing reads."""
        has_mask = any("mask" in support.kinds for support in marked)
        for name, has_effect, needed in (
            ("photos", self.support_files, "--supports"),
            ("classes", self.support_files, "--supports"),
            ("max_shots", self.support_files, "--supports or --label-studio"),
            ("mask_value", has_mask, "a mask among the examples"),
        ):
            if getattr(self, name) and not has_effect:
                refuse_option(name, needed)


def _note_several_values(mask: Path) -> None:
    """Print a line on a mask whose values may be of several classes."""
    values = classes_in(mask)
    if len(values) > 1:
        print(f"{mask}: its values {sorted(values)[:5]} are all the object; --mask-value takes one of them")


@dataclass(frozen=True, kw_only=True)
class ResultOptions:
    """The results of a command."""

    out: Path | None
    formats: tuple[str, ...]
    outlines: str
    instances: bool

    @staticmethod
    def add_to(parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        formats = f"results to write, with commas: {', '.join(FORMATS)}; default {PICTURES}"
        add("--format", dest="formats", type=comma_separated, default=(PICTURES,), metavar="NAMES", help=formats)
        add("--instances", action="store_true", help="list the connected parts of a class as objects")
        add("--outlines", choices=(RLE, POLYGONS), default=RLE, help=f"in coco and labelstudio; default {RLE}")

    def results(self, names: Sequence[str], categories: dict[int, str]) -> Results:
        """Return the folder of the results of classes; UserError: none is named, or as ``Results``."""
        if not self.out:
            raise UserError("--out FOLDER is missing: where the results go")
        return Results(
            self.out,
            names,
            self.formats,
            declared=categories,
            polygons=self.outlines == POLYGONS,
            instances=self.instances,
        )


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """The page's server."""

    out: Path | None
    host: str | None
    port: int | None


@dataclass(frozen=True, kw_only=True)
class StudioOptions:
    """The model of a Label Studio server."""

    label_studio: str
    token: str | None
    host: str | None
    port: int | None
    max_shots: int | None
