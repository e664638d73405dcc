"""Train the base stage where it is lacking, then the meta stage: ``python train.py config/<dataset>/<file>.yaml``."""

# ``train_stage`` (util/train/stages.py) builds data, network and optimisers; the loop is in util/loop/train.py.

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
from util.run.begin import Asked
from util.run.rehearsal import dry_run
from util.train.stages import train


def command() -> int:
    """Parse, build, call; return the exit code."""
    options = _options()
    config = command_line.read(options)
    if command_line.print_config_if_asked(options, config):
        return 0
    asked = Asked(
        resume=options.resume,
        overwrite=options.overwrite,
        allow_changes=options.allow_changes,
        checkpoint=options.checkpoint,
        stage=options.stage,
    )
    if options.league:
        from util.report.league import check_terms  # for its trainings alone

        check_terms(config)
    if options.dry_run:
        dry_run(config, asked, processes=options.dry_run)
        return 0
    return train(config, asked)


def _options() -> Namespace:
    parser = command_line.parser(__doc__)
    add = parser.add_argument
    add("--stage", choices=("base", "meta"), help="this stage alone; default each that is lacking")
    add("--checkpoint", help="base-stage checkpoint that the meta stage starts from, instead of this run's")
    folder = parser.add_mutually_exclusive_group()
    folder.add_argument("--resume", action="store_true", help="continue from the last checkpoint, or begin")
    folder.add_argument("--overwrite", action="store_true", help="start again, discarding the run in this folder")
    text = "resume although settings that decide the result were changed"
    add("--allow-changes", action="store_true", help=text)
    text = "print every stage with its state, steps and disk space, and every error that would stop it; train nothing"
    add("--dry-run", nargs="?", type=cli.within(int, 1), const=1, metavar="PROCESSES", help=text)
    add("--league", action="store_true", help="refuse what the league's table would refuse after the training")
    return parser.parse_args()


if __name__ == "__main__":
    cli.main(command, training=True, writes_files=True)
