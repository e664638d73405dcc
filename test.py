"""Score a model on a fold's novel classes: ``python test.py config/<dataset>/<file>.yaml [--protocol bam,hsnet]``."""

from util import requirements

if __name__ == "__main__":
    requirements.check()

from argparse import Namespace
from pathlib import Path

from util import cli
from util.config import command_line
from util.evaluate.calibrate import calibrate
from util.evaluate.kept import parse_kinds
from util.evaluate.testing import test
from util.files.errors import UserError
from util.run.run import Run


def command() -> None:
    """Parse, build, call."""
    options = _options()
    config = Run(command_line.read(options)).with_checkpoint_config().config
    options.overrides = config.given
    if command_line.show(options):
        return
    if options.calibrate:
        for name in ("manifest", "protocol", "save_images", "shot"):
            if getattr(options, name):
                raise UserError(f"--calibrate takes no --{name.replace('_', '-')}; leave it out")
        calibrate(config)
        return
    test(
        config,
        protocols=cli.comma_separated(options.protocol),
        shots=options.shot,
        manifest=options.manifest,
        save_images=parse_kinds(options.save_images),
    )


def _options() -> Namespace:
    parser = command_line.parser(__doc__)
    add = parser.add_argument
    add("--protocol", default="", help="such as bam,hsnet, or all that fit; default test.protocol")
    add("--shot", type=cli.numbers, default=(), help="numbers of supports, such as 1,5; default data.shot")
    add("--manifest", type=Path, metavar="FILE.jsonl", help="replay the episodes of a result's episodes.jsonl")
    add(
        "--save-images",
        default="",
        metavar="worst:20,best:20,random:20",
        help="episodes whose predictions are kept, to be drawn",
    )
    text = "fit pixel probabilities and the presence score on base classes, and write them beside the weights"
    add("--calibrate", action="store_true", help=text)
    return parser.parse_args()


if __name__ == "__main__":
    cli.main(command)
