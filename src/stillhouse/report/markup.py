"""Writing HTML so that text is escaped unless it is HTML already."""

import html
from collections.abc import Iterable


class Html(str):
    """Text that is HTML already; any other text is escaped when it enters an element."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str) -> Html:
    """An element; `class_` is the attribute class, `aria_label` is aria-label."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items()
    )
    return Html(f"<{name}{written}>{joined(children)}</{name}>")


def joined(children: Iterable[str]) -> Html:
    """Children in a row."""
    return Html("".join(child if isinstance(child, Html) else html.escape(child) for child in children))


def picture(source: str, description: str, class_: str) -> Html:
    """An image from a data URI."""
    return Html(f'<img src="{html.escape(source)}" alt="{html.escape(description)}" class="{html.escape(class_)}">')
