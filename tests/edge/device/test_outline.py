"""What a recipe would build is known before anything large is allocated, and has to be what the clone holds."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save

from stillhouse.edge.device.limits import memory
from stillhouse.edge.device.outline import outline
from stillhouse.errors import SettingsError
from stillhouse.methods.travel import pack, travelling_names
from stillhouse.recipes.preparing import prepare
from stillhouse.recipes.recipe import Recipe
from stillhouse.recipes.run import alongside, as_wanted
from tests.edge.device.conftest import RECIPE

HUGE = 2**16


def recipe_of(images: Path, folder: Path, method: dict[str, Any], wanted: dict[str, Any]) -> Recipe:
    """A recipe that begins from a clone of `method`, and wants something else."""
    table = {**RECIPE, "method": method}
    made = as_wanted(table, str(images))
    with alongside(made):
        clone = folder / "clone.safetensors"
        clone.write_bytes(save(dict(pack(prepare(made).method))))
    return as_wanted({**table, **wanted, "start": {"source": str(clone)}}, str(images))


@pytest.mark.parametrize("name", ["simclr", "byol", "sdssl-mocov3", "dogo", "simclrv2-finetune"])
def test_an_outline_is_the_method_without_memory(name: str, images: Path, tmp_path: Path) -> None:
    method = RECIPE["method"] if name == "simclrv2-finetune" else {"name": name}
    recipe = recipe_of(images, tmp_path, method, {})
    outlined, made = outline(recipe), prepare(recipe).method
    assert travelling_names(outlined) == travelling_names(made)
    learning = [{name for name, p in method.named_parameters() if p.requires_grad} for method in (outlined, made)]
    assert learning[0] == learning[1]
    assert {value.device.type for value in outlined.state_dict().values()} == {"meta"}


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        ({"method": {"name": "simclr", "hidden_dim": HUGE}}, f"builds .*{HUGE}.* and the clone has"),
        (
            {"method": {"name": "simclr", "projector_layers": 10**9}},
            "projector_layers is 1000000000, and the clone has",
        ),
        ({"method": {"name": "simclr", "memory_size": 2**28}}, "MiB beside"),
        ({"encoder": {"name": "vit_base", "image_size": 16}}, "and the clone has"),
        ({"method": {"name": "byol"}}, "and the clone has nothing"),
    ],
)
def test_a_hostile_recipe_is_refused_before_it_takes_memory(
    wanted: dict[str, Any], match: str, images: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(images, tmp_path, {"name": "simclr"}, wanted)
    outline(recipe_of(images, tmp_path, {"name": "simclr"}, {}))  # whatever is loaded once is loaded
    before = memory()[1]
    with pytest.raises(SettingsError, match=match):
        outline(recipe)
    assert memory()[1] - before < 100 * 2**20
