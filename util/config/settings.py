"""The settings of a run as typed, nested dataclasses: the one home of each default, with its meaning beside it.

A field's ``metadata`` may hold bounds (see ``bounded``), which are checked wherever the value came from. The settings
of a model are a dataclass in its folder.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from model.contract import ModelSettings
from model.decides import Decides
from model.registration import Registry
from model.registry import methods
from util.config.place import RUNS
from util.files.errors import unknown
from util.files.typecheck import Misfit, leads_away, repeated
from util.loop.mask_metrics import METRICS
from util.loop.optim import SCHEDULES
from util.loop.optimizer_kinds import OPTIMIZERS

BINARY = "binary"  # a value of data.mask_form
EPISODE_RULES = ("shuffle", "random", "shuffled_pairs", "class_then_query")  # values of a stage's query
BASE_CLASSES = "base"  # the value of validate_on that takes base classes
DRAWS = {  # published draws -> values of query and supports with which they are published
    "hsnet": (["pairs", "class_then_query"], "with_replacement"),
    "pfenet": (["sequential"], "distinct"),
}
FITTING_LABELS = {  # values of scored_on by those of input
    "letterbox": ["letterbox", "square"],
    "stretch": ["letterbox", "original"],
    "original": ["original"],
}
# A sampler takes an ``ImageList``, the ``EpisodeSampler`` of the settings, a seed and a number, and returns query and
# supports, as rows of the index, with the class between them. A fold rule takes the ``DataSettings`` and returns what
# ``fold_classes`` would list.
# The source of a modality (``Modality`` of model/contract.py) takes the path of a photo and a class id, and returns an
# array (H, W) or (H, W, C) on the pixels of the upright photo.
SAMPLERS = Registry("sampler", "query")
FOLD_RULES = Registry("fold_rule", "data.fold_rule")
MODALITIES = Registry("modality", "data.modalities")


def bounded(
    default: Any,
    low: float | None = None,
    high: float | None = None,
    *,
    length: tuple[int, int | None] | None = None,
    problem: Callable[[Any], str | None] | None = None,
    only: tuple[str, Any] | None = None,
    stage: str | None = None,
    decides: Decides | None = None,
    kind: Registry | None = None,
    of_run: bool = False,
    of_command: bool = False,
) -> Any:
    """Return a dataclass field with a default and inclusive bounds (of each element for lists).

    Args:
        default: the value where none is set.
        low: the least value.
        high: the largest.
        length: the shortest and the longest list (None: any).
        problem: a function that returns in words why a value is impossible, None if it is possible.
        only: (key, value) of the same section beside which alone the setting means something; value True for any that
            is not 0, false or null.
        stage: base or meta, the only one that has the setting.
        decides: see ``Decides``; default what the field of the section does.
        kind: of what the setting names.
        of_run: whether a data setting is the run's, whichever data set it reads.
        of_command: whether every command states the setting anew.
    """
    facts = {
        "length": length,
        "problem": problem,
        "only": only,
        "stage": stage,
        "decides": decides,
        "kind": kind,
        "of_run": of_run or None,
        "of_command": of_command or None,
    }
    given = {name: fact for name, fact in facts.items() if fact is not None}  # readers ask which are there
    metadata = {"low": low, "high": high, **given}
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def named(kind: Registry, default: str, *others: str, stage: str | None = None, decides: Decides | None = None) -> Any:
    """Return the field of a registered name, or of one of ``others``; ``stage`` and ``decides`` as of ``bounded``."""
    problem = partial(unknown, kind, others=others)
    return bounded(default, problem=problem, kind=kind, stage=stage, decides=decides)


def _unknown_modality(sources: dict[str, str]) -> str | None:
    """Say which of the sources of modalities is not registered; None: all are."""
    return next(filter(None, (unknown(MODALITIES, source) for source in sources.values())), None)


@dataclass(frozen=True)
class DataSettings:
    """The data set, the fold, and the size of episodes; lists, ``images`` and ``masks`` are relative to ``root``."""

    # Name of the data set: it stands in results and in names of caches; weights of another data set are refused
    name: str = field(metadata={"problem": leads_away, "decides": Decides.IDENTITY})
    root: str = field(metadata={"decides": Decides.SCORES})
    train_list: str | None = field(metadata={"decides": Decides.SCORES})  # null: a data set for tests
    test_list: str | None = field(metadata={"decides": Decides.SCORES})
    classes: list[str] = field(metadata={"length": (1, None), "decides": Decides.IDENTITY})
    # List of the images that validate the meta stage; null: test_list
    validation_list: str | None = bounded(None, decides=Decides.NOTHING)
    # indices: a mask per image, whose pixels are class ids; binary: one per image and class (util/data/lists/index.py)
    mask_form: Literal["indices", "binary"] = bounded("indices", decides=Decides.SCORES)
    # A name of a list is the photo <images>/<name><image_suffix> and the mask <masks>/<name>.png
    images: str = bounded("JPEGImages", decides=Decides.SCORES)
    masks: str = bounded("SegmentationClassAug", decides=Decides.SCORES)
    image_suffix: str = bounded(".jpg", decides=Decides.SCORES)
    folds: int = bounded(4, 1, decides=Decides.IDENTITY)
    # Classes of fold i of f: contiguous: i n/f + 1 .. (i + 1) n/f; interleaved: i + 1, i + 1 + f, ...; given: those of
    # fold_classes; lists: training and test list say it, each by what it shows
    fold_rule: str = named(FOLD_RULES, "contiguous", decides=Decides.IDENTITY)
    fold_classes: list[list[str]] | None = bounded(None, only=("fold_rule", "given"), decides=Decides.IDENTITY)
    # Number of photos of each class: only classes with more photos than shots are in folds
    class_photos: list[int] | None = bounded(None, 0, only=("fold_rule", "interleaved"))
    fold: int = bounded(0, 0, decides=Decides.IDENTITY)
    rare_classes: Literal["refuse", "skip"] = "refuse"  # a class with too few images: refuse the run, or skip the class
    exclude_novel: bool = True  # drop training images that show any pixel of a novel class (changes mIoU by points)
    min_pixels: int = bounded(2048, 1)  # of the original mask that a class covers in an image where it is present
    size: int = bounded(473, 33, of_run=True)  # side of the square input in pixels
    shot: int = bounded(1, 1, of_run=True, of_command=True)  # K, annotated supports per episode
    # Class-name vectors: initmodel/<text>_<data.name>.pkl or .npz, a path to such a file, `none`, or `names`:
    # deterministic vectors made from the names (no meaning, no file needed)
    text: str = bounded("word2vec", decides=Decides.SCORES, of_run=True)
    # By name the registered sources of what a method reads of each photo beside its colours, such as {depth: kinect}
    modalities: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "problem": _unknown_modality,
            "kind": MODALITIES,
        },
    )
    # Folder of the index of class areas, which is rebuilt when the masks change
    cache: str = bounded("cache", decides=Decides.NOTHING, of_run=True)
    # Loader processes per process, at most one a core; 0 loads in the process itself
    workers: int = bounded(4, 0, decides=Decides.NOTHING, of_run=True)


@dataclass(frozen=True)
class AugmentSettings:
    """Random changes of a training image."""

    # Random factor on the original image's size
    scale: list[float] = bounded(
        [0.9, 1.1],
        0.01,
        100,
        length=(2, 2),
        problem=lambda ends: "must be [least, largest]" if ends[0] > ends[1] else None,
    )
    # Each with a probability of a half: a turn by up to 10 degrees, either way; a 5 x 5 Gaussian blur; left to right
    changes: list[Literal["rotate", "blur", "flip"]] = bounded(["rotate", "blur", "flip"])
    # Redraw the crop until it keeps this share of the target's pixels, at most 31 times
    keep_target: float = bounded(0.0, 0, 1, only=("fit", "crop"), stage="meta")
    # Of an image smaller than the crop: ImageNet's mean colour around it, or black at the right and below
    pad: Literal["mean", "black"] = "mean"
    # How the view becomes square: a random crop, or all of it, aspect not kept; blur and scale then act before it
    fit: Literal["crop", "stretch"] = "crop"


@dataclass(frozen=True)
class OptimizerSettings:
    """One optimiser and its learning-rate schedule."""

    # sgd; nesterov, SGD with Nesterov's momentum; adamw; or one that is registered (util/loop/optimizer_kinds.py)
    kind: str = named(OPTIMIZERS, "sgd")
    lr: float = bounded(0.05, 1e-9)  # each parameter group multiplies it by its factor
    weight_decay: float = bounded(1e-4, 0)
    # poly: lr * (1 - step / steps) ^ 0.9 with steps from 1; cosine: half a wave from lr to 0; step: a tenth after each
    # third of the steps; or one that is registered, which may see the validations (util/loop/optim.py)
    schedule: str = named(SCHEDULES, "poly")
    clip: float | None = bounded(None, 1e-6)  # largest norm of all its gradients together; null: any


@dataclass(frozen=True)
class StageSettings:
    """One training stage: its length, batches (of images in the base stage, else of episodes) and optimisers."""

    optimizers: dict[str, OptimizerSettings]  # `main`, and those that a model names
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    epochs: int = bounded(1, 1)
    epoch_length: int | None = bounded(None, 1)  # images or episodes; null: as many as the training list has
    # How training episodes are drawn: shuffle (the list in a new order each time), random (with
    # replacement), shuffled_pairs (the list's (image, class) pairs in a new order, as many make an epoch),
    # class_then_query (draw a class, then one of its images)
    query: str = named(SAMPLERS, "shuffle", *EPISODE_RULES, stage="meta")
    # with_replacement: one may occur twice
    supports: Literal["distinct", "with_replacement"] = bounded("distinct", stage="meta")
    # A list file of (image, class) pairs in place of the list made from the masks; {fold} in its name is the fold,
    # {others} all other folds, whose files are joined. One below lists/ is published, and taken if all its photos are
    # there
    list_file: str | None = None
    # Images that train and validate the base stage: of the fold, or all, where what is no base class is background
    images: Literal["fold", "all"] = bounded("fold", stage="base")
    # crop: a random view by `augment`; stretch: the whole image, without augmentation
    input: Literal["crop", "stretch"] = bounded("crop", stage="meta")
    batch: int = bounded(8, 1)  # of the whole run, whatever its processes
    accumulate: int = bounded(1, 1)  # split a process's batch into so many parts, gradients added
    ema_decay: float = bounded(0.0, 0, 0.99999)  # of the moving average of weights that is scored; 0: none
    size: int | None = bounded(None, 33)  # side of the square training images in pixels; default data.size
    # Fixed augmented views of each image and class; null: every episode has new ones. A frozen encoder encodes each
    # view once: its maps are kept on disk, as far as there is room (util/train/kept_features.py)
    views: int | None = bounded(None, 1, only=("input", "crop"), stage="meta")
    # Epochs, such as 0.5; 0 = never. The last step is validated in any case
    validate_every: float = bounded(1.0, 0, decides=Decides.NOTHING)
    # After half of an epoch too, but the first
    validate_midway: bool = bounded(False, only=("validate_every", True), decides=Decides.NOTHING)
    # Number of episodes of a validation (base stage: of images)
    validate_episodes: int = bounded(1000, 1, only=("validate_every", True), decides=Decides.NOTHING)
    # null: classes of data.validation_list, else the test list's novel ones (published); base: without a
    # validation_list, base classes in turn, on the test list's images, so that no novel class takes part in the choice
    # of best.pth; or the file of another data set, config/fss1000/fss1000.yaml
    validate_on: str | None = bounded(None, stage="meta", only=("validate_every", True), decides=Decides.NOTHING)
    # Default: the first of the protocol
    validate_seed: int | None = bounded(None, 0, stage="meta", only=("validate_every", True), decides=Decides.NOTHING)
    # Epochs without a better validation, after which a training ends; 0: never
    patience: int = bounded(0, 0, only=("validate_every", True), decides=Decides.NOTHING)


@dataclass(frozen=True)
class ProtocolSettings:
    """The rules of a test, an entry of ``protocols``: choice of episodes, input of the network, and scored labels."""

    # sequential: the test list in order, again from the start when it ends; class drawn among the novel ones in the
    # image (one pixel is enough). random: an image of the list with replacement, class likewise. pairs: the list's
    # (image, class) pairs, min_pixels of the class in each. class_then_query: draw a class, then one of its images.
    # class_in_turn: episode i is of class i mod the number of classes, and one of its images is drawn
    query: str = named(SAMPLERS, "sequential", "sequential", "pairs", "class_then_query", "class_in_turn", "random")
    # distinct: K different images; with_replacement: drawn one by one, one may occur twice. Never the query. first,
    # with query: pairs: the class's first K images in the list's order, which are no queries
    supports: Literal["distinct", "with_replacement", "first"] = "distinct"
    # Whose random numbers choose the episodes. hsnet, pfenet: those of the published runs (util/data/draws.py); on
    # their list (lists/published.yaml) the episodes are the published ones, on others `drawn here`, as every result
    # states. own: those of this project; an episode depends on its number alone
    draw: Literal["own", "hsnet", "pfenet"] = "own"
    # N, classes of an episode that compete with each other and with the background: the drawn one, which the query
    # shows, and N - 1 others of the fold, drawn alike, which it may show or not. Each has K supports, in which pixels
    # of the other ways are ignored. Other classes of the query are background
    ways: int = bounded(1, 1, 254)
    # Episodes of a query that follow each other, each with other supports: the class's candidates in turn, in an order
    # of this query, again in a new order when fewer than K are left
    references: int = bounded(1, 1)
    # A file of (image, class) pairs in place of the list made from the masks; below lists/ a published one. That is
    # taken if it and all its photos are there and its classes are the fold's; otherwise the pairs are made from the
    # masks, with a warning. Every result states which. null: always from the masks
    list_file: str | None = None
    # For each seed; a list has a number for each fold; null, with query: pairs: every pair once
    episodes: int | list[int] | None = bounded(1000, 1)
    seeds: list[int] = bounded([0, 1, 2, 3, 4], 0, length=(1, None), problem=repeated)
    # How the network sees images. letterbox: longer side to `side`, aspect kept, at the top left of a square; stretch:
    # to side x side, aspect not kept; original: nothing resized, one episode at a time
    input: Literal["letterbox", "stretch", "original"] = "letterbox"
    # Pixels; null is data.size. A model that does not take it gets the nearest side it takes (Sym-Net: 8k + 1, 401 for
    # 400) or, where that does not go either, data.size; the score stays on the labels of the entry. A model that takes
    # no images of any size gets its letterbox for `original`, scored on original labels. Every result states the input
    side: int | None = bounded(None, 33)
    smooth: bool = False  # stretch with Pillow's averaging bilinear filter, not plain bilinear
    # letterbox: labels sized like the image; square: logits resized to a square of the longer original side, original
    # label at its top left, 255 elsewhere; original: logits resized to the original H x W
    scored_on: Literal["letterbox", "square", "original"] = "letterbox"

    def number(self, fold: int) -> int | None:
        """Return the number of a fold's episodes; None: every pair once."""
        return self.episodes[fold] if isinstance(self.episodes, list) else self.episodes

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, problem and remedy) for settings of the entry that do not go together."""
        labels = FITTING_LABELS[self.input]
        if self.scored_on not in labels:
            yield "scored_on", f"= {self.scored_on} does not go with input: {self.input}; use {' or '.join(labels)}"
        if self.episodes is None and self.query != "pairs":
            yield "episodes", f"= None does not go with query: {self.query}; give a number"
        if self.side is not None and self.input == "original":
            yield "side", f"= {self.side} has no effect with input: original; leave it null"
        if self.references > 1 and (self.ways, self.draw, self.supports) != (1, "own", "distinct"):
            yield "references", f"= {self.references} needs draw: own, supports: distinct and one way"
        yield from self._problems_of_draw()

    def _problems_of_draw(self) -> Iterator[tuple[str, str]]:
        if self.query in SAMPLERS and (max(self.ways, self.references) > 1 or self.supports == "first"):
            yield "query", f"= {self.query} is a registered sampler: it needs one way, references: 1 and other supports"
        if self.supports == "first" and (self.ways, self.query) != (1, "pairs"):
            yield "supports", "= first needs query: pairs and one way"
        if self.draw in DRAWS:
            queries, supports = DRAWS[self.draw]
            if self.query not in queries or self.supports != supports or self.ways > 1:
                yield (
                    "draw",
                    f"= {self.draw} needs query: {' or '.join(queries)}, supports: {supports} and one way; set draw "
                    "to own",
                )


@dataclass(frozen=True)
class EvaluationSettings:
    """The protocol and the weights of a test; a setting decides its scores unless it says otherwise."""

    protocol: str = bounded("symnet", decides=Decides.SCORES)  # an entry of `protocols`
    # best, last, none (weights as initialised), or a file, also of the authors. Its digest decides, not its name
    checkpoint: str = bounded("best", decides=Decides.NOTHING)
    # Episodes at a time; results do not depend on it. auto: on a GPU as many as memory holds, at most 8; on a CPU 1.
    # Images of their original sizes come one by one
    batch: int | Literal["auto"] = bounded("auto", 1, decides=Decides.NOTHING)
    # GiB of what a process keeps of supports, of a GPU's memory on a GPU, so that none is encoded twice
    store_gib: float = bounded(2.0, 0, decides=Decides.NOTHING)
    # Override the protocol's number for a quick look (marked as such)
    episodes: int | None = bounded(None, 1, decides=Decides.SCORES)
    # Override the protocol's
    seeds: list[int] | None = bounded(None, 0, length=(1, None), problem=repeated, decides=Decides.SCORES)
    # data.name of the weights' data set, where it is another one: a cross-domain test
    trained_on: str | None = bounded(None, decides=Decides.SCORES)
    # boundary_iou, or one of yours (docs/evaluation.md)
    metrics: list[str] = bounded([], decides=Decides.SCORES, kind=METRICS)


@dataclass(frozen=True)
class RunSettings:
    """The device, the folder and the seed of a run."""

    # Runs are kept under <folder>/<name>/{base,meta,test}
    folder: str = bounded(RUNS, decides=Decides.NOTHING, of_command=True)
    # Default: the name of the config file
    name: str | None = bounded(None, problem=leads_away, decides=Decides.NOTHING, of_command=True)
    # Of the base stage; default <folder>/<name>/base. Models may share one
    base_folder: str | None = bounded(None, decides=Decides.NOTHING)
    # auto (a GPU if there is one), cpu, cuda, cuda:1, mps
    device: str = bounded("auto", decides=Decides.NOTHING, of_command=True)
    # Of trainings with their validations, and of tests and predictions.
    # float32: in full, on GPUs too; only this equals published numbers. tf32: convolutions and matrix products round
    # operands to 10 bits on GPUs of compute capability 8 (Ampere) or later: torch's default there, and that of most
    # authors' trainings. bf16, fp16: automatic mixed precision (norms, cosines, softmax stay float32); fp16, with loss
    # scaling, is for older GPUs. null: tf32 in trainings on GPUs that have it, else float32. auto: as null, but bf16 in
    # trainings where it is faster (compute capability 8, AMX, AVX-512 BF16 of AMD). Tests take neither of both
    precision: Literal["float32", "tf32", "bf16", "fp16", "auto"] | None = bounded(None, decides=Decides.WEIGHTS)
    # Operators of a fixed order: a resumed training has equal weights on a GPU; slower
    deterministic: bool = bounded(False, decides=Decides.WEIGHTS)
    seed: int = bounded(321, 0, decides=Decides.WEIGHTS)  # of initial weights, training episodes, augmentation, dropout


def _type_of_model(section: Any) -> type[ModelSettings]:
    """Return the class of a model section's settings; Misfit: no method has the name that the section states."""
    if not isinstance(section, dict):
        return ModelSettings
    known = methods()
    name = section.get("name")
    if problem := unknown(known, str(name)):
        raise Misfit("model.name", f"model.name = {name!r}: {problem}")
    return known[str(name)].Settings


