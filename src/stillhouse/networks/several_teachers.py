"""Frozen teachers beside the first, for methods that learn from several."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from annotated_types import Interval

from stillhouse.networks.foreign import TeacherConfig, absolute_source, open_teacher
from stillhouse.networks.teacher import FrozenTeacher


@dataclass(frozen=True, kw_only=True)
class TeachersConfig(TeacherConfig):
    """Which frozen networks teach: one, and others where the method learns from several."""

    more: tuple[TeacherConfig, ...] = ()
    """Further teachers, each with settings of its own; what the first requires of licences holds for all."""
    cache: Literal["off", "on", "auto"] = "off"
    """`on` keeps the teacher's answers on disk, for which views repeat; `auto` does so where it saves time."""
    cache_epochs: Annotated[int, Interval(ge=1, le=10_000)] = 10
    """Epochs of views that are kept and then shown again and again; at most those of the run."""
    cache_dtype: Literal["fp16", "fp32"] = "fp32"
    """How a number is kept: half the room, or the very same losses."""


def open_teachers(config: TeachersConfig) -> tuple[list[FrozenTeacher], TeachersConfig]:
    """Open the first teacher and all further ones; their settings with everything found out written down.

    Raises:
        SettingsError: as in `open_teacher`, for any of them.
    """
    required = config.require_license
    first = open_teacher(config)
    others = [open_teacher(replace(each, require_license=each.require_license or required)) for each in config.more]
    found = {name: getattr(first.config, name) for name in ("image_size", "digest", "license")}
    written = replace(config, **found, more=tuple(each.config for each in others))
    return [each.frozen() for each in (first, *others)], written


def absolute_sources(config: TeachersConfig) -> TeachersConfig:
    """The same teachers, named so that they are found from any working directory."""
    return replace(absolute_source(config), more=tuple(map(absolute_source, config.more)))
