"""Pages from the templates beside this file."""

from pathlib import Path
from typing import Any

import jinja2

from levyjepa.report import figures, pictures


def render(name: str, **values: Any) -> str:
    """Fill a template; all of them extend `base.html`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shade"] = lambda colour: figures.VARIABLES.get(colour, colour)
    return environment.get_template(name).render(
        palette=list(enumerate(figures.PALETTE)), ramp=", ".join(pictures.ramp()), **values
    )
