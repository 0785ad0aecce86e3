"""A page that needs no other file and no network: the style inside, and a policy that forbids everything else."""

import base64
import hashlib
import html
from collections.abc import Sequence
from pathlib import Path
from string import Template

from stillhouse.report.markup import Html

HERE = Path(__file__).parent
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def framed(title: str, body: Html, data: Html = Html(""), scripts: Sequence[str] = (), style: str = "") -> str:  # noqa: B008
    """The whole page as text; no script runs but those given.

    Args:
        title: of the window, plain text.
        body: what is seen.
        data: elements that the scripts read.
        scripts: JavaScript, run in order.
        style: rules beside those of the house.
    """
    safe = [script.replace("</script", "<\\/script") for script in scripts]
    allowed = f"; script-src {' '.join(map(_hash, safe))}" if safe else ""
    return Template(packaged("page.html")).substitute(
        policy=POLICY + allowed,
        title=html.escape(title),
        style=packaged("style.css") + style,
        body=body,
        scripts=data + "".join(f"\n<script>{script}</script>" for script in safe),
    )


def packaged(name: str) -> str:
    """The text of a file that lies beside this one."""
    return (HERE / name).read_text("utf-8")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
