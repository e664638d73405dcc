"""From a config to the things a run is made of: model with its weights, lists, data sets."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.contract import FewShotModel, Task
from model.registry import class_of
from util.config.read import to_dict
from util.config.settings import MASKS, AugmentSettings, Config, ProtocolSettings
from util.data import text
from util.data.datasets import EpisodeDataset, LabelledDataset, Sampler, TrialDataset
from util.data.decoded import with_decoded_images
from util.data.folds import Fold
from util.data.index import load_index
from util.data.lists import ImageList, base_validation_list, check_shots, test_list, train_list
from util.data.sampling import EpisodeSampler
from util.data.views import STRETCH, View
from util.engine import checkpoint
from util.engine.input_size import scored_on, training_view
from util.errors import UserError

log = logging.getLogger("symnet")


@dataclass
class RunContext:
    """What both stages and the test share: the config, its fold, its model class and text vectors."""

    config: Config
    fold: Fold
    model_class: type[FewShotModel]
    vectors: np.ndarray | None

    @property
    def text_digest(self) -> str | None:
        """A digest of the text vectors, None for a model that reads none."""
        return None if self.vectors is None else hashlib.sha256(self.vectors.tobytes()).hexdigest()

    def train_images(self, progress: bool = True) -> ImageList:
        """Return the fold's training list, with a cache of decoded images if the settings allow it."""
        data = self.config.data
        index = with_decoded_images(load_index(data, "train", progress), data, data.train_list, progress)
        return self._told(train_list(index, self.fold, data))

    def test_images(self, progress: bool = True) -> ImageList:
        """Return the fold's test list."""
        return self._told(test_list(load_index(self.config.data, "test", progress), self.fold, self.config.data))

    def _told(self, images: ImageList) -> ImageList:
        """Say which classes a list leaves out."""
        if images.left_out:
            names = ", ".join(self.config.data.classes[c - 1] for c in images.left_out)
            log.info("left out, with too few images: %s", names)
        return images

    def base_validation_images(self, progress: bool = True) -> ImageList:
        """Return the images that validate the base stage."""
        return base_validation_list(load_index(self.config.data, "test", progress), self.fold, self.config.data)

    def training_episodes(self, images: ImageList) -> EpisodeDataset:
        """Return the meta stage's episodes by number, drawn and sized as the stage says."""
        config, stage = self.config, self.config.meta_stage
        with_replacement, size = stage.supports == "with_replacement", config.stage_size(stage)
        check_shots(images, config.data, with_replacement)
        sampler = EpisodeSampler(images, stage.query, config.data.shot, config.run.seed, with_replacement)
        if stage.input == STRETCH:
            return self._episodes(sampler, size, None, View(STRETCH, size, size, smooth=True))
        return self._episodes(sampler, size, stage.augment)

    def test_sampler(self, images: ImageList, protocol: ProtocolSettings, seed: int) -> EpisodeSampler:
        """Return what draws a protocol's episodes of one seed."""
        with_replacement = protocol.supports == "with_replacement"
        check_shots(images, self.config.data, with_replacement)
        return EpisodeSampler(images, protocol.query, self.config.data.shot, seed, with_replacement)

    def trials(self, sampler: Sampler, view: View, scored_on: tuple[str, ...]) -> TrialDataset:
        """Return the episodes of a sampler by number, in a view, with the labels to be scored on."""
        return TrialDataset(self._episodes(sampler, view.side, None, view), scored_on)

    def test_episodes(self, images: ImageList, protocol: ProtocolSettings, seed: int) -> TrialDataset:
        """Return a protocol's episodes by number, as they validate a model in training: at the size it is built for."""
        view = training_view(self.config, protocol)
        return self.trials(self.test_sampler(images, protocol, seed), view, (scored_on(view, protocol),))

    def validation_episodes(self, images: ImageList) -> TrialDataset:
        """Return what validates the meta stage: the test protocol's episodes, of the stage's seed if it has one."""
        protocol, seed = self.config.protocols[self.config.test.protocol], self.config.meta_stage.validate_seed
        return self.test_episodes(images, protocol, protocol.seeds[0] if seed is None else seed)

    def _episodes(
        self, sampler: Sampler, size: int, augment: AugmentSettings | None, view: View | None = None
    ) -> EpisodeDataset:
        base_labels = self.model_class.reads_base_labels
        return EpisodeDataset(sampler, self.fold, size, augment, self.vectors, base_labels, view)

    def labelled(self, images: ImageList, train: bool) -> LabelledDataset:
        """Return the base stage's images by number, augmented for training."""
        config = self.config
        size, augment = config.stage_size(config.base_stage), config.base_stage.augment if train else None
        return LabelledDataset(images, self.fold, size, config.run.seed, augment)


