"""The loop that scores any model on any batches: integer counts on the device, by several rules at once."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.episode import LabelledImages, Output
from model.tensors.ops import resize
from model.trial import Trial
from util.files.progress import ProgressBar
from util.loop import metrics
from util.loop.loading import batches, evaluation_numbers
from util.loop.mask_metrics import METRICS, counted_in_episodes
from util.loop.metrics import ALL_FOREGROUND, BASE, FINAL
from util.loop.network import PreparedNetwork, check_prediction
from util.loop.processes import ProcessGroup


def scored_outputs(output: Output) -> dict[str, Tensor]:
    """Return every output that is scored, by its key in results: ``final``, the names of ``extra``, ``base``."""
    base = {} if output.base_logits is None else {BASE: output.base_logits}
    return {FINAL: output.logits, **output.extra, **base}


@dataclass(eq=False)
class Scoreboard:
    """Counts every output: against the episode's classes, a base learner's in base labels."""

    classes: int  # of the data set
    further: Sequence[str] = ()  # names of ``mask_metrics.METRICS`` that are counted too
    query_of: Callable[[int], str] = str  # the name of an episode's query by its number, for further metrics
    # what is counted: records of each episode by output
    records: defaultdict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    base: list[Tensor] = field(default_factory=list)  # counts of the base classes, (3, N + 1) int64 each

    def add(self, numbers: list[int], batch: Trial | LabelledImages, output: Output) -> None:
        """Count one batch; ``numbers`` are those of its episodes.

        Each output is resized to the label's size, alone, so that its batch does not affect it, and counted there.
        """
        if isinstance(batch, LabelledImages):
            logits = output.logits
            self.base.append(metrics.class_counts(metrics.predicted(logits), batch.label, logits.shape[1]))
            return
        for item, number in enumerate(numbers):
            self._add_episode(number, item, batch, output)

    def _add_episode(self, number: int, item: int, trial: Trial, output: Output) -> None:
        """Count the episode of a number, which is an item of a batch."""
        label = trial.label[item]
        of_item = {name: logits[item : item + 1].float() for name, logits in scored_outputs(output).items()}
        predictions = {name: metrics.predicted(resize(logits, label.shape)) for name, logits in of_item.items()}
        class_id_n = torch.stack([way.class_id[item] for way in trial.ways])
        base = predictions.pop(BASE, None)
        if base is not None and trial.base_label:
            channels = of_item[BASE].shape[1]
            self.base.append(metrics.class_counts(base[0], trial.base_label[item], channels))
        if len(class_id_n) == 1:
            predictions[ALL_FOREGROUND] = torch.ones_like(label)[None]
        further = counted_in_episodes(self.further)
        for name, prediction in predictions.items():
            records = metrics.episode_records(
                number,
                class_id_n,
                prediction[0],
                label,
                further,
                query=self.query_of(number) if further else "",
                class_map_hw=trial.class_map[item],
            )
            self.records[name].append(records)

    def gather(self, world: ProcessGroup) -> tuple[dict[str, dict[str, Any]], dict[str, np.ndarray]]:
        """Return the scores of every output, and the records of its episodes, of all processes together.

        Records are sorted by number, then by class.
        """
        counted_here = {name: torch.cat(parts).cpu().numpy() for name, parts in self.records.items()}
        base_here = torch.stack(self.base).sum(0).cpu().numpy() if self.base else None
        records_by_rank, base_by_rank = zip(*world.gather((counted_here, base_here)))

        records = _joined_records(records_by_rank)
        scales = {name: METRICS[name].facts["scale"] for name in counted_in_episodes(self.further)}
        at_end = [name for name in self.further if METRICS[name].at_end]
        scores = {name: metrics.episode_scores(rows, self.classes, scales, at_end) for name, rows in records.items()}
        if base_counts := [counts for counts in base_by_rank if counts is not None]:
            scores[BASE] = metrics.class_scores(np.sum(base_counts, axis=0))
            if ALL_FOREGROUND in scores:
                scores[ALL_FOREGROUND] = scores.pop(ALL_FOREGROUND)  # comes last
        return scores, records


def _joined_records(records_by_rank: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return every output's records of all processes, sorted by the episode's number, then by class."""
    joined = {}
    for name in dict.fromkeys(chain.from_iterable(records_by_rank)):
        records = np.concatenate([of_rank[name] for of_rank in records_by_rank if name in of_rank])
        order = np.argsort(records[:, metrics.NUMBER], kind="stable")
        joined[name] = records[order]
    return joined


@torch.inference_mode()
def score(
    prepared: PreparedNetwork,
    dataset: Any,
    episodes: int,
    counters: Sequence[Any],
    world: ProcessGroup,
    *,
    title: str,
    batch: int = 1,
    workers: int = 0,
    store: Any = None,
) -> None:
    """Run a network once over items 0..episodes - 1 of a data set, shared out over processes, for several counters.

    Every prediction must be finite. The device notes whether it is; the note is read at the first batch, at every
    hundredth further one and at the last, since a GPU is waited for.

    Args:
        prepared: the network, which is left in its mode (training or evaluation).
        dataset: gives a ``Trial`` or ``LabelledImages`` by number.
        episodes: the number of items.
        counters: each sees every batch that this process scores, a ``Trial`` or ``LabelledImages``, by
            ``add(numbers, batch, output)``, with the numbers of its episodes.
        world: the processes; each runs over its share of the numbers.
        title: the label of the progress bar.
        batch: episodes at once; images of their original sizes come one by one, whatever it is.
        workers: of the loader.
        store: a ``TrialStore`` of this network and view; supports that it holds are not encoded again. Episodes of a
            class and of a query follow each other, so that few images are needed at a time; no count depends on it.
    """
    network: Any = prepared.network
    was_training = network.training
    network.eval()
    if getattr(dataset, "one_by_one", False):
        batch = 1
    order = range(episodes) if store is None else store.order(dataset.sampler, episodes)
    numbers = evaluation_numbers(order, batch, world.rank, world.size)
    finite = torch.ones((), dtype=torch.bool, device=prepared.device)
    bar = ProgressBar(total=episodes, desc=title, unit="item", disable=not world.is_main, leave=False)
    with bar, closing(batches(dataset, numbers, workers, world.device)) as loaded:
        for done, (numbers_of_batch, item) in enumerate(zip(numbers, loaded, strict=True)):
            output = _predict(prepared, item, store)
            finite &= torch.stack(output.logits.aminmax()).isfinite().all()  # NaN is both
            if done % 100 == 0 or numbers_of_batch is numbers[-1]:
                check_prediction(finite)
            for counter in counters:
                counter.add(numbers_of_batch, item, output)
            bar.update(min(len(numbers_of_batch) * world.size, episodes - bar.n))
    network.train(was_training)


def _predict(prepared: PreparedNetwork, batch: Trial | LabelledImages, store: Any) -> Output:
    """Return the network's output for a batch; supports of a trial come from the store, where there is one."""
    if not isinstance(batch, Trial):
        return prepared.predict([batch])
    if store is None:
        return prepared.predict(batch.ways)
    with prepared.autocast():
        episodes = store.fill(batch)
    return prepared.predict(episodes)
