"""Five steps of every method at a fixed seed: a change that should change nothing leaves these numbers alone."""

import pytest

from tests.methods.conftest import MakeMethod
from tests.methods.test_contract import learn

GOLDEN = {
    "simclr": [3.69264, 4.06579, 3.19587, 3.8159, 2.79294],
    "byol": [4.3592, 3.93848, 4.06361, 3.7937, 3.81992],
    "mocov3": [2.41003, 2.14002, 2.15094, 2.18067, 2.27477],
    "sdssl-simclr": [3.30826, 4.00579, 3.80606, 4.75282, 5.33977],
    "sdssl-byol": [12.92157, 11.60266, 12.69381, 12.6455, 13.40756],
    "sdssl-mocov3": [7.27993, 5.49515, 6.22023, 7.63501, 7.81118],
}


def test_every_method_has_its_numbers() -> None:
    from stillhouse.methods.table import METHODS

    assert set(GOLDEN) == set(METHODS)


@pytest.mark.parametrize("name", GOLDEN)
def test_five_golden_steps(name: str, make_method: MakeMethod) -> None:
    assert learn(make_method(name), 5) == pytest.approx(GOLDEN[name], rel=2e-4)
