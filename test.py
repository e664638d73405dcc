"""Score a model on a fold's novel classes: ``python test.py config/<dataset>/<file>.yaml [--protocol bam,hsnet]``."""

from util import requirements

if __name__ == "__main__":
    requirements.check()

from argparse import Namespace
from pathlib import Path

from util import cli
from util.config import command_line
from util.config.tree import override
from util.evaluate.evaluate import evaluate
from util.evaluate.kept import parse_kinds
from util.files.launcher import place_of_process
from util.launch import check_processes, read_words
from util.report import figure
from util.report.table import add_format
from util.run.run import Run


def command() -> None:
    """Parse, build, call; show the results as ``report.py figures`` does."""
    options = _options()
    words = read_words(options)
    if words.checkpoint:
        options.overrides.insert(0, override("test.checkpoint", words.checkpoint))
    run, stored = Run(command_line.read(options)).as_tested()
    config = run.config
    options.overrides = config.given
    if command_line.print_config_if_asked(options):
        return
    check_processes(words)
    paths = evaluate(
        config,
        protocols=cli.comma_separated(options.protocol),
        shots=options.shot,
        manifest=options.manifest,
        save_images=parse_kinds(options.save_images),
        stored=stored,
        keep=not (options.overwrite or options.save_images),
    )
    if place_of_process().rank == 0:
        from util.report.show import show_results  # whose packages take a second

        show_results([*paths], options.figures, options.format)


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
    add("--overwrite", action="store_true", help="score again what is done with the same settings, weights and photos")
    add("--figures", choices=figure.SUFFIXES, default="png", help="format of curves, bars and pictures; default png")
    add_format(parser)
    return parser.parse_args()


if __name__ == "__main__":
    cli.main(command)
