"""`stillhouse ...`: each command imports what it needs when it is called, so that help answers at once."""

import contextlib
import errno
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from stillhouse.cli.arguments import RunFolder, named
from stillhouse.cli.comparing import compare
from stillhouse.cli.edge import app as edge_app
from stillhouse.cli.embeddings import COMMANDS as EMBEDDINGS
from stillhouse.cli.exports import COMMANDS as EXPORTS
from stillhouse.errors import Interrupted, RunError, StillhouseError

app = typer.Typer(
    help="Train small vision encoders from unlabelled images, and see how good they are at every depth.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(edge_app, name="edge")

RecipeName = Annotated[str, typer.Argument(help="A shipped recipe (see `stillhouse recipes`) or a .toml file.")]
Data = Annotated[
    str,
    typer.Option(
        "--data", help="Images: folder, list.txt, x.parquet, shards-{000..099}.tar, or the built-in scenes, digits."
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Run directory to make.", parser=named, metavar="FOLDER")]
Teachers = Annotated[
    list[str],
    typer.Option(
        "--teacher",
        help="Frozen teacher, where the method has one: run directory, timm:NAME, torchvision:NAME, network's name; "
        "may be repeated where it learns from several.",
    ),
]
TeacherWeights = Annotated[
    str,
    typer.Option("--teacher-weights", help="Weights of the first: safetensors or state dict; else its library's own."),
]
Start = Annotated[str, typer.Option("--start", help="Run directory whose weights training begins from.")]
Labels = Annotated[
    str, typer.Option("--labels", help="Labels that are known: a share (1%) or a number (250), alike of every class.")
]
RequireLicense = Annotated[
    str, typer.Option("--require-license", help="`permissive` refuses a teacher that is not known to be.")
]
Settings = Annotated[list[str], typer.Option("--set", help="Any setting, as a.b=c; may be repeated.")]


@app.command()
def demo(out: Out = Path("runs/demo")) -> None:
    """Built-in images, no download: train, evaluate, report, in a few minutes."""
    from stillhouse.cli.demo import run_demo

    run_demo(out)


@app.command()
def train(
    recipe: RecipeName,
    out: Out,
    data: Data = "",
    teacher: Teachers = [],  # noqa: B006 (typer copies)
    teacher_weights: TeacherWeights = "",
    start: Start = "",
    require_license: RequireLicense = "",
    settings: Settings = [],  # noqa: B006 (typer copies)
) -> None:
    """Train an encoder by a recipe; without labels, unless its method learns from them."""
    from stillhouse.cli.terminal import Terminal
    from stillhouse.config import parse_assignment
    from stillhouse.recipes.run import train as train_run

    named = {
        "source": teacher[0] if teacher else "",
        "more": [{"source": source} for source in teacher[1:]],
        "weights": teacher_weights,
        "require_license": require_license,
    }
    changes = {f"teacher.{key}": value for key, value in named.items() if value}
    changes |= {"start.source": start} if start else {}
    with Terminal() as terminal:
        run = train_run(recipe, data, out, changes | dict(map(parse_assignment, settings)), [terminal])
    _say(f"trained: {run.encoder_folder}\nnext: stillhouse evaluate {out} --data URI; stillhouse report {out}")


@app.command()
def resume(run_folder: RunFolder) -> None:
    """Continue a run exactly where it stopped."""
    from stillhouse.cli.terminal import Terminal
    from stillhouse.recipes.run import resume as resume_run

    with Terminal() as terminal:
        run = resume_run(run_folder, [terminal])
    _say(f"trained: {run.encoder_folder}")


@app.command()
def finetune(
    run_folder: RunFolder,
    out: Out,
    data: Data,
    labels: Labels = "",
    settings: Settings = [],  # noqa: B006 (typer copies)
) -> None:
    """Learn classes from few labels, from a middle layer of a run's projection head."""
    from stillhouse.cli.terminal import Terminal
    from stillhouse.config import parse_assignment
    from stillhouse.recipes.run import train as train_run

    changes = {"start.source": str(run_folder), **({"data.labelled": labels} if labels else {})}
    with Terminal() as terminal:
        run = train_run("simclrv2-finetune", data, out, changes | dict(map(parse_assignment, settings)), [terminal])
    _say(f"trained: {run.classifier_folder}\nnext: stillhouse evaluate {out} --data URI")


@app.command()
def pipeline(
    name: Annotated[str, typer.Argument(help="simclrv2: pretrain, finetune, distill.")],
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the stages' run directories.", parser=named, metavar="FOLDER")
    ],
    data: Data,
    labels: Labels = "",
    settings: Annotated[
        list[str],
        typer.Option("--set", help="A setting of a stage, as pretrain.training.epochs=5, or data.limit=1000."),
    ] = [],  # noqa: B006 (typer copies)
) -> None:
    """Several recipes in order; the same command goes on where it stopped."""
    from stillhouse.cli.terminal import Terminal
    from stillhouse.config import parse_assignment
    from stillhouse.recipes.pipeline import plan

    stages = plan(name, data, out, labels, dict(map(parse_assignment, settings)))
    for number, stage in enumerate(stages, 1):
        _say(f"stage {number} of {len(stages)}: {stage.name}")
        with Terminal() as terminal:
            trained = stage.advance([terminal])
        _say(f"trained: {stage.run.folder}" if trained else f"finished before: {stage.run.folder}")
    _say(f"next: stillhouse evaluate {stages[-1].run.folder} --data URI")


@app.command()
def evaluate(
    run_folder: RunFolder,
    data: Annotated[str, typer.Option("--data", help="Images to judge on (test images).")],
    train: Annotated[
        str, typer.Option("--train", help="Labelled images to learn from; the run's own if left out.")
    ] = "",
    suite: Annotated[
        str, typer.Option("--suite", help="quick, or full: also few and wrong labels, spectra, layers, retrieval.")
    ] = "quick",
    peer: Annotated[
        bool, typer.Option("--peer", help="Judge the second of two networks that learned together.")
    ] = False,
    settings: Settings = [],  # noqa: B006 (typer copies)
) -> None:
    """k-NN and linear probe of every depth, beside raw pixels and the untrained network."""
    from stillhouse.cli.tables import evaluation_table
    from stillhouse.cli.terminal import working
    from stillhouse.config import parse_assignment
    from stillhouse.recipes.judging import evaluate_run

    with working("evaluating") as told:
        evaluation = evaluate_run(
            run_folder, data, train, dict(map(parse_assignment, settings)), told, peer=peer, suite=suite
        )
    evaluation_table(evaluation)
    written = "evaluation-peer.json" if peer else "evaluation.json"
    _say(f"written: {run_folder / written}\nnext: stillhouse report {run_folder}")


for command in (*EMBEDDINGS, *EXPORTS):
    app.command()(command)


@app.command()
def report(run_folder: RunFolder) -> None:
    """One self-contained HTML page about a run."""
    from stillhouse.report import write_report

    _say(f"written: {write_report(run_folder)}")


app.command()(compare)


@app.command()
def methods() -> None:
    """All methods, with their sources."""
    from stillhouse.cli.tables import methods_table

    methods_table()


@app.command()
def recipes(name: Annotated[str, typer.Argument(help="Show this one as TOML.")] = "") -> None:
    """All shipped recipes, with what they reached; or one of them, whole."""
    from stillhouse.cli.tables import recipes_table, show_recipe

    if name:
        show_recipe(name)
    else:
        recipes_table()


def main() -> None:
    """Run a command; a mistake that a user can mend is one message and an exit code, never a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)  # training handles signals itself, once there is something to save
    try:
        app(standalone_mode=True)
    except StillhouseError as error:
        _tell(f"{'' if isinstance(error, Interrupted) else 'error: '}{error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _tell("stopped at once; the last checkpoint, if there is one, is intact")
        sys.exit(Interrupted.exit_code)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EIO):  # not whoever reads our output, but a path
            _tell(f"error: {error}; check the path")
            sys.exit(RunError.exit_code)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _tell(f"error: the output cannot be written ({error})")
        sys.exit(1)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):
        typer.echo(_printable(text), err=True)


def _say(text: str) -> None:
    from stillhouse.distributed import is_main

    if is_main():
        typer.echo(_printable(text))


def _printable(text: str) -> str:
    """File names may hold bytes that are no text."""
    return text.encode(errors="backslashreplace").decode()
