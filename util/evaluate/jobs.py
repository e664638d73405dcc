"""The jobs of a test: each protocol with each number of shots, on which weights, and which jobs share a pass.

Every mistake that a user can make is found here, before any episode is scored.
"""

import itertools
import json
import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from util.checkpoints.run import FOREIGN, Run
from util.checkpoints.weights import Weights, load_weights
from util.config.checks import protocol_problem
from util.config.read import to_dict
from util.config.settings import EDGES, IRRELEVANT, MASKS, Config, ProtocolSettings
from util.data.draws import OWN, PFENET, why_not_published
from util.data.episodes import Sampler
from util.data.images.views import View
from util.data.lists.image_list import ImageList
from util.data.lists.manifest import digest, replay
from util.data.sampling import EpisodeSampler, ListedEpisodes
from util.errors import UserError, nearest
from util.evaluate.calibration import Calibration, find_calibration
from util.evaluate.evaluate import Scoreboard
from util.evaluate.mask_metrics import METRICS
from util.evaluate.tta import with_tta
from util.report.schema import RESULT, read_result
from util.run.context import RunContext, make_run_context, network_config, with_data
from util.run.data import check_sampler, images_for_protocol, protocol_sampler
from util.run.device import precision_asked_of_test, precision_of_test
from util.run.input_size import scored_on, view_of
from util.run.network import PreparedNetwork, prepare_network
from util.run.processes import World

log = logging.getLogger("symnet")
Loaded = dict[tuple, Any]  # lists by number of shots and published list, networks by number of shots and image side


@dataclass(eq=False)
class Job:
    """One protocol with one number of shots, which gives one result."""

    name: str
    protocol: ProtocolSettings
    context: RunContext
    images: ImageList
    view: View
    scored_on: str  # the label that predictions are compared with: letterbox, square or original
    samplers: dict[int, Sampler]  # of the episodes, by seed
    episodes: dict[int, int]  # their number, by seed
    prepared: PreparedNetwork  # for the view's image side
    weights: Weights
    replayed: Path | None  # the manifest whose episodes these are, None for the protocol's own
    quick_look: bool  # whether the number of episodes is not the protocol's, or is below that of the manifest
    calibration: Calibration | None  # of the network, where the protocol asks whether queries show their class
    draw_note: str  # why the episodes are not those of published runs whose draw the protocol names
    boards: dict[int, Scoreboard] = field(default_factory=dict)  # the counts, by seed
    kept: Any = None  # the ``KeptPredictions`` that pictures will show, None without pictures
    seconds: float = 0.0
    batch: int = 1  # episodes at a time
    shared_with: list[str] = field(default_factory=list)  # names of the protocols scored in the same passes


def is_quick(config: Config, name: str) -> bool:
    """Return whether ``test.episodes`` asks for another number of episodes than the protocol's."""
    return config.test.episodes not in (None, config.protocols[name].number(config.data.fold))


