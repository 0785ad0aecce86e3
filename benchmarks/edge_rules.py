"""Rules by which clones teach a core: which forgets under label skew, which does not?

    python benchmarks/edge_rules.py --splits iid dirichlet-0.3 --rules default fedasync --runs runs.json --out rules.md

Ten classes, each a mixture of normal clouds in 27 dimensions that are the pixels of images of 3 x 3; a network with two
hidden layers. The server holds 600 labelled images and 200 more to decide by, ten users hold 600 each, and all users
train at the same time, so that a clone that comes back is about nine versions old. The rules and the lesson are those
of `stillhouse.edge`; a run takes seconds. Prints accuracy on 2,000 test images after the last visit and the worst on
the way, in percent, mean over seeds.
"""

import argparse
import json
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stillhouse.data.cachefile import Catalog
from stillhouse.data.labels import find_labels
from stillhouse.data.pixels import HeldStore
from stillhouse.data.views import View, ViewPlan
from stillhouse.edge.learning.classroom import Classroom, seeded
from stillhouse.edge.learning.distiller import DistillingConfig
from stillhouse.edge.learning.splits import dirichlet, few_classes, identical
from stillhouse.edge.learning.teaching import EdgeConfig, Teaching, TrialConfig
from stillhouse.edge.lesson import Arrival, State
from stillhouse.edge.questions import answer
from stillhouse.edge.simulation.studying import LocalConfig, study
from stillhouse.edge.simulation.world import Exam, World
from stillhouse.methods.finetune import FineTune, FineTuneConfig
from stillhouse.methods.method import Method
from stillhouse.networks.plain import PlainEncoder
from stillhouse.training.settings import TrainingConfig
from timing import Row, Table, prepare, report

