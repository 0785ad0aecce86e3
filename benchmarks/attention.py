"""Attention on short sequences: the plain form against torch's fused kernel, forward and backward.

    python benchmarks/attention.py [--out FILE]

`stillhouse.networks.vit.attend` takes the plain form on a CPU in bfloat16, which is timed here; elsewhere it takes the
fused kernel itself.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from stillhouse.networks.vit import attend
from timing import Bar, Row, Table, measure, parser, prepare, ratio, report

CASES = ((17, 3, 32, 256), (65, 3, 32, 256), (65, 6, 32, 64), (197, 3, 64, 32))
"""Tokens, heads, width of a head, images: patches of 8 and 4 px at 32 px (micro, tiny), of 16 px at 224."""
BAR = Bar(1.0)


def step_of(attention: Callable[[Tensor, Tensor, Tensor], Tensor], rows: Tensor) -> Callable[[], None]:
    """Forward and backward from a tensor of query, key and value, as a block lays them out."""

    def step() -> None:
        rows.grad = None
        query, key, value = rows.permute(2, 0, 3, 1, 4)
        attention(query, key, value).float().square().mean().backward()

    return step


def compare(case: tuple[int, int, int, int], rounds: int, device: torch.device) -> Row:
    """Time one length."""
    tokens, heads, width, images = case
    rows = torch.randn(images, tokens, 3, heads, width, device=device, dtype=torch.bfloat16, requires_grad=True)
    works = {
        "fused": step_of(F.scaled_dot_product_attention, rows),
        "stillhouse": step_of(attend, rows),
    }
    times = measure(works, rounds, device, repeats=3)
    share = ratio(times["stillhouse"], times["fused"])
    return {
        "tokens": str(tokens),
        "heads x width": f"{heads} x {width}",
        "images": str(images),
        "fused, ms": 1e3 * min(times["fused"]),
        "stillhouse, ms": 1e3 * min(times["stillhouse"]),
        "stillhouse / fused": share,
        "bar": BAR.judge(share),
    }


def main() -> None:
    """Measure, print, and write where asked."""
    chosen = parser("Time attention on short sequences.", rounds=8).parse_args()
    device = prepare()
    rows = [compare(case, chosen.rounds, device) for case in CASES]
    report([Table("Attention in bfloat16, forward and backward", rows)], device, chosen.out)


if __name__ == "__main__":
    main()
