"""Five steps of every method at a fixed seed: a change that should change nothing leaves these numbers alone.

In float64, since the last bits of float32 are each processor's own, and some networks soon make much of them.
"""

import pytest

from tests.methods.conftest import MakeMethod
from tests.methods.test_contract import learn

GOLDEN = {
    "simclr": [2.90013, 3.52782, 3.48164, 4.05205, 4.60278],
    "byol": [3.70349, 4.05832, 3.7094, 3.60087, 3.93349],
    "mocov3": [2.20048, 1.84954, 2.48298, 1.82097, 2.04974],
    "dino": [2.78693, 2.89074, 2.70363, 2.72931, 2.6699],
    "sdssl-simclr": [3.7151, 3.45036, 4.00091, 5.23765, 4.4072],
    "sdssl-byol": [12.72673, 12.43819, 13.00357, 13.01383, 12.74465],
    "sdssl-mocov3": [7.10523, 6.27803, 7.09108, 7.89083, 8.33454],
    "simreg": [1.9278, 1.90781, 1.85628, 1.80433, 1.78828],
    "seed": [2.85515, 2.68843, 2.93975, 3.02057, 3.06881],
    "compress": [0.97661, 0.41398, 0.08888, 0.04842, 0.06163],
    "crd-supervised": [12.58034, 9.91918, 6.96601, 5.14041, 5.44137],
    "crd": [14.15242, 12.0799, 7.15504, 4.65162, 4.79077],
    "simclrv2-finetune": [0.9634, 0.92012, 0.91194, 0.91126, 0.86612],
    "simclrv2-distill": [1.00186, 1.26322, 1.11504, 1.02562, 1.04284],
    "dogo": [7.64723, 8.36668, 8.3012, 8.4656, 8.60862],
    "disco": [121.11346, 112.22503, 107.44056, 102.96877, 99.35589],
    "esvit": [2.85835, 3.97894, 3.43377, 3.14839, 3.08719],
}
SUMS = {
    "simclr + seed": [4.39709, 5.13589, 4.9212, 6.06168, 5.7801],
    "sdssl-byol + simreg": [13.6786, 13.35771, 13.94154, 14.01007, 13.64737],
}


def test_every_method_has_its_numbers() -> None:
    from stillhouse.methods.table import METHODS

    assert set(GOLDEN) == set(METHODS)


@pytest.mark.parametrize("name", [*GOLDEN, *SUMS])
def test_five_golden_steps(name: str, make_method: MakeMethod) -> None:
    assert learn(make_method(name).double(), 5) == pytest.approx((GOLDEN | SUMS)[name], abs=1e-5, rel=1e-6)
