"""The teacher cache of a run: filled before training, checked against the teacher, and replayed beside the views.

A view follows from seed, epoch and image. Where the views of a few epochs are shown again and again, a frozen teacher
has to answer about each of them once.

Letters: B images of a batch, V views of an image, R images of a file, D width of the teacher.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property

import torch
from torch import Tensor

from stillhouse.config import to_table
from stillhouse.data.answers import AnswerFiles, Part, Replay
from stillhouse.data.augment import augment
from stillhouse.data.sources import digest, open_source
from stillhouse.data.store import ImageStore
from stillhouse.data.stream import ViewStream
from stillhouse.data.views import ViewPlan
from stillhouse.distributed import agree, barrier, is_main, rank, world_size
from stillhouse.errors import RunError, SettingsError
from stillhouse.networks.teacher import FrozenTeacher
from stillhouse.recipes.recipe import Recipe
from stillhouse.training.precision import autocast

Tell = Callable[[str], None]

NUM_COMPARED = 64
"""Views about which the teacher is asked again at every start."""
TOLERANCE = {"fp32": 1e-5, "bf16": 2e-2}
"""Largest distance to the teacher's answer of now, in lengths of it, by precision: other batch sizes may sum in another
order (on a CPU 1e-6 was seen)."""
TOLERANCE_ON_GPU = 5e-3
"""The same for fp32 on a GPU, whose convolutions may round to 10 bits."""
TOLERANCE_OF_FP16 = 1e-3
"""What keeping numbers in 11 bits adds."""
NUMBERS_AT_ONCE = {"cpu": 1 << 17, "cuda": 1 << 24}
"""Of the images that the teacher sees together while the cache is filled; fetching more memory costs a CPU time."""


@dataclass(frozen=True)
class TeacherCache:
    """What a frozen teacher says about the views of some epochs, and all that this follows from."""

    recipe: Recipe
    store: ImageStore
    plan: ViewPlan
    teacher: FrozenTeacher
    device: torch.device

    @property
    def epochs(self) -> int:
        """Epochs of views that are kept."""
        return self.recipe.teacher.cache_epochs

    @cached_property
    def files(self) -> AnswerFiles:
        """Where it is kept. The number of epochs is not part of the name: runs share those that both want."""
        recipe, teacher = self.recipe, self.recipe.teacher
        origin = {
            "teacher": teacher.digest,
            "teacher_size": teacher.image_size,
            "teacher_modality": teacher.modality,
            "images_digest": digest([open_source(recipe.data.uri).fingerprint, self.store.size, *self.store.ids]),
            "view_plan": json.dumps(to_table(self.plan)),
            "view_sizes": list(self.plan.sizes(recipe.encoder.image_size)),
            "seed": recipe.training.seed,
            "precision": recipe.training.precision,
            "device": self.device.type,
        }
        return AnswerFiles(origin, len(self.store), self.plan.num_views, self.teacher.dim, teacher.cache_dtype)

    @property
    def tolerance(self) -> float:
        """Largest distance of an answer that was kept to that of now, in lengths of the latter."""
        precision, dtype = self.recipe.training.precision, self.recipe.teacher.cache_dtype
        rounded = self.device.type == "cuda" and precision == "fp32"
        arithmetic = TOLERANCE_ON_GPU if rounded else TOLERANCE[precision]
        return arithmetic + (TOLERANCE_OF_FP16 if dtype == "fp16" else 0.0)

    def views(self, index: Tensor, pixels: Tensor, epoch: int) -> tuple[Tensor, ...]:
        """The views that training shows of the images `[B]` in an epoch."""
        size, seed = self.recipe.encoder.image_size, self.recipe.training.seed
        return augment(pixels, self.store.sizes[index], index, self.plan, size, seed, epoch)

    def ask(self, views: Iterable[Tensor]) -> list[Tensor]:
        """What the teacher says about each view, `[B, D]`, in the precision of training."""
        with torch.no_grad(), autocast(self.recipe.training.precision, self.device):
            return [self.teacher(view) for view in views]

    def teach(self, stream: ViewStream, tell: Tell) -> ViewStream:
        """The stream with answers beside its views, which come again after so many epochs.

        Raises:
            RunError: the disk refuses, or the files do not say what the teacher says.
            SettingsError: numbers are too large to be kept.
        """
        self.fill(tell)
        side = self.teacher.image_size
        (sample,) = self.ask([torch.zeros(2, 3, side, side, device=self.device)])
        replay = self.files.open(self.epochs, self.device, sample.dtype)
        self.compare(replay)
        return replace(stream, view_epochs=self.epochs, answers=replay)

    def fill(self, tell: Tell) -> None:
        """Make every file that is missing or damaged; each process makes its share, and other runs wait meanwhile."""
        self.files.claim()
        with self.files.lock() as take:
            waits = False
            while agree(is_main() and not take())[0]:
                if not waits:
                    tell("teacher cache: another process is filling it; waiting")
                waits = True
                time.sleep(0.5)
            if is_main():
                self.files.clear_away()
            barrier()
            mine = self.files.parts(self.epochs)[rank() :: world_size()]
            mine = [part for part in mine if not self.files.is_whole(part)]
            started, told = time.monotonic(), 0
            for done, part in enumerate(mine, start=1):
                self.files.write(part, self._answers(part))
                if 10 * done // len(mine) > told and done < len(mine):
                    told = 10 * done // len(mine)
                    left = (time.monotonic() - started) * (len(mine) / done - 1)
                    tell(f"teacher cache: {done / len(mine):.0%} filled, {timedelta(seconds=round(left))} left")
            barrier()

    def compare(self, replay: Replay) -> None:
        """Ask the teacher again about some views, spread over images and epochs.

        Raises:
            RunError: an answer differs by more than `tolerance`; says which file to delete.
        """
        num_images = len(self.store)
        count = min(self.epochs * num_images, -(-NUM_COMPARED // self.plan.num_views))
        chosen = torch.linspace(0, self.epochs * num_images - 1, count, dtype=torch.float64).long()
        for epoch in (chosen // num_images).unique().tolist():
            index = chosen[chosen // num_images == epoch] % num_images
            views = self.views(index, self.store.gather(index), epoch)
            for kept, now in zip(replay(epoch, index), self.ask(views), strict=True):
                now = now.float()
                far = (kept.float() - now).norm(dim=1) / now.norm(dim=1).clamp_min(1e-12)
                if not bool((far <= self.tolerance).all()):
                    worst = int(far.nan_to_num(torch.inf).argmax())
                    self._refuse(epoch, int(index[worst]), float(far[worst]))

    def _refuse(self, epoch: int, image: int, distance: float) -> None:
        parts = self.files.parts(self.epochs)
        wrong = next(part for part in parts if part.epoch == epoch and part.start <= image < part.stop)
        raise RunError(
            f"teacher.cache: {self.files.path(wrong)} is not what the teacher says about image {image} in epoch "
            f"{epoch} (off by {distance:.1e} of its length, at most {self.tolerance:.1e} is rounding); delete it "
            "or its folder and start again: what is missing is made anew"
        )

    def _answers(self, part: Part) -> Tensor:
        """What a file holds, `[V, R, D]` on the CPU; the batches do not depend on the run, so neither do the bits."""
        side, half = self.teacher.image_size, self.files.dtype == "fp16"
        batch_size = max(8, min(1024, NUMBERS_AT_ONCE[self.device.type] // (3 * side * side)))
        chunks = torch.arange(part.start, part.stop).split(batch_size)
        found = []
        for index, pixels in zip(chunks, self.store.batches(chunks), strict=True):
            said = torch.stack(self.ask(self.views(index, pixels, part.epoch)))
            found.append(said.to(torch.float16 if half else torch.float32).cpu())
        answers = torch.cat(found, dim=1)
        if not bool(answers.isfinite().all()):
            raise SettingsError(
                "teacher.cache_dtype: a number that the teacher says is too large for fp16; set fp32"
                if half
                else "teacher.source: the teacher says numbers that are not finite; choose another teacher"
            )
        return answers
