"""Segment in photos the objects marked on others: ``python predict.py --checkpoint C --support P:M --query Q``."""

from util import requirements

if __name__ == "__main__":
    requirements.check()

import sys

from photos.command import parser, predict, prediction_options, publish, refuse_label_studio
from photos.options import LabelStudioOptions, ServerOptions, options_of
from util import cli


def command(arguments: list[str]) -> int:
    """Run a command line and return the exit code; what exports and servers need is imported for them alone."""
    if arguments[:1] == ["export"]:
        from photos.export.export import export

        return export(arguments[1:])
    if arguments[:1] == ["publish"]:
        return publish(arguments[1:])
    parsed = parser().parse_args(arguments)
    if parsed.label_studio:
        from photos.labelstudio.server import serve as serve_label_studio

        return serve_label_studio(options_of(LabelStudioOptions, parsed))
    if parsed.serve:
        from photos.page.server import serve

        refuse_label_studio(parsed)
        return serve(options_of(ServerOptions, parsed))
    return predict(prediction_options(parsed))


if __name__ == "__main__":
    cli.main(lambda: command(sys.argv[1:]))
