"""The ring of past rows."""

import torch
from torch.nn import functional as F

from stillhouse.networks.queue import Queue


def numbered(*values: int) -> torch.Tensor:
    """Rows along different directions of the half circle, one per number."""
    angles = torch.tensor(values, dtype=torch.float32) / 20
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_rows_wait_until_the_step_is_over() -> None:
    queue = Queue(4, 2)
    before = queue.rows.clone()
    queue.add(numbered(1, 2))
    assert torch.equal(queue.rows, before)
    queue.advance()
    torch.testing.assert_close(queue.rows[:2], numbered(1, 2))
    assert torch.equal(queue.rows[2:], before[2:])
    queue.advance()
    assert int(queue.position) == 2


def test_the_oldest_make_room_also_when_the_size_is_no_multiple_of_the_batch() -> None:
    queue = Queue(5, 2)
    for start in (0, 3, 6, 9):
        queue.add(numbered(start, start + 1, start + 2))
        queue.advance()
    assert int(queue.position) == 12 % 5
    torch.testing.assert_close(queue.rows, numbered(10, 11, 7, 8, 9))


def test_more_rows_than_places_leave_the_newest() -> None:
    queue = Queue(3, 2)
    queue.add(numbered(0, 1, 2, 3))
    queue.add(numbered(4, 5, 6, 7))
    queue.advance()
    kept = {tuple(row) for row in queue.rows.tolist()}
    assert kept == {tuple(row) for row in numbered(5, 6, 7).tolist()}
    assert int(queue.position) == 8 % 3


def test_rows_are_unit_float32_without_gradient_and_saved() -> None:
    queue = Queue(4, 2)
    rows = (5 * numbered(1, 2)).to(torch.bfloat16).requires_grad_()
    queue.add(rows)
    queue.advance()
    assert queue.rows.dtype == torch.float32
    assert not queue.rows.requires_grad
    torch.testing.assert_close(queue.rows.norm(dim=1), torch.ones(4))
    other = Queue(4, 2)
    other.load_state_dict(queue.state_dict())
    for each in (queue, other):
        each.add(F.normalize(torch.ones(3, 2), dim=1))
        each.advance()
    assert torch.equal(queue.rows, other.rows)
    assert torch.equal(queue.position, other.position)
