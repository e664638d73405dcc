"""What ``test.sh`` shows at its end: tables of its results, their charts, and pictures of episodes."""

from collections.abc import Sequence
from pathlib import Path

from util.evaluate.schema import read_result
from util.files.errors import UserError
from util.report.figure import draw_charts
from util.report.one_result import protocol_table, summary
from util.report.pictures import draw_episodes


def show_results(paths: Sequence[Path], suffix: str = "png", form: str = "markdown") -> None:
    """Print the tables of results, draw their charts and the episodes that their tests kept, and print the files.

    A line says where photos of episodes are missing; several results of one run have a table of them all.

    Args:
        paths: of the results.
        suffix: see ``write_figure``.
        form: of tables, one of ``util.report.table.FORMATS``.
    """
    results = []
    for path in paths:
        result = read_result(path)
        results.append(result)
        print(summary(result, form))
        print(*draw_charts(path, suffix), sep="\n")
        try:
            print(*draw_episodes(path, suffix), "", sep="\n", flush=True)
        except UserError as error:
            print(f"no pictures of episodes: {error}\n", flush=True)
    runs = {(result["dataset"], result["run"], result["fold"]) for result in results}
    if len(results) > 1 == len(runs):
        print(format(protocol_table(results), form), flush=True)
