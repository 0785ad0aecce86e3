"""From the state folder of a service to the lesson that teaches its core."""

from collections.abc import Mapping
from typing import Any

from stillhouse.config import build
from stillhouse.edge.learning.classroom import open_classroom
from stillhouse.edge.learning.teaching import EdgeConfig, Teaching
from stillhouse.edge.service.core import Beginning
from stillhouse.recipes.recipe import read_recipe


def open_teaching(beginning: Beginning) -> Teaching:
    """The lesson of a service: its images, held out and asked about as the settings say, its method, rule and weights.

    Raises:
        SettingsError, DataError: a setting of the lesson, the recipe or the images are wrong.
    """
    config = read_lesson(beginning.settings)
    room = open_classroom(read_recipe(beginning.recipe), config.held_out, config.answers.images)
    return Teaching(room, config, beginning.weights)


def read_lesson(settings: Mapping[str, Any]) -> EdgeConfig:
    """The settings of a lesson from nested plain values.

    Raises:
        SettingsError: lists every unknown key, with the nearest known one, and every wrong value.
    """
    return build(EdgeConfig, dict(settings), "lesson.")
