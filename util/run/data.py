"""The data of a run: image lists, episode samplers and data sets of each stage and of a test."""

from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import cast

from torch.utils.data import Dataset

from util.config.folds import has_class_maps
from util.config.read import read_data
from util.config.settings import (
    BASE_CLASSES,
    MODALITIES,
    SAMPLERS,
    AugmentSettings,
    DataSettings,
    ProtocolSettings,
    StageSettings,
)
from util.data.draws import OWN, PFENET, draw_published
from util.data.episodes import EpisodeDataset, LabelledDataset, TrialDataset
from util.data.lists import image_list as lists
from util.data.lists.image_list import ImageList
from util.data.lists.index import load_index
from util.data.lists.listed import read_list
from util.data.modalities import Source
from util.data.sampling import SHUFFLED_PAIRS, EpisodeSampler, Sampler, check_contract
from util.data.views import LETTERBOX, STRETCH, View
from util.files.errors import UserError, log
from util.files.project import project_path
from util.run.input_size import view_of
from util.run.run import Run


@dataclass(frozen=True)
class StageData:
    """The training list of a stage, its training examples by number, and the examples that validate it."""

    images: ImageList
    training: Dataset
    validation: Dataset | None  # None: the lists leave none
    validation_length: int  # of its examples
    validation_classes: list[str]  # of its data set


def stage_data(run: Run, stage: str, progress: bool = True) -> StageData:
    """Return the data of a stage, base or meta; ``progress``: this process shows bars and warnings."""
    return base_stage_data(run, progress) if stage == "base" else meta_stage_data(run, progress)


def base_stage_data(run: Run, progress: bool = True) -> StageData:
    """Return the data of the base stage: labelled images."""
    data = run.config.data
    stage = cast(StageSettings, run.config.base_stage)
    fold = run.fold
    images = images_for_training(run, progress, stage)
    index = load_index(data, "test", progress)
    is_whole = stage.images == "all"
    others = lists.whole_list(index, fold) if is_whole else lists.base_validation_list(index, fold.base, data)
    size = run.config.stage_size(stage)
    seed = run.config.run.seed
    return StageData(
        images=images,
        training=LabelledDataset(images, fold, size, seed, stage.augment),
        validation=None if others is None else LabelledDataset(others, fold, size, seed),
        validation_length=0 if others is None else min(stage.validate_episodes, len(others.queries)),
        validation_classes=data.classes,
    )


def meta_stage_data(run: Run, progress: bool = True) -> StageData:
    """Return the data of the meta stage: episodes of base classes, and those that validate it.

    The latter are of the validation list's classes, else of the test list's novel or, by ``meta_stage.validate_on``,
    base ones, or of another data set.
    """
    stage = run.config.meta_stage
    validating = validation_run(run)
    images = images_for_training(run, progress)
    others = _images_for_validation(validating, images, progress)
    return StageData(
        images=images,
        training=training_episodes(run, images),
        validation=None if others is None else validation_episodes(validating, others),
        validation_length=stage.validate_episodes,
        validation_classes=validating.config.data.classes,
    )


def _images_for_validation(validating: Run, training: ImageList, progress: bool) -> ImageList | None:
    """Return the images of the meta stage's validations, None where the test list leaves none."""
    config = validating.config
    data = config.data
    if data.validation_list is not None:
        index = load_index(data, "validation", progress)
        return _logged(data.classes, lists.test_list(index, validating.fold, data), progress)
    if config.meta_stage.validate_on == BASE_CLASSES:
        return lists.base_validation_list(load_index(data, "test", progress), training.classes, data, data.shot)
    return images_for_test(validating, progress, config.protocols[config.test.protocol])


def validation_run(run: Run) -> Run:
    """Return the run of the validations: this run, or one of the data set ``meta_stage.validate_on``."""
    config = run.config
    if config.meta_stage.validate_on in (None, BASE_CLASSES):
        return run
    of_run = {
        setting.name: getattr(config.data, setting.name)
        for setting in fields(DataSettings)
        if "of_run" in setting.metadata
    }
    return Run(replace(config, data=replace(read_data(project_path(config.meta_stage.validate_on)), **of_run)))


def epoch_length(stage: StageSettings, images: ImageList) -> int:
    """Return the number of examples of an epoch: ``epoch_length``, else the length of the list or of its pairs."""
    if stage.epoch_length:
        return stage.epoch_length
    return len(images.pairs if stage.query == SHUFFLED_PAIRS else images.queries)


def images_for_training(run: Run, progress: bool = True, stage: StageSettings | None = None) -> ImageList:
    """Return a stage's training list, default the meta stage's.

    ``progress``: this process shows bars and warnings.
    """
    data = run.config.data
    stage = stage or run.config.meta_stage
    index = load_index(data, "train", progress)
    if stage.images == "all":
        return lists.whole_list(index, run.fold)
    return _logged(data.classes, lists.train_list(index, run.fold, data, stage.list_file), progress)


def images_for_test(run: Run, progress: bool = True, protocol: ProtocolSettings | None = None) -> ImageList:
    """Return the fold's test list, or a protocol's own; ``progress``: this process shows bars and warnings."""
    data = run.config.data
    index = load_index(data, "test", progress)
    images = lists.test_list(index, run.fold, data, None if protocol is None else protocol.list_file)
    if progress and (shared := photos_listed(images, run)):
        log.warning(
            "%s of the %s test photos are in the training list too (data.train_list = %s)",
            shared,
            len(images.photos),
            data.train_list,
        )
    return _logged(data.classes, images, progress)


