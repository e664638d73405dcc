"""From raw downloads to ready: ``python prepare.py pascal|coco|lists|embeddings|weights|mini|custom|check``."""

from __future__ import annotations

from util import cli
from util.prepare import check as doctor
from util.prepare import coco, custom, embeddings, lists, mini, pascal, weights

COMMANDS = {
    "pascal": pascal,
    "coco": coco,
    "lists": lists,
    "embeddings": embeddings,
    "weights": weights,
    "mini": mini,
    "custom": custom,
    "check": doctor,
}


def command() -> int:
    """Parse, call."""
    return cli.run_one_of(COMMANDS, __doc__)


if __name__ == "__main__":
    cli.main(command)
