"""HTML from templates: whatever is filled in is text, so that no name of a file or a class is read as HTML."""

import html
import json
from string import Template
from typing import Any


class Html(str):
    """HTML that ``html_of`` has made."""


def html_of(template: str, **values: object) -> Html:
    """Return a template with values in place of their $names: escaped as text, unless they are ``Html``."""
    texts = {name: value if isinstance(value, Html) else html.escape(str(value)) for name, value in values.items()}
    return Html(Template(template).substitute(texts))


def data_of_script(value: Any) -> Html:
    """Return plain data as JSON that may stand within a script: it cannot end it."""
    return Html(json.dumps(value).replace("<", "\\u003c"))
