"""Results: ``python report.py compare MINE BASELINE``, ``table RUNS``, ``figure RUNS``, ``verify``"""

import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:
    sys.path.insert(0, str(Path(__file__).parent))  # which PYTHONSAFEPATH leaves out

from util import requirements

if __name__ == "__main__":
    requirements.check()

import argparse

from util import cli
from util.config.command_line import add_overrides
from util.config.imports import import_by_option
from util.files.table import Table, add_format
from util.loop.metrics import FINAL
from util.report.compare import compare
from util.report.league import league_tables
from util.report.paper import paper_tables
from util.report.tables import fitted, in_parts, result_table


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = cli.Parser(prog="report.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    comparison = commands.add_parser("compare", help="paired difference of results on the same episodes")
    several = "results or their folders; further pairs for several training runs of both"
    comparison.add_argument("runs", type=Path, nargs="+", metavar="MINE BASELINE", help=several)
    tables = commands.add_parser("table", help="a table as in papers, of all results below some folders")
    rows = "methods (default), those of the league on its equal terms, or a row for each result"
    tables.add_argument("--rows", choices=("methods", "league", "results"), default="methods", help=rows)
    columns = "those in which rows differ, and scores, within 100 characters (default), or all, as CSV always has"
    tables.add_argument("--columns", choices=("differing", "all"), default="differing", help=columns)
    papers = (
        "papers whose rows are added, such as BAM,SSP, or none, or all; default those by the same protocol and side"
    )
    tables.add_argument("--published", help=papers)
    figure = commands.add_parser("figure", help="episodes predicted again, several methods side by side")
    numbers = "numbers of episodes, such as 3,8,12, a row each, or worst:8, or best:8; default 0"
    figure.add_argument("--episodes", default="0", help=numbers)
    file = "the file, whose ending .pdf (default), .svg or .png is its format; a PNG is beside it"
    figure.add_argument("--out", type=Path, default=Path("figure"), help=file)
    verification = commands.add_parser("verify", help="check results: counts, lists, episodes, code and weights")
    outputs = "output of the model: final, meta, ...; for compare also meta:final, meta minus final"
    for subparser in (comparison, tables):
        subparser.add_argument("--output", default=FINAL, help=outputs)
    tables.add_argument("--protocol", default="", help="such as bam,hsnet, a table each; default all that are there")
    figure.add_argument("--protocol", help="only results of this protocol")
    for subparser in (tables, figure, verification):
        subparser.add_argument("runs", type=Path, nargs="+", help="run folders or result files")
    for subparser in (comparison, tables, verification):
        add_format(subparser)
    for subparser in (comparison, tables, figure, verification):
        cli.add_import(subparser, import_by_option)
    for subparser in (verification, tables):  # of the configs of results, and of the league's
        add_overrides(subparser)
    return parser


def command() -> int:
    """Parse, call, print; return 1 if a verified result differs."""
    options = _parser().parse_args()
    if options.command == "verify":
        from util.report.verify import verify  # the engine needs seconds to import

        return verify(options.runs, options.format, options.overrides)
    if options.command == "figure":
        from util.report.pictures import draw_figure

        cli.outlast_output()
        print(*draw_figure(options.runs, options.episodes, options.out, options.protocol), sep="\n")
    else:
        tables = _tables(options)
        print("\n\n".join(format(each, options.format) for each in tables))
        if options.format == "csv":  # which has rows alone
            notes = dict.fromkeys(note for each in tables for note in each.notes)
            print(*notes, sep="\n", end="\n" if notes else "", file=sys.stderr)
    return 0


def _tables(options: argparse.Namespace) -> list[Table]:
    """Return the tables that a command prints: a comparison, one of all rows, or the paper's for each protocol."""
    if options.command == "compare":
        return [compare(*options.runs, output=options.output)]
    protocols = cli.comma_separated(options.protocol)
    if options.rows == "results":
        whole = result_table(options.runs, options.output, protocols)
        is_whole = options.columns == "all" or options.format == "csv"
        return [whole if is_whole else fitted(whole)]
    if options.rows == "league":
        return league_tables(options.runs, protocols, options.overrides)
    tables = paper_tables(options.runs, options.output, protocols, options.published)
    is_whole = options.columns == "all" or options.format != "markdown"
    return tables if is_whole else [part for table in tables for part in in_parts(table)]


if __name__ == "__main__":
    cli.main(command)
