"""Questions and answers: what a device may give instead of weights.

A server shows images of its own, the same to every device; a trained clone says something about each; only that goes
back. Both sides ask in the same way, so that what the clone's training changed is a plain difference.

Letters: N questions, S side in pixels, C classes or width of the encoder's vectors.
"""

import torch
from torch import Tensor

from stillhouse.methods.method import Method
from stillhouse.methods.travel import learning_encoder

QUESTIONS = "questions"
"""The one tensor of a file of questions, uint8 `[N, 3, S, S]`."""
ANSWERS = "answers"
"""The one tensor of a file of answers, float32 `[N, C]`."""
TOGETHER = 64


def say(method: Method, images: Tensor) -> Tensor:
    """What a method says about images `[B, 3, S, S]` in [0, 1]: class scores `[B, C]`, or vectors where it has none."""
    said: Tensor = (method.classifier or learning_encoder(method))(images)
    return said


@torch.no_grad()
def answer(method: Method, questions: Tensor) -> Tensor:
    """What a method in evaluation mode says about each question.

    Args:
        method: with or without class scores, on any device.
        questions: uint8 `[N, 3, S, S]`.

    Returns:
        Float32 `[N, C]` on the CPU.
    """
    device = next(method.parameters()).device
    parts = [say(method, images.to(device).float() / 255) for images in questions.split(TOGETHER)]
    return torch.cat(parts).float().cpu()