def deciding(merged: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a merged config that can affect the scores of its test."""
    run, test = merged["run"], merged["test"]
    precision = precision_asked_of_test(run.get("precision"), test.get("precision"))
    return {
        "data": {key: value for key, value in merged["data"].items() if key not in IRRELEVANT},
        "model": merged["model"],
        "run": {"precision": precision, "seed": run["seed"]},
        "test": {key: test[key] for key in ("episodes", "seeds", "protocol", "metrics")},
        "protocol": merged["protocols"][test["protocol"]],
    }


def result_folder(config: Config, name: str, replayed: bool = False, quick: bool | None = None) -> Path:
    """Return the folder of a protocol's result: ``test[_5shot]/<protocol>``.

    A result of other weights than the run's best, of other seeds or another number of episodes, or of several passes
    per episode goes to a folder beside it whose name says so. A quick look beside one of other settings has a folder of
    its own, with a digest of its settings.
    """
    quick, run = is_quick(config, name) if quick is None else quick, Run(config)
    seeds, weights = config.test.seeds, run.mark
    if weights == FOREIGN:  # by the way from the run folders, since many such files are called best.pth
        weights += f"-{_digest(os.path.relpath(run.weights, config.run.folder))}"
    marks = [name, *(words.replace(" ", "-") for words in config.test.averaged(config.data.shot)), weights]
    if seeds not in (None, config.protocols[name].seeds) and not replayed and not quick:
        marks.append(f"seeds-{'-'.join(map(str, seeds))}"[:80])  # file systems limit names
    folder = run.folder("test") / "_".join(filter(None, [*marks, "replay" * replayed, "quick" * quick]))
    with suppress(UserError, KeyError):  # nothing there
        settings = deciding(to_dict(own_config(config, name, config.data.shot)))
        if quick and deciding(read_result(folder / RESULT)["config"]) != settings:
            return folder.with_name(f"{folder.name}-{_digest(json.dumps(settings, sort_keys=True))}")
    return folder


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:6]


def own_config(config: Config, name: str, shot: int) -> Config:
    """Return the config that repeats one job alone."""
    return replace(with_data(config, shot=shot), test=replace(config.test, protocol=name))


def build_test_jobs(
    config: Config, world: World, protocols: Sequence[str] = (), shots: Sequence[int] = (), manifest: Path | None = None
) -> list[Job]:
    """Return the jobs of a test, weights loaded and episodes chosen; the options are those of ``testing.test``.

    With ``all``, protocols that do not fit model and data are left out, and logged. UserError: a protocol, a number of
    shots, the manifest, the checkpoint or the data does not fit.
    """
    every = list(protocols) == ["all"]
    one_class = [n for n, p in config.protocols.items() if p.ways == 1 and p.absent == 0 and not p.generalised]
    names = dict.fromkeys(one_class if every else protocols or (config.test.protocol,))
    each_shots = dict.fromkeys(shots or (config.data.shot,))
    asked: list[tuple[str, str, Any]] = [(f"{config.path}: test.metrics:", n, METRICS) for n in config.test.metrics]
    for what, name, known in [*asked, *(("protocol", name, config.protocols) for name in names)]:
        if name not in known:
            raise UserError(f"{what} '{name}' is unknown{nearest(name, known)}")
    if config.test.fuse == MASKS and max(each_shots) == 1:
        raise UserError("test.fuse = masks has no effect with one shot; take --shot 5, or leave it out")
    jobs, loaded = list[Job](), Loaded()
    for shot, name in itertools.product(each_shots, names):
        try:
            jobs.append(_job(make_run_context(own_config(config, name, shot)), world, manifest, loaded))
        except UserError as error:
            if not every:
                raise
            log.info("left out: %s, %s-shot: %s", name, shot, error)
    if not jobs:
        raise UserError(f"{config.path}: no protocol fits this model and data set")
    return jobs


def _job(context: RunContext, world: World, played: Path | None, loaded: Loaded) -> Job:
    """Return the job of a config's own protocol; ``loaded`` holds lists and networks of the jobs before it."""
    config, name, shot = context.config, context.config.test.protocol, context.config.data.shot
    protocol = config.protocols[name]
    if problem := protocol_problem(context.model_class, name, protocol.generalised):
        raise UserError(problem)
    if protocol.generalised and (config.test.metrics or config.test.trained_on or config.test.averaged(shot)):
        options = "test.metrics, test.trained_on, test.flip, test.scales, test.fuse, test.adapt or test.edges"
        raise UserError(f"protocol {name} takes no {options}; leave them out")
    view = view_of(config, protocol)
    images = _images(context, world, loaded, protocol.list_file, played is not None)
    samplers, episodes, quick = _episodes(context, images, played)
    if played and protocol.list_file and not _are_of_list(samplers, images):
        images = _images(context, world, loaded, None, True)
        samplers, episodes, quick = _episodes(context, images, played)
    if protocol.absent > 0 and {*config.test.averaged(shot)} - {EDGES}:
        reason = "its presence scores are calibrated for one pass of the network as trained"
        raise UserError(f"protocol {name}: {reason}; leave out test.flip, test.scales, test.fuse and test.adapt")
    if (shot, view.side) not in loaded:
        of_network = replace(context, config=network_config(config))
        model, weights = load_weights(of_network, view.side or None)
        network = with_tta(model, of_network, view, shot)
        precision = precision_of_test(config, world.device)
        prepared = prepare_network(network, world.device, precision, config.run.compile, graphs=config.run.graphs)
        loaded[shot, view.side] = prepared, weights
    prepared, weights = loaded[shot, view.side]
    calibration = None
    if protocol.absent > 0:
        calibration = find_calibration(config, weights.source, weights.digest, prepared.precision)
    if protocol.absent > 0 and calibration is None:
        mend = "for one: python test.py CONFIG --calibrate"
        log.info("%s: no calibration of these weights: every mask is shown; %s", name, mend)
    return Job(
        name=name,
        protocol=protocol,
        context=context,
        images=images,
        view=view,
        scored_on=scored_on(view, protocol),
        samplers=samplers,
        episodes=episodes,
        prepared=prepared,
        weights=weights,
        replayed=played,
        quick_look=quick,
        calibration=calibration,
        draw_note=_draw_note(context, images, samplers, episodes, played),
    )


def _images(context: RunContext, world: World, loaded: Loaded, published: str | None, played: bool) -> ImageList:
    """Return the list of a job, read once for all jobs; a replay does not warn of a published list that is not used."""
    config = context.config
    protocol = replace(config.protocols[config.test.protocol], list_file=published)
    key = "list", config.data.shot, config.test.protocol if protocol.generalised else published, played
    if key not in loaded:
        with world.main_first():
            loaded[key] = images_for_protocol(context, world.is_main and not (played and published), protocol, False)
    return loaded[key]


def _are_of_list(samplers: dict[int, Sampler], images: ImageList) -> bool:
    """Return whether all episodes of a manifest are pairs of a published list with supports of it."""
    if not images.source:
        return False
    pairs = set(images.pairs)
    for listed in samplers.values():
        for key in listed.keys if isinstance(listed, ListedEpisodes) else ():
            if not {(row, key.class_id) for row in (key.query, *key.supports)} <= pairs:
                return False
    return True


def _draw_note(
    context: RunContext, images: ImageList, samplers: dict[int, Sampler], episodes: dict[int, int], played: Path | None
) -> str:
    """Return in words why the episodes are not those of the published run; '' if they are, or if none is known."""
    config = context.config
    protocol = config.protocols[config.test.protocol]
    note = why_not_published(images, config.data, protocol)
    if not played or protocol.draw == OWN or note:
        return note
    for seed, sampler in samplers.items():
        published = protocol_sampler(context, images, protocol, seed)
        if digest(sampler, episodes[seed]) != digest(published, episodes[seed]):
            return "a manifest with other episodes"
    return ""


def _episodes(
    context: RunContext, images: ImageList, played: Path | None
) -> tuple[dict[int, Sampler], dict[int, int], bool]:
    """Return a job's samplers and numbers of episodes by seed, and whether these make it a quick look."""
    data, test, name = context.config.data, context.config.test, context.config.test.protocol
    protocol = context.config.protocols[name]
    if played:
        ways = len(context.fold.novel) if protocol.generalised else protocol.ways
        listed = replay(played, images, data, ways, protocol.absent > 0 or protocol.generalised)
        if protocol.generalised and any(len({key.drawn for key in s.keys}) > 1 for s in listed.values()):
            raise UserError(f"{played}: protocol {name} has one support set for all episodes of a seed")
        episodes = {seed: min(len(s.keys), test.episodes or len(s.keys)) for seed, s in listed.items()}
        return {**listed}, episodes, any(episodes[seed] < len(s.keys) for seed, s in listed.items())
    samplers, episodes = dict[int, Sampler](), dict[int, int]()
    for seed in protocol.seeds if test.seeds is None else test.seeds:
        samplers[seed] = drawn = protocol_sampler(context, images, protocol, seed)
        each: Any = drawn.keys if isinstance(drawn, ListedEpisodes) else ()
        if protocol.episodes is None and not protocol.generalised:
            each = drawn.pairs if isinstance(drawn, EpisodeSampler) else images.pairs
        episodes[seed] = min(filter(None, (test.episodes or protocol.number(data.fold), len(each))))
    if isinstance(drawn, EpisodeSampler):
        check_sampler(images, drawn, name, f"fold {data.fold} of {data.name}")
    return samplers, episodes, is_quick(context.config, name)


def passes(jobs: list[Job]) -> list[tuple[int, list[Job]]]:
    """Return the fewest passes that cover every seed of every job: a seed, and jobs with its episodes and its inputs.

    Their numbers of episodes may differ: all begin with the same ones.
    """
    groups = defaultdict[tuple, list[Job]](list)
    for job in jobs:
        protocol = job.protocol
        rule: Any = protocol.draw, protocol.query, protocol.supports, protocol.ways, protocol.absent
        if job.replayed:
            rule = "manifest", protocol.draw == PFENET  # which joins supports in another order
        for seed in job.samplers:
            groups[seed, job.context.config.data.shot, job.view, rule, job.images.digest].append(job)
    return [(seed, members) for (seed, *_), members in groups.items()]
