"""Draw the built-in data set of eight textured kinds of objects, in VOC's layout; no download."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from util.data.mini import generate
from util.errors import UserError

TRAIN_SHARE = 5 / 6  # of the images; the rest is for testing


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("--out", type=Path, default=Path("data/mini"), help="folder to draw into")
    parser.add_argument("--images", type=int, default=960, metavar="N", help="how many, five in six for training")
    parser.add_argument("--size", type=int, default=128, metavar="S", help="longer side in pixels")
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="another seed draws other pictures")


def run(options: argparse.Namespace) -> int:
    """Draw the data set, or say that it is there.

    Raises:
        UserError: impossible numbers, or a folder that holds something else.
    """
    train = round(options.images * TRAIN_SHARE)
    drawn = []
    try:
        generate(
            options.out,
            train,
            options.images - train,
            options.size,
            options.seed,
            progress=lambda ids: tqdm(drawn.append(True) or ids, desc="draw mini", unit="image"),
        )
    except ValueError as error:
        raise UserError(f"prepare.py mini: {error}; change --images, --size or --seed") from None
    except FileExistsError as error:
        raise UserError(str(error)) from None
    except OSError as error:
        raise UserError(f"{options.out}: cannot be written ({error.strerror}); name another --out") from None
    done = f"{train} training and {options.images - train} test images"
    print(f"{options.out}: {done}" if drawn else f"{options.out}: {done} are there already; nothing to do")
    return 0
