"""Prepare data and weights: ``python prepare.py COMMAND``, such as ``pascal``, ``weights`` or ``check``."""

from __future__ import annotations

from util import cli
from util.prepare import check, custom, embeddings, lists, mini, weights
from util.prepare.datasets import (
    chestxray,
    coco,
    deepglobe,
    fss1000,
    isaid5i,
    isic,
    lvis92i,
    pacopart,
    pascal,
    pascalpart,
    suim,
)
from util.prepare.datasets.recipe import Recipe

RECIPES = fss1000, deepglobe, isic, chestxray, suim, lvis92i, isaid5i, pacopart, pascalpart
COMMANDS = {
    "pascal": pascal,
    "coco": coco,
    **{recipe.__name__.rpartition(".")[2]: Recipe(recipe) for recipe in RECIPES},
    "lists": lists,
    "embeddings": embeddings,
    "weights": weights,
    "mini": mini,
    "custom": custom,
    "check": check,
}


def command() -> int:
    """Run the sub-command of the command line and return its exit code."""
    return cli.run_one_of(COMMANDS, __doc__)


if __name__ == "__main__":
    cli.main(command)