def make_run_context(config: Config) -> RunContext:
    """Return the setting of a config.

    Raises:
        UserError: text vectors that the model reads are missing or wrong, or given to a model that reads none.
    """
    model_class = class_of(config.model)
    if not model_class.reads_text and config.data.text != text.NO_TEXT:
        raise UserError(
            f"{config.path}: data.text = {config.data.text}, but this model ({model_class.title}) reads no text "
            f"vectors; set data.text: {text.NO_TEXT}"
        )
    vectors = text.class_vectors(config.data) if model_class.reads_text else None
    return RunContext(config, Fold.of(config.data), model_class, vectors)


def build_model(config: Config, text_width: int, side: int | None = None) -> FewShotModel:
    """Return the model that the config names, for images of ``side``, with random weights drawn from ``run.seed``."""
    torch.manual_seed(config.run.seed)
    fold, data = Fold.of(config.data), config.data
    return class_of(config.model)(config.model, Task(len(fold.base), data.shot, side or data.size, text_width))


def new_model(context: RunContext, side: int | None = None) -> FewShotModel:
    """Return the model with random weights, for a checkpoint to fill; ``side`` of its images, default ``data.size``."""
    return build_model(context.config, 0 if context.vectors is None else context.vectors.shape[1], side)


def fill_encoder(context: RunContext, network: FewShotModel) -> str:
    """Fill the model's encoder as the config asks; return a line for the log that names what stayed random.

    Raises:
        UserError: the weights are missing or do not fit.
    """
    start = context.config.model.start()
    if start.weights is None:
        return "encoder: random weights (none are named)"
    missing = checkpoint.load_encoder_weights(network, start.weights, start.partial, _same_fold(context))
    if missing:
        return f"encoder: {start.weights}; {len(missing)} tensors start from random values: {', '.join(missing)}"
    return f"encoder: {start.weights}, complete"


def _same_fold(context: RunContext) -> dict | None:
    """Return the config whose fold a file of weights must be of, None where another fold is allowed."""
    return None if context.config.test.allow_fold_mismatch else to_dict(context.config)


def base_folder(config: Config) -> Path:
    """Return the run folder of the base stage."""
    if config.run.base_folder:
        return Path(config.run.base_folder)
    return run_folder(config, "base")


def with_data(config: Config, **changes: Any) -> Config:
    """Return the config with some data settings changed, such as the number of shots."""
    return replace(config, data=replace(config.data, **changes))


def network_config(config: Config) -> Config:
    """Return the config of the network that a test runs: of one shot where ``test.fuse`` uses every support alone."""
    return with_data(config, shot=1) if config.test.fuse == MASKS else config


def run_folder(config: Config, stage: str) -> Path:
    """Return the folder of a stage of this run; meta stage and test have one for each number of shots."""
    shots = config.data.shot
    leaf = stage if stage == "base" or shots == 1 else f"{stage}_{shots}shot"
    return Path(config.run.folder) / str(config.run.name) / leaf


def weights_folder(config: Config) -> Path:
    """Return the meta stage's folder that a test takes its weights from: that of its shots, or the one training."""
    config = network_config(config)
    own = run_folder(config, "meta")
    shared = class_of(config.model).shots_share_weights and not own.exists()
    return run_folder(with_data(config, shot=1), "meta") if shared else own


def load_checkpoint(context: RunContext, network: FewShotModel, stage: str, path: str | Path) -> dict:
    """Fill a model (``stage`` meta) or its base stage's parts (base) from a checkpoint; return the file's content.

    Raises:
        UserError: the file is missing, damaged, or of another stage, model, encoder, data set or fold.
    """
    content, config = checkpoint.read(path), context.config
    any_fold = stage == "meta" and config.test.allow_fold_mismatch
    checkpoint.check_identity(content, to_dict(config), stage, str(path), any_fold, config.model.identity)
    if stage == "meta" and content.get(checkpoint.TEXT, context.text_digest) != context.text_digest:
        raise UserError(f"{path}: was trained with other text vectors than data.text = {context.config.data.text}")
    target = network if stage == "meta" else network.base_stage()
    try:
        checkpoint.load_weights(target, checkpoint.weights_of(content), str(path))
    except UserError as error:
        shots = _shots_of(network, content) if stage == "meta" else None
        if shots in (None, config.data.shot):
            raise
        alone = config.test.fuse == MASKS
        this = "test.fuse: masks takes a network of" if alone else "this run has"
        other = ", or with --set test.fuse=masks" if shots == 1 else " and --set test.fuse=features" if alone else ""
        raise UserError(
            f"{path}: was trained with {shots} shot(s), {this} {config.data.shot}, and this model has weights for each "
            f"number of shots; train it with --set data.shot={config.data.shot}, or test with --shot {shots}{other} "
            f"({error})"
        ) from None
    if stage == "base":
        network.requires_grad_(True)
        network.freeze()
    return content


def _shots_of(network: FewShotModel, content: dict) -> int | None:
    """Return for how many shots a checkpoint's tensors are made, None where they serve any or are another model's."""
    state = checkpoint.without_prefix(checkpoint.weights_of(content))
    own = content.get("format") == checkpoint.FORMAT
    translated = state if own else network.load_published(state)
    return None if translated is None else network.shots_of(translated)
