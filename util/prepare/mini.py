"""Draw the built-in data set of eight kinds of textured objects, in VOC's layout; no download."""

import argparse
from functools import partial
from pathlib import Path

from tqdm import tqdm

from util.cli import within
from util.data.mini import MIN_SIDE, generate


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("--out", type=Path, default=Path("data/mini"), help="folder to draw into")
    count, side, seed = within(int, 2), within(int, MIN_SIDE, 4096), within(int, 0)
    parser.add_argument("--images", type=count, default=960, metavar="N", help="number of images, 5/6 of them to train")
    parser.add_argument("--size", type=side, default=128, metavar="S", help="longer side in pixels")
    parser.add_argument("--seed", type=seed, default=0, metavar="K", help="another seed draws other images")


def run(options: argparse.Namespace) -> int:
    """Draw the data set unless it is there already; errors as ``generate``."""
    train = round(options.images * 5 / 6)
    test = options.images - train
    progress = partial(tqdm, desc="draw mini", unit="image")
    drawn = generate(options.out, train, test, options.size, options.seed, progress=progress)
    there = "" if drawn else " exist already; nothing to do"
    print(f"{options.out}: {train} training and {test} test images{there}")
    return 0
