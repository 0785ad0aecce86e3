"""Values of the files that the page reads."""

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

Tree = Mapping[str, Any]  # a table of TOML or an object of JSON


def _number(value: object) -> object:
    return math.nan if value is None else value


Number = Annotated[float, BeforeValidator(_number)]  # a JSON null is a number that was not finite
