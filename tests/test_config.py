"""Settings: read, checked all at once, written back."""

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from annotated_types import Ge

from stillhouse.config import assign, build, differences, merge, parse_assignment, parse_toml, to_table, to_toml
from stillhouse.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A group inside a list."""

    size: Annotated[int, Ge(1)] = 8


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A group."""

    rate: Annotated[float, Ge(0)] = 0.5
    kind: Literal["one", "two"] = "one"


@dataclass(frozen=True, kw_only=True)
class Outer:
    """A tree."""

    epochs: int = 1
    inner: Inner = Inner()
    crops: tuple[Crop, ...] = (Crop(), Crop(size=4))


def test_a_tree_survives_toml() -> None:
    settings = Outer(epochs=7, inner=Inner(rate=1e-4, kind="two"))
    assert build(Outer, parse_toml(to_toml(to_table(settings)), "here")) == settings
    odd = {"text": 'a "quoted"\n\\ line \x7f é', "empty": [], "deep": {"list": [{"a": 1}, {"a": 2}]}}
    assert parse_toml(to_toml(odd), "here") == odd


def test_all_problems_at_once_with_the_nearest_key() -> None:
    table = {"epoch": 3, "inner": {"rate": -1, "kind": "three", "rat": 2}, "crops": [{"sizes": 3}, {"size": 0}]}
    with pytest.raises(SettingsError) as caught:
        build(Outer, table)
    message = str(caught.value)
    for part in (
        "epoch: no such setting; did you mean epochs?",
        "inner.rat: no such setting; did you mean inner.rate?",
        "inner.rate: input should be greater than or equal to 0, found -1",
        "inner.kind:",
        "crops.0.sizes: no such setting; did you mean crops.0.size?",
        "crops.1.size:",
    ):
        assert part in message
    assert len(message.splitlines()) == 6


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_are_finite(value: float) -> None:
    with pytest.raises(SettingsError, match=r"inner.rate: .*found (nan|inf)"):
        build(Outer, {"inner": {"rate": value}})


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("a.b=0.2", ("a.b", 0.2)),
        ("a=true", ("a", True)),
        ("a=[1, 2]", ("a", [1, 2])),
        ("a=vit_tiny", ("a", "vit_tiny")),
        ("a=timm:x=y", ("a", "timm:x=y")),
        ("a =  1e-3 ", ("a", 1e-3)),
        ("a=", ("a", "")),
        ('a="1"', ("a", "1")),
    ],
)
def test_assignments(assignment: str, expected: tuple[str, object]) -> None:
    assert parse_assignment(assignment) == expected


@pytest.mark.parametrize("assignment", ["a.b", "=3", ""])
def test_assignments_that_are_none(assignment: str) -> None:
    with pytest.raises(SettingsError, match="no setting and value"):
        parse_assignment(assignment)


def test_assigning_reaches_groups_and_lists_and_leaves_the_old_table_alone() -> None:
    table = {"a": {"b": 1}, "crops": [{"size": 1}, {"size": 2}]}
    assert assign(table, "a.c.d", 5) == {"a": {"b": 1, "c": {"d": 5}}, "crops": [{"size": 1}, {"size": 2}]}
    assert assign(table, "crops.1.size", 9)["crops"] == [{"size": 1}, {"size": 9}]
    assert table == {"a": {"b": 1}, "crops": [{"size": 1}, {"size": 2}]}
    with pytest.raises(SettingsError, match="single value"):
        assign(table, "a.b.c", 1)
    with pytest.raises(SettingsError, match="2 entries"):
        assign(table, "crops.2.size", 1)


def test_merging_and_differences() -> None:
    old = {"a": {"b": 1, "c": 2}, "d": [1]}
    new = merge(old, {"a": {"c": 3}, "e": "x"})
    assert new == {"a": {"b": 1, "c": 3}, "d": [1], "e": "x"}
    assert differences(old, new) == ["a.c: 2 became 3", "e: 'absent' became 'x'"]
    assert differences(new, new) == []


def test_broken_toml_says_where() -> None:
    with pytest.raises(SettingsError, match=r"my\.toml: not valid TOML .*line 2"):
        parse_toml("a = 1\nb = = 2", "my.toml")
