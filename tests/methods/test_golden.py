"""Five steps of every method at a fixed seed: a change that should change nothing leaves these numbers alone."""

import pytest

from tests.methods.conftest import MakeMethod
from tests.methods.test_contract import learn

GOLDEN = {
    "simclr": [2.90013, 3.52784, 3.4816, 4.05207, 4.60279],
    "byol": [3.70349, 4.05832, 3.7094, 3.60087, 3.93349],
    "mocov3": [2.20047, 1.84954, 2.48298, 1.82097, 2.04974],
    "sdssl-simclr": [3.71511, 3.45036, 4.00091, 5.23765, 4.4072],
    "sdssl-byol": [12.72673, 12.43819, 13.00356, 13.01383, 12.74464],
    "sdssl-mocov3": [7.10523, 6.27803, 7.09109, 7.89083, 8.33455],
    "simreg": [1.9278, 1.90781, 1.85628, 1.80433, 1.78828],
    "seed": [2.85515, 2.68843, 2.93975, 3.02057, 3.06881],
    "compress": [0.97661, 0.41398, 0.08888, 0.04842, 0.06164],
    "crd": [14.15242, 12.0799, 7.15504, 4.65162, 4.79077],
    "dino": [2.78693, 2.89074, 2.70363, 2.72931, 2.6699],
    "dogo": [7.64724, 8.3668, 8.31474, 8.48411, 8.50334],
    "simclrv2-finetune": [0.90915, 0.74852, 0.76585, 0.80528, 1.04324],
    "simclrv2-distill": [1.00186, 1.26322, 1.11504, 1.02562, 1.04284],
    "disco": [121.11346, 112.22502, 107.44055, 102.96877, 99.35589],
}


def test_every_method_has_its_numbers() -> None:
    from stillhouse.methods.table import METHODS

    assert set(GOLDEN) == set(METHODS)


@pytest.mark.parametrize("name", GOLDEN)
def test_five_golden_steps(name: str, make_method: MakeMethod) -> None:
    assert learn(make_method(name), 5) == pytest.approx(GOLDEN[name], rel=2e-4)
