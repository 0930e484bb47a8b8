"""What every template can use besides its own context: filters, and the macros of chips.

The app and the notebook views both render the templates of this package with it.
"""

from json import JSONEncoder

from jinja2 import Environment

from webapp import chips, drawing, formatting
from webapp.inside import numbers


def configure(environment: Environment) -> None:
    """Add the filters and macros to an environment that finds the templates."""
    environment.trim_blocks = environment.lstrip_blocks = True
    # The filter tojson, for attributes: compact, because every token carries its candidates.
    to_json = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    environment.policies.update({"json.dumps_function": to_json, "json.dumps_kwargs": {}})
    environment.filters.update(
        colour=chips.colour,
        plural=formatting.plural,
        thousands=formatting.thousands,
        weight_class=drawing.weight_class,
        **{one.__name__: one for one in numbers.FILTERS},
    )
    # The macros of chips are globals, because a template would import them for every token.
    strip = environment.get_template("parts/strip.html").module
    for name in ("chip_group", "step_text", "still_chip", "token_chip"):
        environment.globals[name] = getattr(strip, name)
