"""The first core, where none is given: trained as any run is trained, on what the server may learn from."""

import copy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from stillhouse.data.stream import ViewStream
from stillhouse.edge.learning.classroom import Classroom, seeded
from stillhouse.edge.lesson import State
from stillhouse.errors import Interrupted
from stillhouse.methods.travel import pack
from stillhouse.training.checkpoint import Checkpoints, TrainingState
from stillhouse.training.loop import Loop
from stillhouse.training.optimizers import make_optimizer
from stillhouse.training.settings import TrainingConfig


def train_first(room: Classroom) -> State:
    """The weights that training gives.

    Raises:
        Interrupted: a signal came; nothing is kept.
        TrainingError: the loss was not finite.
    """
    seed = room.seed_of(0)
    with seeded(seed, room.device), TemporaryDirectory() as folder:
        method = copy.deepcopy(room.template)
        stream = room.stream(method, room.training.batch_size, seed, room.training.accumulate)
        training = _lasting(room.training, stream)
        optimizer = make_optimizer(
            training.optimizer,
            method,
            weight_decay=training.weight_decay,
            momentum=training.momentum,
            decay_all=training.decay_all,
        )
        loop = Loop(method, stream, optimizer, training, Checkpoints(Path(folder)), room.device)
        try:
            loop.run(TrainingState())
        except Interrupted as stop:
            raise Interrupted("edge: stopped while the first core was trained; begin again") from stop
    return pack(method)


def _lasting(training: TrainingConfig, stream: ViewStream) -> TrainingConfig:
    """The same training for the images of this stream; a length in steps is written out in epochs."""
    epochs = training.steps / stream.steps_per_epoch if training.steps else training.epochs
    return replace(training, epochs=epochs, batch_size=stream.batch_size, checkpoint_steps=2**62)
