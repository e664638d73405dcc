"""Results: ``python -m util.report compare A B``, ``table [--per-class] RUNS``, ``figures`` and ``verify``."""

from pathlib import Path

from util import cli
from util.report.charts import write_charts
from util.report.compare import compare
from util.report.figure import SUFFIXES
from util.report.paper_table import class_table, table
from util.report.schema import find_results
from util.report.scores import FINAL
from util.report.table import add_format


def command() -> int:
    """Parse, call, print; return 1 if a verified result differs."""
    parser = cli.Parser(prog="python -m util.report", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    pair = commands.add_parser("compare", help="paired difference of results on the same episodes")
    pair.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="A B",
        help="results, their folders, or manifests with counts; A B A B for several training runs of both systems",
    )
    pair.add_argument(
        "--output", default=FINAL, help="output of the model: final, meta, ...; meta:final compares A's meta, B's final"
    )
    many = commands.add_parser("table", help="the paper's table of all results below some folders")
    many.add_argument("--per-class", action="store_true", help="the IoU of each class of each fold instead")
    many.add_argument("--protocol", help="only results of this protocol")
    many.add_argument("--output", default=FINAL, help="output of the model: final, meta, ...")
    drawn = commands.add_parser("figures", help="the curve and the bars of all results below some folders, beside them")
    drawn.add_argument("--figures", choices=SUFFIXES, default="pdf", help="their format")
    checked = commands.add_parser("verify", help="whether results can be trusted: counts, lists, episodes and weights")
    for one in (many, drawn, checked):
        one.add_argument("runs", type=Path, nargs="+", help="run folders or result files")
    for one in (pair, many, checked):
        add_format(one)
    options = parser.parse_args()
    if options.command == "verify":
        from util.evaluate.verify import verify  # the engine needs seconds to import

        return verify(options.runs, options.format)
    if options.command == "compare":
        print(format(compare(*options.runs, output=options.output), options.format))
    elif options.command == "figures":
        for path in find_results(options.runs):
            print("\n".join(map(str, write_charts(path.parent, options.figures))))
    else:
        made = (class_table if options.per_class else table)(options.runs, options.output, options.protocol)
        print(format(made, options.format))
    return 0


if __name__ == "__main__":
    cli.main(command)
