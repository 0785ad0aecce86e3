"""The order of work: sorted by the turn of the hue, and nothing lost on the way to a device."""

import dataclasses

import torch

from stillhouse.data.draws import HUE, Draws, sample
from stillhouse.data.views import ASYMMETRIC_PAIR
from stillhouse.data.worksheet import pack, plan_work, unpack


def decide(count: int) -> tuple[Draws, torch.Tensor]:
    sizes = torch.randint(20, 700, (count, 2), generator=torch.Generator().manual_seed(0))
    return Draws.join(sample(ASYMMETRIC_PAIR, 224, sizes, torch.arange(count), 0, 0)), sizes


def test_a_packed_sheet_comes_back_exactly() -> None:
    sheet, _ = plan_work(*decide(500), 256)
    back = unpack(pack(sheet), sheet)
    for field in dataclasses.fields(sheet):
        first, second = getattr(sheet, field.name), getattr(back, field.name)
        assert first.dtype == second.dtype, field.name
        assert torch.equal(first, second), field.name


def test_groups_hold_the_views_whose_hue_turns_then() -> None:
    draws, sizes = decide(200)
    sheet, ends = plan_work(draws, sizes, 256)
    work = torch.argsort(sheet.place)
    assert torch.equal(work.sort().values, torch.arange(400))
    assert torch.equal(sheet.source, work % 200)
    for slot, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        rows = work[start:end]
        assert bool(draws.jitter[rows].all())
        assert bool((draws.order[rows, slot] == HUE).all())
    assert not bool(draws.jitter[work[ends[-1] :]].any())
    assert torch.equal(draws.blur[sheet.blur_views], torch.ones(len(sheet.blur_views), dtype=torch.bool))
    assert len(sheet.blur_views) == int(draws.blur.sum())
