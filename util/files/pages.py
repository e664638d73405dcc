"""HTML from templates: what is filled in is data of a script, so that no name of a file or a class is read as HTML."""

import json
from string import Template
from typing import Any


def page_of(template: str, **data: Any) -> str:
    """Return a template with data in place of its $names: as JSON, which cannot end the script around it."""
    return Template(template).substitute(
        {name: json.dumps(value).replace("<", "\\u003c") for name, value in data.items()}
    )
