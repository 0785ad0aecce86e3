"""A scenario: who takes part, what happens to them, and which rules are held against each other.

[about]                  words
[data]                   images: of the server, of the users, of the test
[users] [time] [churn]   who holds what, how long they take, how they come and go
[attackers] [local]      who means no good; how users train
[visits]                 when it is over
[encoder] [method] [training]    the core, as in any recipe
[lesson] [leases]        how the core is taught, and the service's terms
[contestants.NAME]       what is different for one of the contestants
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval, Len
from pydantic import BeforeValidator

from stillhouse.config import Table, assign, check, merge, parse_toml, to_table, unknown_key
from stillhouse.edge.learning.attackers import ATTACKS
from stillhouse.edge.learning.teaching import EdgeConfig
from stillhouse.edge.service.leases import LeaseConfig
from stillhouse.edge.simulation.studying import DATA_ATTACKS, LocalConfig
from stillhouse.errors import SettingsError
from stillhouse.recipes.recipe import Recipe, read_recipe

Share = Annotated[float, Interval(ge=0, lt=1)]
KINDS = (*ATTACKS, *DATA_ATTACKS)
RECIPE = ("encoder", "method", "training")
"""Groups that are read as those of a recipe."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What a scenario is for; words only."""

    name: str = ""
    """The shipped one's, or the file's."""
    summary: str = ""
    expected: str = ""
    """What came out, in how long, by which command."""


@dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """Labelled images of everybody. The server's are drawn first, alike of every class; users share the others."""

    uri: str = ""
    test: Annotated[str, BeforeValidator(str)] = "1000"
    """URI of the images that scores are told of and nothing is decided by; or a number of those behind `uri`."""
    test_limit: Annotated[int, Ge(0)] = 0
    """Images of a test URI that are used; 0 uses all."""
    server: Annotated[int, Ge(4)] = 1000
    """Images of the server; `lesson.held_out` of them decide, and the others are learnt from."""
    limit: Annotated[int, Ge(0)] = 0
    """Images behind `uri` that are used; 0 uses all."""


@dataclass(frozen=True, kw_only=True)
class UsersConfig:
    """Who takes part, and which images each holds."""

    number: Annotated[int, Ge(1)] = 10
    """Users that ever take part."""
    split: Literal["iid", "dirichlet", "classes"] = "iid"
    """All classes alike; shares of every class from a Dirichlet distribution; or a few classes each."""
    alpha: Annotated[float, Gt(0)] = 0.3
    """Of `dirichlet`: the smaller, the more skew."""
    classes: Annotated[int, Ge(1)] = 2
    """Of `classes`: how many each user holds."""
    images: Annotated[int, Ge(0)] = 0
    """Images of each user, in the mean; 0 deals out all that are left."""


@dataclass(frozen=True, kw_only=True)
class TimeConfig:
    """How long things take, in seconds of the virtual clock."""

    step: Annotated[float, Gt(0)] = 1.0
    """One local step of a usual user."""
    spread: Annotated[float, Interval(ge=0, le=10)] = 0.5
    """Deviation of the logarithm of users' seconds per step, normally distributed around `step`."""
    delay: Annotated[float, Ge(0)] = 10.0
    """Mean of the time that a visit takes beside training, exponentially distributed."""
    slow: Annotated[int, Ge(0)] = 0
    """Users that are slow all along."""
    slower: Annotated[float, Ge(1)] = 12.0
    """How many times longer slow ones take for a step."""
    lesson: Annotated[float, Ge(0)] = 0.0
    """One lesson at the server, which does one after the other."""


@dataclass(frozen=True, kw_only=True)
class ChurnConfig:
    """How users come and go. Whoever left never comes again; newcomers are those of `users.number` not seen yet."""

    live: Annotated[int, Ge(0)] = 0
    """Users there at the beginning, and at most at any time; 0 is all."""
    leaving: Annotated[float, Ge(0)] = 0.0
    """Share of the live users that leave in a minute, in the middle of whatever they do."""
    arriving: Annotated[float, Ge(0)] = 0.0
    """Users that come in a minute, if there is room for them."""
    lost: Share = 0.0
    """Share of visits whose clone never comes back; the user asks for another one when it would have."""