@dataclass(frozen=True)
class Sections:
    """What YAML files may set. ``model`` holds the settings class of the model it names."""

    run: RunSettings = field(metadata={"decides": Decides.NOTHING})  # also a key that is gone
    data: DataSettings
    model: ModelSettings = field(metadata={"type_of": _type_of_model})
    meta_stage: StageSettings
    protocols: dict[str, ProtocolSettings] = field(metadata={"decides": Decides.SCORES})
    test: EvaluationSettings = field(default_factory=EvaluationSettings, metadata={"decides": Decides.SCORES})
    base_stage: StageSettings | None = None  # None for a model without that stage
    # Modules, or files relative to this one (mine.py), that register what a config may name
    imports: list[str] = bounded([], decides=Decides.NOTHING)
    # Registered observers of a training, each with its settings; {}: all that ``imports`` register, with defaults.
    # Checkpoints state settings and code of each; those that may decide are the same when a training continues
    observers: dict[str, Any] = field(default_factory=dict, metadata={"decides": Decides.NOTHING})

    @property
    def crosses_data_sets(self) -> bool:
        """Whether a test is of weights that learnt from another data set."""
        return self.test.trained_on not in (None, self.data.name)

    def stage_size(self, stage: StageSettings) -> int:
        """Return the side in pixels of a stage's training images."""
        return stage.size or self.data.size


@dataclass(frozen=True)
class Config(Sections):
    """The settings of a run, and what they were read from."""

    source: Any = field(default=None, compare=False)  # files and values (``compose.Source``)
    given: list[str] = field(default_factory=list, compare=False)  # the overrides after them

    def with_data(self, **changes: Any) -> "Config":
        """Return the config with some data settings changed, such as the number of shots."""
        return replace(self, data=replace(self.data, **changes))
