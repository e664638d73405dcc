"""Prepare data and weights: ``python prepare.py COMMAND``, such as ``pascal``, ``weights`` or ``check``."""

from __future__ import annotations

from util.packages import required

with required():
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

COMMANDS = {
    "pascal": pascal,
    "coco": coco,
    "fss1000": fss1000,
    "deepglobe": deepglobe,
    "isic": isic,
    "chestxray": chestxray,
    "suim": suim,
    "lvis92i": lvis92i,
    "isaid5i": isaid5i,
    "pacopart": pacopart,
    "pascalpart": pascalpart,
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
