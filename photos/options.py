"""The options of ``predict.py``: each group is declared to a parser, and is one frozen value behind it.

A command names the groups that it reads, so that the parser refuses all others.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from annotations import recognise
from annotations.mask_images import check_header
from annotations.masks import names_in
from annotations.region import classes_in
from photos.example_files import MAX_SHOTS, read_examples
from photos.examples import Example, parse_example
from photos.photo_files import photos_in
from photos.prediction import Decision
from photos.results import FORMATS, PICTURES
from photos.segmenter import Segmenter
from util.cli import Parser, comma_separated, within
from util.engine import MAX_SIDE
from util.files.errors import UserError
from util.files.palette import IGNORE

RLE, POLYGONS = "rle", "polygons"  # of --outlines


class Group:
    """A group of options; a subclass is a dataclass whose fields are their names in the parser."""

    @classmethod
    def declare(cls, parser: argparse.ArgumentParser) -> None:
        """Declare the options to a parser."""

    @classmethod
    def of(cls, parsed: argparse.Namespace) -> Self:
        """Return the values that a parser has found."""
        return cls(**{field.name: getattr(parsed, field.name) for field in fields(cls)})  # type: ignore[arg-type]


def parsed(program: str, description: str, arguments: Sequence[str], *groups: type[Group]) -> tuple[Any, ...]:
    """Return the arguments of a program as the values of each group; UserError: they do not fit."""
    parser = Parser(prog=program, description=description)
    for group in groups:
        group.declare(parser)
    found = parser.parse_args(arguments)
    return tuple(group.of(found) for group in groups)


def refusal_of(name: str, needed: str) -> UserError:
    """Return the error of an option that has no effect without another."""
    return UserError(f"--{name}: has no effect without {needed}; leave it out")


@dataclass(frozen=True)
class WeightsOptions(Group):
    """The weights, and how the network computes."""

    checkpoint: str | None
    overrides: Sequence[str]
    device: str | None
    side: int | None

    @classmethod
    def declare(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        checkpoint = "weights by this project or by a method's authors; default: Pocket's, or those that --config "
        add("--checkpoint", help=checkpoint + "states")
        setting = "change a setting of the config, such as run.precision=bf16; repeat it for more"
        add("--set", dest="overrides", action="append", default=[], metavar="section.key=value", help=setting)
        add("--device", help="auto, cpu, cuda, cuda:1, mps; default as in the config")
        side = "side of the network's square input in pixels; default as trained"
        add("--resize", dest="side", type=within(int, 1, MAX_SIDE), metavar="SIDE", help=side)


@dataclass(frozen=True)
class NetworkOptions(WeightsOptions):
    """The network that segments, and how its masks are decided."""

    config: str | None
    model: str | None
    net: str | None
    vectors: Path | None
    min_presence: float | None
    refine: bool

    @classmethod
    def declare(cls, parser: argparse.ArgumentParser) -> None:
        super().declare(parser)
        add = parser.add_argument
        config = "a YAML file, or words such as 'split0 pascal --model insid3'; default: the config in the checkpoint"
        add("--config", help=config)
        method = "a method instead of --config: insid3, multiprototype, probe and prototype need no training, nor "
        method += "gfsam, which downloads 3.8 GB; python train.py --list prints all"
        add("--model", help=method)
        add("--net", help="encoder of --model, such as dinov2_vits14; default lite0, whose weights are installed")
        add("--vectors", type=Path, metavar="FILE", help="word vectors for classes that the data set lacks")
        score = "show no mask of a class whose presence score (0 to 1) is lower; default: the calibration's threshold"
        add("--min-presence", type=within(float, 0, 1), metavar="P", help=score)
        refine = "keep the network's mask edges instead of moving them to the photo's edges"
        add("--no-refine", dest="refine", action="store_false", help=refine)

    def _config(self) -> str | None:
        """Return --config, or the words that --model and --net stand for; UserError: both are given."""
        if self.net and not self.model:
            raise refusal_of("net", "--model")
        if not self.model:
            return self.config
        if self.config:
            raise UserError(f"--config: cannot be used with --model {self.model}; leave one of them out")
        encoder = f" --net {self.net}" if self.net else ""
        return f"split0 pascal --model {self.model}{encoder}"

    def segmenter(self, examples: Sequence[Example]) -> Segmenter:
        """Return the segmenter of examples; UserError: as it, or of --vectors."""
        segmenter = Segmenter(
            self.checkpoint,
            examples,
            config=self._config(),
            overrides=self.overrides,
            side=self.side,
            device=self.device,
            vectors=self.vectors,
            decision=Decision(self.min_presence, refine=self.refine),
        )
        if self.vectors and not segmenter.model.reads_vectors:
            raise refusal_of("vectors", "a model that reads text")
        if segmenter.model.note:
            print(segmenter.model.note)
        return segmenter


@dataclass(frozen=True)
class ExampleOptions(Group):
    """The annotated photos."""

    supports: Sequence[str]
    files: Sequence[str]
    photos: Path | None
    classes: Sequence[str]
    max_shots: int | None
    mask_value: int | None

    @classmethod
    def declare(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        example = "an example, which is a photo and its annotation: mask.png, outlines.json (labelme, COCO), or "
        example += "box=x0,y0,x1,y1;... points=x,y;... scribble=x,y;... not=x,y;... with spaces between them; repeat "
        example += "it for more examples and classes"
        form = "[CLASS=]PHOTO:ANNOTATION"
        add("--support", dest="supports", action="append", default=[], metavar=form, help=example)
        files = "annotations of many photos: JSON of COCO, JSON or folder of labelme, data.yaml or folder of YOLO, "
        files += f"folder of masks; FORMAT is one of {', '.join(recognise.FORMATS)}; repeat it for more"
        add("--supports", dest="files", action="append", default=[], metavar="[FORMAT:]PATH", help=files)
        add("--photos", type=Path, metavar="DIR", help="folder of the photos of --supports, if they are elsewhere")
        names = "use only these classes of --supports: cat,dog or names.txt with a name per line"
        add("--classes", type=_class_names, default=(), metavar="NAMES", help=names)
        shots = "use at most K examples of a class from each --supports"
        add("--max-shots", type=within(int, 1, MAX_SHOTS), metavar="K", help=shots)
        value = "the object's value in masks; default: every value but 0 and black"
        add("--mask-value", type=within(int, 1, IGNORE), metavar="V", help=value)

    def read(self) -> tuple[list[Example], dict[int, str]]:
        """Return all examples, and the first file's categories.

        UserError: as ``parse_example`` and ``read_examples``, or nothing reads an option.
        """
        self._refuse_without_files()
        examples = [parse_example(text, self.mask_value) for text in self.supports]
        masks = [example.mask for example in examples if example.mask is not None]
        for mask in masks:
            check_header(mask)
        of_files, categories = read_examples(
            self.files, self.photos, classes=self.classes, shots=self.max_shots, mask_value=self.mask_value
        )
        examples += of_files
        if self.mask_value is None:
            for mask in masks:
                _note_several_values(mask)
        elif all(example.mask is None for example in examples):
            raise refusal_of("mask-value", "a mask among the examples")
        return examples, categories

    def _refuse_without_files(self) -> None:
        """Refuse (UserError) options of files of annotations where no such file is named."""
        options = {"photos": self.photos, "classes": self.classes, "max-shots": self.max_shots}
        for name, value in options.items():
            if value and not self.files:
                raise refusal_of(name, "--supports")


def _class_names(text: str) -> tuple[str, ...]:
    return tuple(names_in(Path(text)).classes.values())


def _note_several_values(mask: Path) -> None:
    """Print a line on a mask whose values may be of several classes."""
    values = classes_in(mask)
    if len(values) > 1:
        print(f"{mask}: the object is all of its values, {sorted(values)[:5]}; --mask-value V takes one of them")


@dataclass(frozen=True)
class PhotoOptions(Group):
    """The photos to segment, and the folder of what becomes of them."""

    queries: Sequence[Path]
    recursive: bool
    out: Path | None

    @classmethod
    def declare(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        photos = "photos to segment, or folders of photos"
        add("--query", dest="queries", nargs="+", type=Path, default=[], metavar="PHOTO", help=photos)
        add("--recursive", action="store_true", help="also take photos in subfolders")
        add("--out", type=Path, help="folder for results, or for the page's work")

    def found(self) -> list[Path]:
        """Return the photos; errors as ``photos_in``."""
        return photos_in(self.queries, self.recursive)


@dataclass(frozen=True)
class OutputOptions(PhotoOptions):
    """The photos to segment, and their results."""

    overwrite: bool
    resume: bool
    formats: Sequence[str]
    instances: bool
    outlines: str

    @classmethod
    def declare(cls, parser: argparse.ArgumentParser) -> None:
        super().declare(parser)
        existing = parser.add_mutually_exclusive_group()
        existing.add_argument("--overwrite", action="store_true", help="overwrite existing results")
        resume = "keep complete results of the same command, make the others"
        existing.add_argument("--resume", action="store_true", help=resume)
        add = parser.add_argument
        formats = f"formats of results, separated by commas: {', '.join(FORMATS)}; default {PICTURES}"
        add("--format", dest="formats", type=comma_separated, default=(PICTURES,), metavar="NAMES", help=formats)
        add("--instances", action="store_true", help="list the connected parts of a class as objects")
        form = f"form of masks in coco; default {RLE}"
        add("--outlines", choices=(RLE, POLYGONS), default=RLE, help=form)


@dataclass(frozen=True)
class PageOptions(PhotoOptions):
    """The photos that the page opens, and its address."""

    port: int

    @classmethod
    def declare(cls, parser: argparse.ArgumentParser) -> None:
        super().declare(parser)
        port = "port of the page; default %(default)s"
        parser.add_argument("--port", type=within(int, 1, 2**16 - 1), default=7860, help=port)
