"""Settings of training."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

from stillhouse.training.optimizers import OptimizerName
from stillhouse.training.precision import MemoryFormat, Precision


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long, how fast and on what a method learns."""

    epochs: Annotated[float, Gt(0)] = 100.0
    """Passes over the images that are learnt from; a fraction is allowed."""
    steps: Annotated[int, Ge(0)] = 0
    """Optimizer steps, where few images make short epochs; `epochs` then follows. 0 counts in epochs."""
    batch_size: Annotated[int, Ge(2)] = 256
    """Images that see each other in a loss, over all processes."""
    accumulate: Annotated[int, Ge(1)] = 1
    """Batches whose gradients make one step; they do not see each other, so this adds no negatives."""
    learning_rate: Annotated[float, Gt(0)] = 1.5e-4
    """Peak for 256 images per step; scales with `batch_size * accumulate / 256`."""
    warmup_epochs: Annotated[float, Ge(0)] = 10.0
    """Epochs in which the learning rate rises from 0; at most half of all are taken."""
    optimizer: OptimizerName = "adamw"
    weight_decay: Annotated[float, Ge(0)] = 0.1
    weight_decay_end: Annotated[float, Gt(0)] | Literal["same"] = "same"
    """Where weight decay ends, along half a cosine; `same` keeps it. A decay that starts at 0 stays there."""
    decay_all: bool = False
    """Whether biases and norms decay as well."""
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    """Of SGD and LARS."""
    clip: Annotated[float, Ge(0)] = 0.0
    """Largest norm of the whole gradient; 0 leaves it as it is."""
    clip_each: Annotated[float, Ge(0)] = 0.0
    """Largest norm of the gradient of any one weight tensor; 0 leaves them as they are."""
    proximal: Annotated[float, Ge(0)] = 0.0
    """Pull to the weights that the run began from: its half times their squared distance is added to the loss (and not
    told among the terms), so that training elsewhere does not stray far. Source: Li et al. 2020 (FedProx)."""
    precision: Precision = "auto"
    memory_format: MemoryFormat = "auto"
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or, for one process, `cuda:1`."""
    seed: Annotated[int, Interval(ge=0, lt=2**63)] = 0
    log_steps: Annotated[int, Ge(1)] = 10
    """Steps between two lines of log.jsonl."""
    health_steps: Annotated[int, Ge(0)] = 50
    """Steps between two looks for collapse; 0 never looks."""
    checkpoint_steps: Annotated[int, Ge(0)] = 0
    """Steps between two checkpoints; 0 saves at the end of every epoch and every five minutes."""
    tensorboard: bool = False
    """Also write TensorBoard events (extra `tensorboard`)."""

    @property
    def images_per_step(self) -> int:
        """Images behind one optimizer step, over all processes."""
        return self.batch_size * self.accumulate

    def total_steps(self, steps_per_epoch: int) -> int:
        """Length of the run in optimizer steps."""
        return max(1, round(self.epochs * steps_per_epoch))

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate at the end of warm-up."""
        return self.learning_rate * self.images_per_step / 256

    @property
    def final_weight_decay(self) -> float:
        """The weight decay of the last step."""
        return self.weight_decay if self.weight_decay_end == "same" else self.weight_decay_end
