"""The settings of a run as typed, nested dataclasses; ``config/default.yaml`` explains each key.

A field's ``metadata`` may hold bounds (see ``bounded``), which are checked wherever the value came from.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from model.common.adaptation import SETTINGS
from model.contract import ModelSettings

PLAIN_SCALES = [1.0]
EDGES = "edges"
BINARY = "binary"  # a value of data.mask_form
HELD_OUT = "base"  # the value of validate_on that takes base classes
IRRELEVANT = ("cache", "workers", "decoded_gib", "validation_list")  # data settings that do not affect scores
MASKS = "masks"  # the value of test.fuse that uses every support alone


def bounded(default: Any, low: float | None = None, high: float | None = None, **others: Any) -> Any:
    """Return a dataclass field with a default and inclusive bounds (of each element for lists).

    Args:
        others: ``length``: shortest and longest list (None: any); ``problem``: a function that returns in words why a
            value is impossible, None if it is possible; ``only``: (key, value) of the same section beside which alone
            the setting means something, value True for any that is not 0, false or null.
    """
    metadata = {"low": low, "high": high, **others}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def _repeated(values: list[int] | None) -> str | None:
    """Return in words that a list holds a value twice."""
    twice = next((value for i, value in enumerate(values or ()) if value in (values or ())[:i]), None)
    return None if twice is None else f"holds {twice} twice; repeated episodes are no further measurement"


def _leads_away(name: str | None) -> str | None:
    """Return in words that a name would lead out of the folder that it names a folder or file in."""
    return None if name is None or not {"", ".", ".."} & {*name.split("/")} else "must be a name, not a path"


@dataclass(frozen=True)
class DataSettings:
    """The data set, the fold, and the size of episodes."""

    name: str = field(metadata={"problem": _leads_away})
    root: str
    train_list: str | None
    test_list: str | None
    classes: list[str] = field(metadata={"length": (1, None)})
    validation_list: str | None = None
    mask_form: Literal["indices", "binary"] = "indices"
    images: str = "JPEGImages"
    masks: str = "SegmentationClassAug"
    image_suffix: str = ".jpg"
    mask_suffix: str = ".png"
    folds: int = bounded(4, 1)
    fold_rule: Literal["contiguous", "interleaved", "given", "lists"] = "contiguous"
    fold_classes: list[list[str]] | None = bounded(None, only=("fold_rule", "given"))
    class_photos: list[int] | None = bounded(None, 0, only=("fold_rule", "interleaved"))
    fold: int = bounded(0, 0)
    rare_classes: Literal["refuse", "skip"] = "refuse"
    train_fold_list: str | None = None
    test_fold_list: str | None = None
    exclude_novel: bool = True
    min_pixels: int = bounded(2048, 1)
    size: int = bounded(473, 33)
    shot: int = bounded(1, 1)
    text: str = "word2vec"
    text_dir: str = "initmodel"
    cache: str = "cache"
    decoded_gib: float = bounded(8.0, 0)
    workers: int = bounded(4, 0)


@dataclass(frozen=True)
class AugmentSettings:
    """Random changes of a training image."""

    scale: list[float] = bounded([0.9, 1.1], 0.01, length=(2, 2))
    rotate: float = bounded(10.0, 0, 180)
    rotate_probability: float = bounded(0.5, 0, 1)
    blur_probability: float = bounded(0.5, 0, 1)
    flip_probability: float = bounded(0.5, 0, 1)
    keep_target: float = bounded(0.0, 0, 1, only=("fit", "crop"))
    keep_tries: int = bounded(30, 1, only=("keep_target", True))
    pad: Literal["mean", "black"] = "mean"
    pad_at: Literal["around", "end"] = bounded("around", only=("fit", "crop"))
    fit: Literal["crop", "stretch"] = "crop"


@dataclass(frozen=True)
class OptimizerSettings:
    """One optimiser and its learning-rate schedule."""

    kind: Literal["sgd", "adamw"] = "sgd"
    lr: float = bounded(0.05, 0)
    momentum: float = bounded(0.9, 0, 1, only=("kind", "sgd"))
    nesterov: bool = bounded(False, only=("kind", "sgd"))
    betas: list[float] = bounded([0.9, 0.999], 0, 1, length=(2, 2), only=("kind", "adamw"))
    weight_decay: float = bounded(1e-4, 0)
    schedule: Literal["poly", "constant", "step"] = "poly"
    power: float = bounded(0.9, 0, only=("schedule", "poly"))
    milestones: list[float] = bounded([], 0, 1, only=("schedule", "step"))
    decay: float = bounded(0.1, 0, 1, only=("schedule", "step"))


@dataclass(frozen=True)
class StageSettings:
    """One training stage: its length, batches and optimisers."""

    optimizers: dict[str, OptimizerSettings]
    augment: AugmentSettings
    epochs: int = bounded(1, 1)
    epoch_length: int | None = bounded(None, 1)
    query: Literal["shuffle", "random", "shuffled_pairs", "class_then_query"] = "shuffle"
    supports: Literal["distinct", "with_replacement"] = "distinct"
    list_file: str | None = None
    images: Literal["fold", "all"] = "fold"
    input: Literal["crop", "stretch"] = "crop"
    batch: int = bounded(8, 1)
    batch_per: Literal["run", "process"] = "run"
    accumulate: int = bounded(1, 1)
    clip_grad_norm: float | None = bounded(None, 1e-6)
    ema_decay: float = bounded(0.0, 0, 0.99999)
    size: int | None = bounded(None, 33)
    views: int | None = bounded(None, 1, only=("input", "crop"))
    cache_gib: float | None = bounded(None, 0)
    validate_every: float = bounded(1.0, 0)
    validate_midway: bool = bounded(False, only=("validate_every", True))
    validate_episodes: int = bounded(1000, 1)
    validate_on: str | None = None
    validate_seed: int | None = bounded(None, 0)
    patience: int = bounded(0, 0, only=("validate_every", True))
    save_minutes: float = bounded(10.0, 0)
    log_steps: int = bounded(20, 1)
    typical_epochs: int | None = bounded(None, 1)

    @property
    def counted(self) -> int:
        """The epochs that a dry run counts."""
        return min(self.epochs, self.typical_epochs or self.epochs)


@dataclass(frozen=True)
class ProtocolSettings:
    """The rules of a test: choice of episodes, input of the network, and scored labels."""

    query: Literal["sequential", "pairs", "class_then_query", "class_in_turn", "random", "every"] = "sequential"
    supports: Literal["distinct", "with_replacement", "first", "published"] = "distinct"
    support_pixels: int | None = bounded(None, 1, only=("query", "every"))
    ways: int = bounded(1, 1, 254)
    absent: float = bounded(0.0, 0, 1)
    list_file: str | None = None
    episodes: int | list[int] | None = bounded(1000, 1)
    seeds: list[int] = bounded([0, 1, 2, 3, 4], 0, length=(1, None), problem=_repeated)
    input: Literal["letterbox", "stretch", "original"] = "letterbox"
    side: int | None = bounded(None, 33)
    smooth: bool = False
    scored_on: Literal["letterbox", "square", "original"] = "letterbox"

    def number(self, fold: int) -> int | None:
        """Return the number of a fold's episodes; None: every pair once."""
        return self.episodes[fold] if isinstance(self.episodes, list) else self.episodes

    @property
    def generalised(self) -> bool:
        """Whether base and novel classes are labelled in one map."""
        return self.query == "every"

    def problem(self) -> tuple[str, str] | None:
        """Return (key, problem and remedy in words) if two settings of the entry do not go together."""
        allowed = {"letterbox": ["letterbox", "square"], "stretch": ["letterbox", "original"], "original": ["original"]}
        if self.scored_on not in allowed[self.input]:
            fitting = " or ".join(allowed[self.input])
            return "scored_on", f"= {self.scored_on} does not go with input: {self.input}; use {fitting}"
        if self.absent > 0 and self.ways > 1:
            return "absent", f"= {self.absent:g} does not go with ways: {self.ways}; use one way, or set absent to 0"
        plain = self.scored_on == "letterbox" == self.input and self.ways == 1 and self.absent == 0
        if self.generalised and not (plain and self.supports != "with_replacement"):
            return (
                "query",
                "= every goes with letterboxed labels, one way, absent 0, and supports distinct or published",
            )
        if self.supports == "first" and (self.query != "pairs" or self.ways > 1 or self.absent > 0):
            return "supports", "= first goes with query: pairs, one way and absent 0"
        if not isinstance(self.episodes, int) and (
            self.generalised or (self.episodes is None and self.query != "pairs")
        ):
            return "episodes", f"= {self.episodes} does not go with query: {self.query}; give a number"
        if self.supports == "published" and not self.generalised:
            return "supports", "= published goes with query: every alone; use distinct"
        if self.input == "original" and self.side is not None:
            return "side", f"= {self.side} means nothing with input: original; leave it null"
        return None