@dataclass(frozen=True, kw_only=True)
class AttackersConfig:
    """Users who mean no good, from their first visit to their last."""

    share: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Of all users, rounded."""
    kinds: Annotated[tuple[str, ...], Len(1)] = ("sign_flip",)
    """What they do, in turn: attacks on weights (`edge.learning.attackers`), `label_flip`, `random_labels` or
    `backdoor`."""

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                near = difflib.get_close_matches(kind, KINDS, 1, 0.0)[0]
                raise ValueError(f"no attack is called {kind}; did you mean {near}? (known: {', '.join(KINDS)})")


@dataclass(frozen=True, kw_only=True)
class VisitsConfig:
    """When a run is over: when one of these is reached, or nobody is left."""

    each: Annotated[int, Ge(0)] = 3
    """Returns of every user, and attempts that it had to give up; 0 sets no limit."""
    total: Annotated[int, Ge(0)] = 0
    """The same of all users together; 0 sets no limit."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One way to teach the core."""

    lesson: EdgeConfig
    """The scenario's `lesson`, with what is different here."""
    waiting: Annotated[int, Ge(1)] = 1
    """Returns that wait for each other and teach together."""
    proximal: Annotated[float, Ge(0)] | Literal["same"] = "same"
    """Pull of a user's training to where it began, in place of `local.proximal`."""
    allowed_fall: Annotated[float, Ge(0)] | Literal["same"] = "same"
    """How far the core may fall on images held out, in place of `leases.allowed_fall`; 1 keeps whatever comes."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Every setting of a simulation."""

    about: About = About()
    data: ImagesConfig = ImagesConfig()
    users: UsersConfig = UsersConfig()
    time: TimeConfig = TimeConfig()
    churn: ChurnConfig = ChurnConfig()
    attackers: AttackersConfig = AttackersConfig()
    local: LocalConfig = field(default_factory=LocalConfig)
    visits: VisitsConfig = VisitsConfig()
    lesson: EdgeConfig = field(default_factory=EdgeConfig)
    leases: LeaseConfig = field(default_factory=LeaseConfig)
    seeds: Annotated[int, Ge(1)] = 1
    """How often everything is repeated with other draws: seeds 0, 1, ..."""
    recipe: Recipe
    """Of the core; its `training.seed` is the run's."""
    contestants: Mapping[str, Contestant]

    def to_table(self) -> Table:
        """The scenario as nested plain values, from which `read_scenario` reads the same one."""
        table = {name: to_table(getattr(self, name)) for name in _GROUPS}
        core = self.recipe.to_table()
        table |= {name: core[name] for name in RECIPE} | {"seeds": self.seeds}
        return table | {"contestants": {name: to_table(entry) for name, entry in self.contestants.items()}}


_GROUPS: dict[str, type] = {
    "about": About,
    "data": ImagesConfig,
    "users": UsersConfig,
    "time": TimeConfig,
    "churn": ChurnConfig,
    "attackers": AttackersConfig,
    "local": LocalConfig,
    "visits": VisitsConfig,
    "lesson": EdgeConfig,
    "leases": LeaseConfig,
}


@dataclass(frozen=True, kw_only=True)
class _Seeds:
    seeds: Annotated[int, Ge(1)] = 1


def read_scenario(table: Table) -> Scenario:
    """Check a table and make the scenario of it.

    Raises:
        SettingsError: lists every unknown key, with the nearest known one, and every wrong value.
    """
    known = [*_GROUPS, *RECIPE, "seeds", "contestants"]
    problems = [unknown_key(key, known) for key in table if key not in known]
    groups: dict[str, Any] = {}
    for name, kind in _GROUPS.items():
        groups[name], found = check(kind, table.get(name, {}), f"{name}.")
        problems += found
    counted, found = check(_Seeds, {"seeds": table["seeds"]} if "seeds" in table else {})
    problems += found
    contestants, found = _read_contestants(table.get("contestants", {}), table.get("lesson", {}))
    problems += found
    recipe = None
    try:
        recipe = read_recipe({name: table[name] for name in RECIPE if name in table})
    except SettingsError as error:
        problems.append(str(error))
    if recipe is None or counted is None or problems:
        raise SettingsError("\n".join(problems))
    scenario = Scenario(recipe=recipe, contestants=contestants, seeds=counted.seeds, **groups)
    _check(scenario)
    return scenario


