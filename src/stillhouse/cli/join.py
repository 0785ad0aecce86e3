"""`stillhouse edge join`: this machine learns for a core that lives elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from stillhouse.errors import SettingsError


def join(
    invite: Annotated[Path, typer.Argument(help="The file that `stillhouse edge invite` wrote for this device.")],
    data: Annotated[str, typer.Option("--data", help="Images of this device; they never leave it.")],
    state: Annotated[
        str, typer.Option("--state", help="Folder for what is underway; else one beside the invite, of its name.")
    ] = "",
    visits: Annotated[int, typer.Option("--visits", min=0, help="Clones to teach; 0 goes on until stopped.")] = 0,
    max_memory: Annotated[str, typer.Option("--max-memory", help="Memory to take, such as 2GiB.")] = "",
    max_minutes: Annotated[
        float, typer.Option("--max-minutes", min=0, help="Minutes to train a clone; then it goes back as it is.")
    ] = 0.0,
    only_idle: Annotated[bool, typer.Option("--only-idle", help="Pause while others use the machine.")] = False,
    answers: Annotated[
        bool, typer.Option("--answers", help="Send what the trained clone says about the core's questions, no weights.")
    ] = False,
    clip: Annotated[
        float, typer.Option("--clip", min=0, help="With --noise: how far, at most, weights move in what is sent.")
    ] = 0.0,
    noise: Annotated[
        float, typer.Option("--noise", min=0, help="Noise in every weight that is sent, in units of --clip.")
    ] = 0.0,
) -> None:
    """Let a core learn from this machine's images: borrow a clone, train it here, give it back; again and again."""
    try:
        from stillhouse.edge.device.client import Client
    except ImportError as error:
        raise SettingsError(f"edge: {error.name} is not installed; pip install 'stillhouse[edge]'") from error
    from rich.console import Console

    from stillhouse.cli.terminal import Terminal
    from stillhouse.edge.device.device import Device
    from stillhouse.edge.device.limits import Limits, parse_size
    from stillhouse.edge.device.privacy import PrivacyConfig
    from stillhouse.edge.invitation import Invitation

    if bool(clip) != bool(noise):
        raise SettingsError("--clip and --noise: only one of them keeps nothing private; give both")
    limits = Limits(max_bytes=parse_size(max_memory) if max_memory else 0, max_minutes=max_minutes, only_idle=only_idle)
    privacy = PrivacyConfig(clip=clip, noise=noise) if clip else None
    console = Console()

    def tell(sentence: str) -> None:
        console.print(sentence, soft_wrap=True, highlight=False, markup=False)

    invited = Invitation.read(invite)
    folder = Path(state) if state else invite.parent / f"{invite.stem}-state"
    client = Client(invited)
    try:
        Device(client, folder, data, limits, privacy, answers, tell, show=lambda: Terminal(console)).join(visits)
    finally:
        client.close()