@dataclass(frozen=True)
class TestSettings:
    """The protocol and the weights of a test."""

    __test__ = False  # not a test case, whatever pytest thinks of the name

    protocol: str = "symnet"
    checkpoint: str = "best"
    batch: int = bounded(1, 1)
    episodes: int | None = bounded(None, 1)
    seeds: list[int] | None = bounded(None, 0, length=(1, None), problem=_repeated)
    pictures: int = bounded(8, 0)
    cache_gib: float | Literal["auto"] = bounded("auto", 0)
    flip: bool = False
    scales: list[float] = bounded(PLAIN_SCALES, 0.25, 4, length=(1, 9))
    fuse: Literal["features", "masks"] = "features"
    adapt: Literal["encoder"] | None = None
    edges: bool = False
    allow_fold_mismatch: bool = False
    trained_on: str | None = None
    data_sets: list[str] | None = None
    metrics: list[str] = field(default_factory=list)

    def averaged(self, shots: int) -> list[str]:
        """Return in words all steps of a test beyond the protocol's one pass of K shots; [] if there are none.

        The masks of a single support are those of the protocol itself.
        """
        scales = "scales " + " ".join(f"{factor:g}" for factor in self.scales)
        asked = {"flip": self.flip, scales: self.scales != PLAIN_SCALES, MASKS: self.fuse == MASKS and shots > 1}
        asked |= {str(SETTINGS): self.adapt is not None, EDGES: self.edges}
        return [words for words, wanted in asked.items() if wanted]

    def passes(self, shots: int) -> int:
        """Return how often the network runs for an episode of K shots."""
        return (1 + self.flip) * len(self.scales) * (shots if self.fuse == MASKS else 1)


@dataclass(frozen=True)
class RunSettings:
    """The device, the folder and the seed of a run."""

    folder: str = "runs"
    name: str | None = bounded(None, problem=_leads_away)
    base_folder: str | None = None
    device: str = "auto"
    precision: Literal["float32", "tf32", "bf16", "fp16", "auto"] = "float32"
    compile: bool = False
    deterministic: bool = False
    seed: int = bounded(321, 0)
    loggers: list[Literal["tensorboard", "wandb"]] = field(default_factory=lambda: ["tensorboard"])


@dataclass(frozen=True)
class Config:
    """The settings of one YAML file. ``model`` holds the settings class of the model it names."""

    run: RunSettings
    data: DataSettings
    model: ModelSettings
    meta_stage: StageSettings
    test: TestSettings
    protocols: dict[str, ProtocolSettings]
    base_stage: StageSettings | None = None  # None for a model without that stage

    path: str = field(default="", compare=False)  # the file it was read from; not a setting
    given: list[str] = field(default_factory=list, compare=False)  # the overrides after it; not a setting

    def stage_size(self, stage: StageSettings) -> int:
        """Return the side in pixels of a stage's training images."""
        return stage.size or self.data.size