def photos_listed(images: ImageList, run: Run) -> int | None:
    """Return how many photos of a list the training list names too; None: there is no training list.

    Photos that show novel classes do not count where no stage trains on them (``data.exclude_novel``).
    """
    data = run.config.data
    if data.train_list is None or not (Path(data.root) / data.train_list).is_file():
        return None
    stages = filter(None, (run.config.base_stage, run.config.meta_stage))
    are_by_masks = all(stage.images == "fold" and stage.list_file is None for stage in stages)
    is_left_out = images.index.showing(lists.left_out(run.fold, data) if are_by_masks else ())
    listed = {*read_list(data, "train").images}
    return len(listed.intersection(images.index.images[row] for row in images.queries if not is_left_out[row]))


def _logged(classes: list[str], images: ImageList, warns: bool) -> ImageList:
    """Warn of a published list that is not used, and of the classes that a list leaves out."""
    if images.note and warns:
        log.warning("%s", images.note)
    if images.rare and warns:
        log.warning(
            "%s: %d classes have too few images and are left out: %s",
            images.source or images.index.listed,
            len(images.rare),
            ", ".join(classes[c - 1] for c in images.rare),
        )
    return images


def training_episodes(run: Run, images: ImageList) -> EpisodeDataset:
    """Return the meta stage's training episodes by number."""
    stage = run.config.meta_stage
    size = run.config.stage_size(stage)
    sampler = _sampler(run, images, stage, run.config.run.seed)
    if stage.input == STRETCH:
        return _episodes(run, sampler, View(STRETCH, size, size, smooth=True))
    return _episodes(run, sampler, View(LETTERBOX, size, size), augment=stage.augment, views=stage.views)


def validation_episodes(run: Run, images: ImageList) -> TrialDataset:
    """Return the meta stage's validation episodes, at the image size of training.

    They are those of the test protocol, of ``validate_seed`` or its first seed; of base classes, each class in turn.
    """
    config = run.config
    protocol = config.protocols[config.test.protocol]
    on_base_classes = config.meta_stage.validate_on == BASE_CLASSES
    if on_base_classes:
        protocol = replace(protocol, query="class_in_turn", draw=OWN)
    asked = config.meta_stage.validate_seed
    seed = protocol.seeds[0] if asked is None else asked
    view = view_of(config, protocol, config.data.size)
    return trials(
        run,
        protocol_sampler(run, images, protocol, seed),
        view,
        view.label_kind(protocol.scored_on),
        play_novel=on_base_classes,
        last_support_first=protocol.draw == PFENET,
    )


def protocol_sampler(run: Run, images: ImageList, protocol: ProtocolSettings, seed: int) -> EpisodeSampler:
    """Return the sampler of a protocol's episodes of one seed."""
    sampler = _sampler(run, images, protocol, seed)
    if protocol.draw != OWN:
        return replace(sampler, draw=partial(draw_published, draw=protocol.draw))
    return replace(sampler, ways=protocol.ways, references=protocol.references)


def check_sampler(images: ImageList, sampler: EpisodeSampler, protocol: str, fold: str) -> None:
    """Refuse (UserError) a protocol that a list cannot serve: it has too few classes, or masks of one class each."""
    complete = len(sampler.complete_classes)
    problem = ""
    if images.index.one_class_masks and sampler.ways > 1:
        problem = "needs masks of all classes, but each mask here shows one: take a protocol with ways: 1"
    elif sampler.ways > max(complete, 1):
        problem = (
            f"ways = {sampler.ways}, but the list has {complete} of {len(images.classes)} classes with enough images "
            f"for {sampler.shots} support(s) each: set at most {complete} ways"
        )
    if problem:
        raise UserError(f"protocols.{protocol} on {fold}: {problem}")


def trials(
    run: Run,
    sampler: Sampler,
    view: View,
    scored_on: str,
    *,
    play_novel: bool = False,
    last_support_first: bool = False,
) -> TrialDataset:
    """Return a sampler's episodes by number, sized by a view, with the label that they are scored on."""
    return TrialDataset(
        _episodes(run, sampler, view),
        scored_on,
        play_novel=play_novel,
        last_support_first=last_support_first,
    )


def _sampler(run: Run, images: ImageList, rule: StageSettings | ProtocolSettings, seed: int) -> EpisodeSampler:
    """Return the sampler of a rule, with its draw if its query is a registered one; UserError: it breaks the contract.

    It draws one way and one reference.
    """
    data = run.config.data
    with_replacement = rule.supports == "with_replacement"
    lists.check_shots(images, data, with_replacement)
    sampler = EpisodeSampler(
        images,
        rule.query,
        data.shot,
        seed,
        with_replacement=with_replacement,
        first=rule.supports == "first",
        draw=SAMPLERS.get(rule.query),
    )
    if sampler.draw is not None:
        check_contract(sampler)
    return sampler


def _episodes(
    run: Run,
    sampler: Sampler,
    view: View,
    *,
    augment: AugmentSettings | None = None,
    views: int | None = None,
) -> EpisodeDataset:
    base_labels = run.model_class.reads_base_labels and has_class_maps(run.config.data)
    sources = sources_of(run, sampler.images)
    return EpisodeDataset(sampler, run.fold, view, augment, run.vectors, base_labels, views, sources)


def sources_of(run: Run, images: ImageList) -> list[Source]:
    """Return the sources of what the method reads beside colours; UserError: a list's first image has none of it."""
    named = run.config.data.modalities
    sources = [
        Source(name, modality, MODALITIES.get(named.get(name, "")))
        for name, modality in run.model_class.modalities.items()
    ]
    first = int(images.queries[0])
    for source in sources:
        source.planes(images.index, first, images.classes_in(first)[0])
    return sources
