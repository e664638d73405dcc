"""Prepare data and weights: ``python prepare.py COMMAND``, such as ``pascal``, ``weights`` or ``check``."""

from __future__ import annotations

from util.packages import loaded

with loaded():
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
    from util.prepare.make import Recipe

RECIPES = pascal, coco, fss1000, deepglobe, isic, chestxray, suim, lvis92i, isaid5i, pacopart, pascalpart
COMMANDS = {
    **{recipe.name: recipe for recipe in map(Recipe, RECIPES)},
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
