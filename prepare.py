"""Prepare data and weights: ``python prepare.py pascal|coco|lists|embeddings|weights|mini|custom|check``."""

from __future__ import annotations

from util.packages import required

with required():
    from util import cli
    from util.prepare import check, coco, custom, embeddings, lists, mini, pascal, weights

COMMANDS = {
    "pascal": pascal,
    "coco": coco,
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
