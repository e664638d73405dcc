"""Differences that are allowed between a training and the run that takes it: a row for each way to take one.

All else that decides the weights, or which classes are novel, is compared and has to be equal.
"""

from dataclasses import dataclass

CLASSES, FOLD, PRECISION = "data.classes", "data.fold", "run.precision"


@dataclass(frozen=True)
class MayDiffer:
    """Settings, by the beginnings of their keys, and facts (``Origin``), by their names."""

    settings: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()


CONTINUED = MayDiffer(settings=(PRECISION,))  # a fact of its training tells the precision
CONTINUED_CHANGED = MayDiffer(
    facts=("code", "observers", "precision", "list", "content", "trained_by")
)  # by --allow-changes, with any settings
TESTED = MayDiffer(settings=("data.shot", "data.rare_classes", PRECISION))
SHARED = MayDiffer(settings=("data.", "model.", "run."), facts=("list", "content"))  # a base stage
FINISHED = {"base": SHARED, "meta": TESTED}
PROCESSES = MayDiffer(  # of one run: digests tell whether what lies at these places is the same
    settings=(
        *("data.root", "data.cache", "data.workers", "run.device"),
        *("imports", "test.checkpoint", "test.batch", "test.store_gib"),
    )
)
TESTED_ON_OTHER_DATA = MayDiffer(settings=(CLASSES, FOLD))
ENCODER = MayDiffer(settings=(CLASSES, "model."))
