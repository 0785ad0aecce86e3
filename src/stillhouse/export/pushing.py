"""An encoder to a model repository of the Hugging Face hub: weights and papers, and no path of this machine."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.errors import RunError, SettingsError, first_line
from stillhouse.export.card import as_json, of_encoder, public_card, readme
from stillhouse.export.exporting import FILES
from stillhouse.export.original import open_original, read_table
from stillhouse.files import digest_of_file, write_atomically
from stillhouse.networks.saved import CARD, WEIGHTS

README = "README.md"
NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, kw_only=True)
class PushConfig:
    """How a repository is made."""

    public: bool = False
    """Whether everybody may see a repository that is made; one that is there stays as it is."""
    license: str = ""
    """Of the weights of a run, for its card; that of an export stands on it already."""
    data_license: str = ""
    """Of the images a run learnt from."""


def push(folder: Path, name: str, config: PushConfig = PushConfig()) -> str:
    """Make the repository if it is missing, and put the encoder there in one commit.

    The library `huggingface_hub` speaks with the hub: it finds the token where `hf auth login` or HF_TOKEN left it, and
    the hub itself at HF_ENDPOINT.

    Args:
        folder: a run directory, the folder of its encoder, or an export.
        name: `owner/name`.
        config: visibility, and licences of a run.

    Returns:
        The address of the repository.

    Raises:
        SettingsError: the name is not one, the licences of an export are given anew, or there is no token.
        RunError: there is no encoder, a file is damaged, or the hub refuses.
    """
    if not NAME.fullmatch(name):
        raise SettingsError(f"{name}: not the name of a repository; write OWNER/NAME, of letters, digits, . _ and -")
    with tempfile.TemporaryDirectory() as gathered:
        _gather(folder, name, config, Path(gathered))
        return _upload(Path(gathered), name, public=config.public)


def _gather(folder: Path, name: str, config: PushConfig, out: Path) -> None:
    table = read_table(folder / CARD) if (folder / CARD).exists() else {}
    if table.get("format") in FILES:
        if config.license or config.data_license:
            raise SettingsError(f"--license: {folder} is an export, whose card names its licences; export it anew")
        _gather_export(folder, name, table, out)
    else:
        _gather_run(folder, name, config, out)


def _gather_run(folder: Path, name: str, config: PushConfig, out: Path) -> None:
    words = open_original(folder).words
    inner = folder if (folder / CARD).exists() else folder / "encoder"
    facts = of_encoder(words.card, words.evaluation, words.settings_sha256, "")
    facts["load"] = f'stillhouse.load(huggingface_hub.snapshot_download("{name}"))'
    facts |= {"license": config.license} if config.license else {}
    facts |= {"data_license": config.data_license} if config.data_license else {}
    write_atomically(out / WEIGHTS, (inner / WEIGHTS).read_bytes())
    write_atomically(out / CARD, as_json(public_card(words.card) | {"license": facts["license"]}))
    write_atomically(out / README, readme(facts))


def _gather_export(folder: Path, name: str, facts: dict[str, Any], out: Path) -> None:
    file = FILES[facts["format"]]
    try:
        if digest_of_file(folder / file) != facts["file_sha256"]:
            raise ValueError(f"{file} is not the file that {CARD} was written for")
        facts["load"] = _loaded_from_hub(facts["load"], file, name)
        write_atomically(out / README, readme(facts))
        for each in (file, *(["config.json"] if facts["format"] == "timm" else [])):
            write_atomically(out / each, (folder / each).read_bytes())
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{folder}: not a whole export ({error!r}); export it anew") from error
    write_atomically(out / CARD, as_json(facts))


def _loaded_from_hub(load: str, file: str, name: str) -> str:
    """The line that loads an export from its folder, made to load it from the hub."""
    found = re.sub(r"local-dir:[^\"]*", f"hf-hub:{name}", load)
    return re.sub(rf'"[^"]*{re.escape(file)}"', f'huggingface_hub.hf_hub_download("{name}", "{file}")', found)


def _upload(folder: Path, name: str, *, public: bool) -> str:
    try:
        from huggingface_hub import HfApi, get_token  # takes a third of a second
        from huggingface_hub.errors import (  # type: ignore[attr-defined]
            HfHubHTTPError,
            HFValidationError,
            HTTPError,
        )
    except ImportError as error:
        raise SettingsError(f"the hub's library is missing ({error}); pip install 'stillhouse[hub]'") from error

    if not get_token():
        raise SettingsError("no token of the hub is known here; call `hf auth login`, or set HF_TOKEN")
    api = HfApi(library_name="stillhouse")
    try:
        where = api.create_repo(name, private=not public, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Encoder and card by stillhouse")
    except HFValidationError as error:
        raise SettingsError(f"{name}: {first_line(error)}") from error
    except HfHubHTTPError as error:
        raise RunError(f"{api.endpoint}: {_told(error.response.status_code, name)} ({first_line(error)})") from error
    except (HTTPError, OSError) as error:
        raise RunError(
            f"{api.endpoint}: cannot be reached ({first_line(error)}); check the network, try again"
        ) from error
    return str(where)


ANSWERS: Mapping[int, str] = {
    401: "the token is not accepted; call `hf auth login` again",
    403: "this token may not write to {name}; use one that may, or another owner",
    404: "there is no owner for {name}, or this token may not see it; check the name",
}
"""What to do about what the hub answers."""


def _told(status: int, name: str) -> str:
    return ANSWERS.get(status, "the hub refuses; try again later").format(name=name)
