"""Pushing to a stand-in of the hub: what it receives is what a stranger can load, and tells nothing of this machine."""

import base64
import json
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants as hub
import pytest
import torch

import stillhouse
from stillhouse.cli.main import main
from stillhouse.errors import RunError, SettingsError
from stillhouse.export.exporting import ExportConfig, export
from stillhouse.export.original import open_original
from stillhouse.export.pushing import PushConfig, push
from tests.export.conftest import MakeEncoder, some_images


class Hub(ThreadingHTTPServer):
    """As much of the hub as a push meets, in memory."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.made: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.refusal = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.server.refusal or self.headers["Authorization"] != "Bearer hf_secret":
            self._answer({"error": "no"}, self.server.refusal or 401)
        elif self.path == "/api/repos/create":
            self.server.made.append(json.loads(body))
            self._answer({"url": f"{self.server.url}/me/small", "id": "me/small"})
        elif self.path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            told = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in files]
            self._answer({"files": told})
        elif self.path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._answer({"commitUrl": f"{self.server.url}/me/small/commit/c0ffee", "commitOid": "c0ffee"})
        else:
            self._answer({}, 200)

    def do_GET(self) -> None:
        self._answer({"id": "me/small", "sha": "c0ffee", "siblings": [], "tags": [], "private": True})

    def _answer(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def standing_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    monkeypatch.setattr(hub, "ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def received(server: Hub, folder: Path) -> Path:
    folder.mkdir()
    for name, content in server.files.items():
        (folder / name).write_bytes(content)
    return folder


def test_a_run_arrives_whole_private_and_without_paths(
    standing_in: Hub, encoder_folder: MakeEncoder, tmp_path: Path
) -> None:
    assert push(encoder_folder(), "me/small").endswith("/me/small")
    assert standing_in.made[0]["name"] == "small"
    assert standing_in.made[0].get("visibility", "private") == "private"
    assert standing_in.made[0].get("private", True) is True
    assert set(standing_in.files) == {"model.safetensors", "card.json", "README.md"}
    assert not any(b"/home" in content for content in standing_in.files.values())
    assert b'stillhouse.load(huggingface_hub.snapshot_download("me/small"))' in standing_in.files["README.md"]
    images = torch.rand(3, 3, 16, 16)
    there, here = stillhouse.load(received(standing_in, tmp_path / "got")), stillhouse.load(encoder_folder())
    assert torch.equal(there(images), here(images))


def test_licences_and_visibility_are_told(standing_in: Hub, encoder_folder: MakeEncoder) -> None:
    push(encoder_folder(), "me/small", PushConfig(public=True, license="MIT", data_license="CC0-1.0"))
    made, text = standing_in.made[0], standing_in.files["README.md"].decode()
    assert made.get("visibility", "public") == "public"
    assert not made.get("private", False)
    assert 'license: "mit"' in text
    assert "licence of the images: CC0-1.0" in text


def test_an_export_goes_with_the_line_that_loads_it_from_there(
    standing_in: Hub, encoder_folder: MakeEncoder, tmp_path: Path
) -> None:
    original = open_original(encoder_folder())
    export(original, tmp_path / "out", ExportConfig(to="timm"), some_images(16, 8))
    (tmp_path / "out/notes.txt").write_text("not for others")
    push(tmp_path / "out", "me/small")
    assert set(standing_in.files) == {"model.safetensors", "config.json", "card.json", "README.md"}
    assert b'"hf-hub:me/small"' in standing_in.files["README.md"]
    with pytest.raises(SettingsError, match="names its licences"):
        push(tmp_path / "out", "me/small", PushConfig(license="MIT"))
    (tmp_path / "out/model.safetensors").write_bytes(b"other")
    with pytest.raises(RunError, match="not a whole export"):
        push(tmp_path / "out", "me/small")


@pytest.mark.parametrize(
    ("status", "told"), [(401, "auth login"), (403, "may not write to me/small"), (500, "refuses")]
)
def test_what_the_hub_refuses_is_one_message(
    status: int, told: str, standing_in: Hub, encoder_folder: MakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing_in.refusal = status
    with pytest.raises(RunError, match=told):
        push(encoder_folder(), "me/small")
    assert not standing_in.files


def test_mistakes_are_told_before_anything_is_sent(
    standing_in: Hub, encoder_folder: MakeEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="OWNER/NAME"):
        push(encoder_folder(), "small")
    with pytest.raises(RunError, match=re.escape(str(tmp_path))):
        push(tmp_path, "me/small")
    broken = shutil.copytree(encoder_folder(), tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"short")
    with pytest.raises(RunError, match="broken"):
        push(broken, "me/small")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(hub, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="HF_TOKEN"):
        push(encoder_folder(), "me/small")
    assert not standing_in.made


def test_a_hub_that_is_not_there_is_one_message(encoder_folder: MakeEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(RunError, match="cannot be reached"):
        push(encoder_folder(), "me/small")


def test_by_the_command_line(
    standing_in: Hub, encoder_folder: MakeEncoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["stillhouse", "push", str(encoder_folder()), "me/small"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "pushed: http" in capsys.readouterr().out