CLASSES, CLOUDS, SIDE, NOISE, SCALE = 10, 5, 3, 1.2, 24.0
SERVER, DECIDING, USERS, EACH, TEST = 600, 200, 10, 600, 2000
AS_IT_IS = ViewPlan(
    views=(View(min_area=1.0, aspect=(1.0, 1.0), flip=0.0, jitter=0.0, grayscale=0.0, blur=0.0),),
)
CORE = TrainingConfig(
    epochs=60, batch_size=64, learning_rate=0.4, warmup_epochs=0, optimizer="sgd", weight_decay=5e-4, decay_all=True,
    precision="fp32", memory_format="contiguous",
)  # fmt: skip
UNSEEN = TrialConfig(shares=())
LOCAL = LocalConfig(steps=5 * EACH // 64, batch_size=64, learning_rate=0.02)
"""Alike for all, however many images they hold."""


@dataclass(frozen=True)
class Contestant:
    """A rule, how many clones wait for each other, the pull of a user's training to its beginning, and what is sent."""

    config: EdgeConfig
    waiting: int = 1
    proximal: float = 0.0
    asked: int = 0
    """Images of the server's that are set apart, and about which users answer instead of sending weights."""

    def room_of(self, room: Classroom) -> Classroom:
        """The server's classroom, with the questions set apart."""
        return replace(room, learnt=room.learnt[self.asked :], asked=room.learnt[: self.asked])


def distilling(**settings: Any) -> EdgeConfig:
    """The default rule with other settings."""
    return EdgeConfig(distilling=replace(DistillingConfig(batch_size=64), **settings))


OURS = distilling()
PAPERS: dict[str, object] = {
    "target": "clone", "student": "core", "strengths": "equal", "listen": "everywhere", "attend": 0.7, "epochs": 10.0
}  # fmt: skip
RULES: dict[str, Contestant] = {
    "extra epochs": Contestant(replace(OURS, rule="rehearse", trial=UNSEEN)),
    "fedasync": Contestant(EdgeConfig(rule="fedasync", trial=UNSEEN)),
    "fedbuff, ten wait": Contestant(EdgeConfig(rule="fedbuff", trial=UNSEEN), waiting=10),
    "feddf, ten wait": Contestant(replace(OURS, rule="feddf", trial=UNSEEN), waiting=10),
    "cloned": Contestant(replace(distilling(**PAPERS), trial=UNSEEN)),
    "buffered": Contestant(replace(distilling(**PAPERS, retain=3.0), trial=UNSEEN)),
    "residual, outputs only": Contestant(distilling(student="core", attend=0.7, decay="constant")),
    "merged only": Contestant(distilling(epochs=0.0)),
    "merged, no attending": Contestant(distilling(attend=0.0)),
    "merged, attend everywhere": Contestant(distilling(listen="everywhere")),
    "default, not centred": Contestant(distilling(centred=False)),
    "default, no trial": Contestant(replace(OURS, trial=UNSEEN)),
    "default": Contestant(OURS),
    "default, five wait": Contestant(OURS, waiting=5),
    "default, ten wait": Contestant(OURS, waiting=10),
    "default, proximal": Contestant(OURS, proximal=0.1),
    "default, answers": Contestant(OURS, asked=200),
}


SPLITS: dict[str, Callable[[Tensor, int, int], list[Tensor]]] = {
    "iid": lambda labels, users, seed: identical(labels, users, seed),
    "dirichlet-1": lambda labels, users, seed: dirichlet(labels, users, 1.0, seed),
    "dirichlet-0.3": lambda labels, users, seed: dirichlet(labels, users, 0.3, seed),
    "dirichlet-0.1": lambda labels, users, seed: dirichlet(labels, users, 0.1, seed),
    "two-classes": lambda labels, users, seed: few_classes(labels, users, 2, seed),
}


def make_world(split: str, seed: int, users: int = USERS, each: int = EACH) -> World:
    """Draw the clouds, the images and who holds what: so many users hold so many images each, in the mean."""
    draw = np.random.default_rng(seed)
    count, width = SERVER + DECIDING + users * each + TEST, 3 * SIDE * SIDE
    centres = draw.normal(size=(CLASSES, CLOUDS, width))
    labels = np.arange(count) % CLASSES  # every part holds all classes alike
    points = centres[labels, draw.integers(0, CLOUDS, count)] + NOISE * draw.normal(size=(count, width))
    pixels = np.clip(np.round(128 + SCALE * points), 0, 255).astype(np.uint8).reshape(count, SIDE, 3, SIDE)
    names = [str(number) for number in range(count)]
    sizes = np.full((count, 2), SIDE, dtype=np.int64)
    catalog = Catalog(names, labels.astype(np.int64), sizes, tuple(map(str, range(CLASSES))), ())
    store = HeldStore(pixels, catalog, labels=True)
    learnt, deciding, owned, test = torch.arange(count).split([SERVER, DECIDING, users * each, TEST])

    def build(chosen: int) -> Method:
        with seeded(chosen, torch.device("cpu")):
            network = nn.Sequential(
                nn.Flatten(), nn.Linear(width, 64), nn.ReLU(inplace=True), nn.Linear(64, 64), nn.ReLU(inplace=True)
            )
            encoder = PlainEncoder(network, SIDE, (128 / 255,) * 3, (SCALE / 255,) * 3)
            config = FineTuneConfig(head_layer=0, zero_output=False, views=AS_IT_IS)
            return FineTune(config, encoder, nn.Sequential(), find_labels(store))

    hands = SPLITS[split](store.labels[owned], users, seed)
    room = Classroom(build, store, learnt, deciding, SIDE, replace(CORE, seed=seed))
    return World(room, [owned[hand] for hand in hands], Exam(room, store, test, find_labels(store).of[test]))


def run(world: World, contestant: Contestant, first: State, visits: int, seed: int) -> list[float]:
    """Test accuracy of the first core and after every lesson."""
    room = contestant.room_of(world.room)
    teaching = Teaching(room, contestant.config)
    first = teaching.start().state if contestant.asked else first  # trained on what is left

    core, version, history = first, 0, [world.exam.mark(first).accuracy]
    out = dict.fromkeys(range(USERS), (core, 0))
    shuffle, waiting = random.Random(seed), list[Arrival]()
    order = [user for _ in range(visits) for user in shuffle.sample(range(USERS), USERS)]
    for visit, user in enumerate(order):
        base, base_version = out[user]
        seed_here = room.seed_of(1_000_000 + 1_000 * user + visit)
        state = study(room, world.hands[user], base, replace(LOCAL, proximal=contestant.proximal), seed_here)
        said = answer(room.frozen(state), room.questions) if contestant.asked else None
        sent = {} if contestant.asked else state
        waiting.append(Arrival(str(user), base_version, version - base_version, sent, base, said))
        if len(waiting) == contestant.waiting:
            version += 1
            core, waiting = teaching.teach(core, waiting, version).state, []
            history.append(world.exam.mark(core).accuracy)
        out[user] = core, version
    return history


Histories = dict[str, list[float]]
"""For `split/seed/rule` the accuracy of the first core and after every lesson."""


def main() -> None:
    """Compare the rules that are asked for on the splits that are asked for."""
    arguments = options().parse_args()
    device, names = prepare(), ["core only", *arguments.rules]
    done: Histories = json.loads(arguments.runs.read_text()) if arguments.runs and arguments.runs.exists() else {}
    for split in arguments.splits:
        for seed in range(arguments.seeds):
            complete(done, split, seed, names, arguments)
    chosen = {
        name: {split: [done[f"{split}/{seed}/{name}"] for seed in range(arguments.seeds)] for split in arguments.splits}
        for name in names
    }
    title = f"{arguments.visits} visits of each of {USERS} users, {arguments.seeds} seeds"
    rows = [row(name, scores) for name, scores in chosen.items()]
    report(
        [Table(f"test accuracy in %, after the last visit / worst on the way; {title}", rows)], device, arguments.out
    )


def complete(done: Histories, split: str, seed: int, names: Sequence[str], arguments: argparse.Namespace) -> None:
    """Run what is missing of one split and seed; every run is kept as soon as it is over."""
    missing = [name for name in names if f"{split}/{seed}/{name}" not in done]
    if not missing:
        return
    world = make_world(split, seed)
    first = Teaching(world.room, OURS).start().state
    for name in missing:
        visits = 0 if name == "core only" else arguments.visits
        history = run(world, RULES.get(name, Contestant(OURS)), first, visits, seed)
        done[f"{split}/{seed}/{name}"] = history
        print(f"{split}, seed {seed}, {name}: {100 * history[-1]:.1f}, worst {100 * min(history):.1f}", flush=True)
        if arguments.runs:
            arguments.runs.write_text(json.dumps(done))


def row(name: str, scores: Mapping[str, list[list[float]]]) -> Row:
    """One line of the table."""
    cells: Row = {"rule": name}
    for split, histories in scores.items():
        last, worst = (statistics.mean(pick) for pick in ([h[-1] for h in histories], [min(h) for h in histories]))
        cells[split] = f"{100 * last:.1f} / {100 * worst:.1f}"
    return cells


def options() -> argparse.ArgumentParser:
    """Of the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS))
    made.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--visits", type=int, default=3, help="of each user (%(default)s)")
    made.add_argument("--runs", type=Path, help="file of runs that are done; those that are there are not repeated")
    made.add_argument("--out", type=Path, help="also write the table to this .md or .json file")
    return made


if __name__ == "__main__":
    main()
