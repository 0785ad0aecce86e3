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

from stillhouse.cli.edge import app as edge_app
from stillhouse.cli.embeddings import COMMANDS as EMBEDDINGS
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
RunFolder = Annotated[Path, typer.Argument(help="A run directory.")]
Data = Annotated[
    str,
    typer.Option(
        "--data", help="Images: folder, list.txt, x.parquet, shards-{000..099}.tar, or the built-in scenes, digits."
    ),
]


def _folder(text: str) -> Path:
    if not text:
        raise typer.BadParameter("no folder named; choose one, for instance runs/first")
    return Path(text)


Out = Annotated[Path, typer.Option("--out", help="Run directory to make.", parser=_folder, metavar="FOLDER")]
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
        Path, typer.Option("--out", help="Folder of the stages' run directories.", parser=_folder, metavar="FOLDER")
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
        evaluation = evaluate_run(run_folder, data, train, dict(map(parse_assignment, settings)), told, peer=peer)
    evaluation_table(evaluation)
    written = "evaluation-peer.json" if peer else "evaluation.json"
    _say(f"written: {run_folder / written}\nnext: stillhouse report {run_folder}")


for command in EMBEDDINGS:
    app.command()(command)


@app.command()
def export(
    run_folder: RunFolder,
    to: Annotated[str, typer.Option("--to", help="onnx, timm or torch; safetensors are in the run already.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to make.", parser=_folder, metavar="FOLDER")],
    data: Annotated[
        str, typer.Option("--data", help="Images to verify on and to scale int8 by; the run's own if left out.")
    ] = "",
    exits: Annotated[
        list[int],
        typer.Option("--exit", help="Depth to give, from 1; the last if left out; may be repeated. Blocks above go."),
    ] = [],  # noqa: B006 (typer copies)
    precision: Annotated[str, typer.Option("--precision", help="float32; of onnx also float16 or int8.")] = "float32",
    license: Annotated[str, typer.Option("--license", help="Of the weights, for the card.")] = "unknown",  # noqa: A002
    data_license: Annotated[
        str, typer.Option("--data-license", help="Of the images it learnt from, for the card.")
    ] = "unknown",
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
) -> None:
    """An encoder that other programs run, verified against the live one."""
    from stillhouse.cli.tables import export_table
    from stillhouse.cli.terminal import working
    from stillhouse.recipes.exporting import export_encoder

    with working("exporting") as told:
        exported = export_encoder(
            run_folder, to, out, data=data, exits=exits, precision=precision,  # type: ignore[arg-type]
            license=license, data_license=data_license, force=force, progress=told,
        )  # fmt: skip
    export_table(exported)
    _say(f"written: {exported.file} ({exported.size_bytes / 1e6:.2f} MB)\nload: {exported.load}")


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="A run directory, or an export.")],
    name: Annotated[str, typer.Argument(help="OWNER/NAME of a model repository of the hub.")],
    public: Annotated[bool, typer.Option("--public", help="Show a repository that is made to everybody.")] = False,
    license: Annotated[str, typer.Option("--license", help="Of the weights of a run, for the card.")] = "",  # noqa: A002
    data_license: Annotated[
        str, typer.Option("--data-license", help="Of the images a run learnt from, for the card.")
    ] = "",
) -> None:
    """Put an encoder and its card on the Hugging Face hub; nobody else sees it unless you say so."""
    from stillhouse.export.pushing import PushConfig
    from stillhouse.export.pushing import push as push_folder

    config = PushConfig(public=public, license=license, data_license=data_license)
    _say(f"pushed: {push_folder(folder, name, config)}")


@app.command()
def bench_export(
    paths: Annotated[list[Path], typer.Argument(help="Exports, or run directories for the live encoder's depths.")],
    train: Annotated[str, typer.Option("--train", help="Labelled images to find neighbours among.")] = "",
    test: Annotated[str, typer.Option("--test", help="Labelled images to classify; gives k-NN accuracies.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=0, help="Images used of each; 0 uses all.")] = 0,
    exits: Annotated[
        list[int],
        typer.Option("--exit", help="Depth of a live encoder; all if left out; may be repeated."),
    ] = [],  # noqa: B006 (typer copies)
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads that a network may use.")] = 1,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="Time that each size of batch is repeated.")] = 2.0,
    out: Annotated[str, typer.Option("--out", help="JSON file to write.")] = "",
) -> None:
    """Time and memory of exports and of the live encoder at every depth; with labels, accuracy too."""
    from stillhouse.cli.tables import bench_table
    from stillhouse.cli.terminal import working
    from stillhouse.recipes.benching import bench_export as bench

    with working("measuring") as told:
        rows = bench(
            paths, train=train, test=test, limit=limit, exits=exits, threads=threads, seconds=seconds, out=out,
            progress=told,
        )  # fmt: skip
    bench_table(rows)
    if out:
        _say(f"written: {out}")


@app.command()
def report(run_folder: RunFolder) -> None:
    """One self-contained HTML page about a run."""
    from stillhouse.report import write_report

    _say(f"written: {write_report(run_folder)}")


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