def _read_contestants(tables: Any, lesson: Any) -> tuple[dict[str, Contestant], list[str]]:
    """Every contestant's lesson is the common one with what it names laid over it."""
    if not isinstance(tables, dict) or not tables:
        return {}, ["contestants: none named; write a group [contestants.NAME] for each, empty for the default rule"]
    contestants: dict[str, Contestant] = {}
    problems: list[str] = []
    for name, table in tables.items():
        prefix = f"contestants.{name}."
        if not name.replace("-", "").replace("_", "").isalnum():
            problems.append(f"contestants.{name}: names a folder; use letters, digits, dashes and underscores")
        if isinstance(table, dict) and isinstance(lesson, dict):
            own = table.get("lesson", {})
            table = {**table, "lesson": merge(lesson, own) if isinstance(own, dict) else own}
        made, found = check(Contestant, table, prefix)
        problems += [problem for problem in found if problem.replace(prefix, "", 1) not in problems]
        if made is not None:
            contestants[name] = made
    return contestants, problems


def _check(scenario: Scenario) -> None:
    """Raise `SettingsError` where settings contradict each other, or would be read by nobody."""
    for name in ("at_least", "together"):
        if (number := getattr(scenario.leases, name)) != getattr(LeaseConfig, name):
            raise SettingsError(
                f"leases.{name}: {number}, and a contestant says so itself; set contestants.NAME.waiting"
            )
    scenario.leases.check()
    lessons = {"": scenario.lesson, **{f"contestants.{key}.": one.lesson for key, one in scenario.contestants.items()}}
    for prefix, lesson in lessons.items():
        if lesson.answers.images:
            raise SettingsError(
                f"{prefix}lesson.answers.images: {lesson.answers.images} questions, and users of a simulation return "
                "weights; set it to 0"
            )
    if scenario.time.slow > scenario.users.number:
        raise SettingsError(
            f"time.slow: {scenario.time.slow} of {scenario.users.number} users; lower it, or raise users.number"
        )
    if scenario.recipe.method.companions & {"teacher", "teachers"}:
        raise SettingsError("method.name: it needs a teacher, which users do not have; choose another method")
    spoilt = [kind for kind in scenario.attackers.kinds if kind in DATA_ATTACKS]
    if scenario.attackers.share and spoilt and "labels" not in scenario.recipe.method.companions:
        raise SettingsError(
            f"attackers.kinds: {spoilt[0]} changes labels, and {scenario.recipe.method.title} learns without; "
            "choose an attack on weights"
        )
    if not (scenario.visits.each or scenario.visits.total):
        raise SettingsError("visits: neither each nor total is set, and it would never end; set one of them")
    for name, contestant in scenario.contestants.items():
        if contestant.lesson.held_out != scenario.lesson.held_out:
            raise SettingsError(
                f"contestants.{name}.lesson.held_out: all contestants begin from one core; set lesson.held_out instead"
            )


def shipped_scenarios() -> dict[str, Table]:
    """All scenarios inside the package, by name."""
    folder = resources.files("stillhouse.edge.simulation") / "shipped"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda entry: entry.name)
    return {entry.name.removesuffix(".toml"): parse_toml(entry.read_text(), entry.name) for entry in files}


def find_scenario(name: str, settings: Mapping[str, Any] | None = None) -> Scenario:
    """A shipped scenario, or one of a .toml file, with settings laid over it.

    Args:
        name: of the scenario, or path of the file.
        settings: dotted names to values.

    Raises:
        SettingsError: there is no such scenario or file, or a setting is wrong.
    """
    shipped = shipped_scenarios()
    if name in shipped:
        table = shipped[name]
    elif name.endswith(".toml"):
        try:
            table = parse_toml(Path(name).read_text(encoding="utf-8-sig"), name)
        except (OSError, ValueError) as error:
            raise SettingsError(f"{name}: cannot be read ({error}); check the path") from error
    else:
        near = difflib.get_close_matches(name, shipped, 1, 0.0)[0]
        raise SettingsError(
            f"scenario {name}: not shipped; did you mean {near}? (shipped: {', '.join(shipped)}; or give a .toml file)"
        )
    if isinstance(table.get("about", {}), dict):
        table = {**table, "about": {"name": Path(name).stem, **table.get("about", {})}}
    for key, value in (settings or {}).items():
        table = assign(table, key, value)
    return read_scenario(table)
