"""Named choices of what is measured: settings of the evaluation, over which a user's own are laid."""

from collections.abc import Mapping
from typing import Any

from stillhouse.errors import SettingsError

SUITES: Mapping[str, Mapping[str, Any]] = {
    "quick": {},
    "full": {
        "evaluation.few_labels": ["1 per class", "5 per class", "10 per class", "10%"],
        "evaluation.label_noise": [0.4],
        "evaluation.protocols": ["confusion", "spectrum", "cka", "retrieval"],
    },
}


def settings_of(name: str) -> Mapping[str, Any]:
    """What a suite sets, by dotted names.

    Raises:
        SettingsError: there is no such suite.
    """
    if name not in SUITES:
        raise SettingsError(f"--suite {name}: no such suite; choose {' or '.join(SUITES)}")
    return SUITES[name]
