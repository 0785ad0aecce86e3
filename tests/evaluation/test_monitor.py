"""The monitor: honest parts of the training set, the same numbers at every look, no trace."""

from dataclasses import dataclass

import pytest
import torch

from stillhouse.errors import DataError
from stillhouse.evaluation.config import EvaluationConfig
from stillhouse.evaluation.features import extract
from stillhouse.evaluation.knn import classify
from stillhouse.evaluation.monitor import HealthMonitor, Monitor
from stillhouse.networks.encoder import Encoder
from tests.evaluation.made_up import make_encoder, make_store

CONFIG = EvaluationConfig(bank_size=30, query_size=9, k=4)


@dataclass(frozen=True)
class Seen:
    encoder: Encoder


def test_bank_and_queries_are_labelled_disjoint_and_seeded() -> None:
    store = make_store([0, 1, 2, -1] * 20)
    monitor = Monitor(store, CONFIG)
    bank, queries = set(monitor.bank.tolist()), set(monitor.queries.tolist())
    assert (len(bank), len(queries)) == (30, 9)
    assert not bank & queries
    assert (store.labels[list(bank | queries)] >= 0).all()
    assert torch.equal(Monitor(store, CONFIG).bank, monitor.bank)
    other = EvaluationConfig(bank_size=30, query_size=9, seed=1)
    assert not torch.equal(Monitor(store, other).bank, monitor.bank)


def test_a_small_store_is_shared_one_to_four() -> None:
    monitor = Monitor(make_store([0, 1] * 10), EvaluationConfig())
    assert (len(monitor.bank), len(monitor.queries)) == (16, 4)


def test_record_holds_the_accuracy_of_every_block() -> None:
    store, encoder = make_store([0, 1, 2] * 20), make_encoder()
    monitor = Monitor(store, CONFIG)
    encoder.train()
    encoder.frozen.eval()
    state = torch.get_rng_state()
    record = monitor.look(Seen(encoder))
    assert record == monitor.look(Seen(encoder))
    assert torch.equal(torch.get_rng_state(), state)
    assert encoder.training
    assert not encoder.frozen.training
    bank, queries = extract(encoder, store, monitor.bank), extract(encoder, store, monitor.queries)
    expected = [
        (classify(asked, known, bank.labels, k=4, temperature=0.07) == queries.labels).double().mean().item()
        for known, asked in zip(bank.blocks, queries.blocks, strict=True)
    ]
    assert record == {
        "kind": "knn", "blocks": expected, "k": 4, "temperature": 0.07, "bank": 30, "queries": 9, "score": expected[-1],
    }  # fmt: skip


def test_without_labels_there_is_nothing_to_watch() -> None:
    blind = make_store([-1] * 10, classes=())
    assert not Monitor.can_watch(blind)
    assert not Monitor.can_watch(make_store([1, 1, -1]))
    assert Monitor.can_watch(make_store([1, 0, -1]))
    with pytest.raises(DataError, match=r"0 have a label.*set evaluation.every=0"):
        Monitor(blind, CONFIG)


def test_health_needs_no_labels() -> None:
    record = HealthMonitor(make_store([-1] * 40, classes=()), CONFIG).look(Seen(make_encoder()))
    assert record["kind"] == "health"
    assert record["dim"] == 12
    assert 0 <= record["spread"] <= 1
    assert -1 <= record["recognition"] <= 1
    assert "known again in another view" in record["sentence"]
