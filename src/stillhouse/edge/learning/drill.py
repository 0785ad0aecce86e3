"""What both distillers do with a student and a loss: a short training on the server's own images."""

import math

from stillhouse.edge.learning.classroom import Classroom
from stillhouse.edge.learning.descent import Loss, descend, hold_norms, in_precision, recompute_norms
from stillhouse.edge.learning.settings import DistillingConfig
from stillhouse.methods.method import Method
from stillhouse.schedules import cosine
from stillhouse.training.optimizers import make_optimizer


def drill(student: Method, room: Classroom, config: DistillingConfig, loss: Loss, seed: int) -> None:
    """Train a student for as long, and with its statistics of norms treated, as the settings say.

    Args:
        student: in training mode; changed.
        room: whose images it sees.
        config: length, rate, optimizer and norms.
        loss: from a batch and the progress to what is minimized.
        seed: of the order of the images and of their views.

    Raises:
        TrainingError: the loss was not finite.
    """
    stream = room.stream(student, config.batch_size, seed)
    steps = math.ceil(config.epochs * stream.steps_per_epoch)
    optimizer = make_optimizer(
        config.optimizer, student, weight_decay=config.weight_decay, momentum=config.momentum, decay_all=True
    )
    if config.norms == "still":
        hold_norms(student)
    precise = in_precision(loss, room.training.precision, room.device)
    descend(student, stream.batches(0), precise, optimizer, cosine(config.learning_rate, 0.0), steps)
    if config.norms == "batch":
        recompute_norms(student, stream.batches(steps), stream.steps_per_epoch)
