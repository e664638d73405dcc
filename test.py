"""Score a model on a fold's novel classes: ``python test.py config/<dataset>/<file>.yaml [--protocol bam,hsnet]``."""

import shlex
import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:
    sys.path.insert(0, str(Path(__file__).parent))  # which PYTHONSAFEPATH leaves out

from util import requirements

if __name__ == "__main__":
    requirements.check()

from argparse import Namespace

from util import cli
from util.config import command_line
from util.evaluate.evaluate import evaluate
from util.files.launcher import place_of_process
from util.files.table import add_format
from util.report.tables import summary
from util.run.run import Run


def command() -> None:
    """Parse, build, call; print the tables of the results."""
    options = _options()
    run, stored = Run(command_line.read(options)).as_tested()
    config = run.config
    if command_line.print_config_if_asked(options, config):
        return
    results = evaluate(
        config,
        protocols=cli.comma_separated(options.protocol),
        shots=options.shot,
        manifest=options.manifest,
        stored=stored,
        keep=not options.overwrite,
    )
    if place_of_process().rank == 0:
        print(summary(results, options.format))
        folders = shlex.join(str(path.parent) for path in results)
        print(f"pictures: python report.py figure {folders} --episodes worst:8", flush=True)


def _options() -> Namespace:
    parser = command_line.parser(__doc__)
    add = parser.add_argument
    add("--protocol", default="", help="such as bam,hsnet; default test.protocol")
    add("--shot", type=cli.numbers, default=(), help="numbers of supports, such as 1,5; default data.shot")
    add("--manifest", type=Path, metavar="FILE.jsonl", help="replay the episodes of a result's episodes.jsonl")
    same = "score again also what is done with the same settings, weights, photos and code"
    add("--overwrite", action="store_true", help=f"{same}; what was scored with others is scored again anyway")
    add_format(parser)
    return parser.parse_args()


if __name__ == "__main__":
    cli.main(command, writes_files=True)
