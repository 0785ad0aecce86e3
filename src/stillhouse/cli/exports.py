"""`stillhouse export`, `push`, `bench-export`: words to calls of the export room."""

from pathlib import Path
from typing import Annotated

import typer

from stillhouse.cli.arguments import RunFolder, named


def export(
    run_folder: RunFolder,
    to: Annotated[str, typer.Option("--to", help="onnx, timm or torch; safetensors are in the run already.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to make.", parser=named, metavar="FOLDER")],
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
    from stillhouse.cli.findings import say
    from stillhouse.cli.tables import export_table
    from stillhouse.cli.terminal import working
    from stillhouse.recipes.exporting import export_encoder

    with working("exporting") as told:
        exported = export_encoder(
            run_folder, to, out, data=data, exits=exits, precision=precision,  # type: ignore[arg-type]
            license=license, data_license=data_license, force=force, progress=told,
        )  # fmt: skip
    export_table(exported)
    say(f"written: {exported.file} ({exported.size_bytes / 1e6:.2f} MB)\nload: {exported.load}")


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
    from stillhouse.cli.findings import say
    from stillhouse.export.pushing import PushConfig
    from stillhouse.export.pushing import push as push_folder

    config = PushConfig(public=public, license=license, data_license=data_license)
    say(f"pushed: {push_folder(folder, name, config)}")


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
    from stillhouse.cli.findings import say
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
        say(f"written: {out}")


COMMANDS = (export, push, bench_export)
