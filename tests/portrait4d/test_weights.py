"""Released weights: found, fetched through a hub that is a fake here, checked, converted, kept; and the commands."""

import json
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flame.errors import InputError
from official_pickles import load_manifest, module_from_manifest, official_names, random_tensors, save_official
from portrait4d.cli.main import run
from portrait4d.weights import store as weights
from portrait4d.weights import table as weights_table
from portrait4d.weights.folder import present_weights, weights_folder
from portrait4d.weights.own_format import hash_file, read_checkpoint
from portrait4d.weights.table import find_released, released_files


class FakeHub(types.ModuleType):
    """The two functions of huggingface_hub that we use, over a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__("huggingface_hub")
        self.folder, self.calls, self.error = folder, [], None

    def list_repo_files(self, repo_id: str) -> list[str]:
        self.calls.append(("list", repo_id))
        if self.error:
            raise self.error
        return [path.relative_to(self.folder).as_posix() for path in sorted(self.folder.rglob("*")) if path.is_file()]

    def hf_hub_download(self, repo_id: str, filename: str, *, local_dir: str) -> str:
        self.calls.append(("download", repo_id, filename))
        target = Path(local_dir) / filename
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.folder / filename, target)
        return str(target)


@pytest.fixture(scope="module")
def motion_model(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A motion encoder of random numbers, as torch.save writes it."""
    manifest, _ = load_manifest(shared, "pdfgc_fanencoder")
    path = tmp_path_factory.mktemp("motion") / "motion_model.pth"
    torch.save(random_tensors(manifest), path)
    return path


@pytest.fixture
def hub(tmp_path: Path, motion_model: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """A hub that holds the motion encoder in a folder; an empty home; the network allowed."""
    (tmp_path / "remote/some/folder").mkdir(parents=True)
    shutil.copy(motion_model, tmp_path / "remote/some/folder/motion_model.pth")
    fake = FakeHub(tmp_path / "remote")
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    monkeypatch.setenv("PORTRAIT4D_HOME", str(tmp_path / "home"))
    for name in ("PORTRAIT4D_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return fake


def test_fetch_converts_and_keeps(hub: FakeHub, motion_model: Path) -> None:
    stages = []
    fetched = weights.fetch("motion-model", progress=lambda stage, *_: stages.append(stage))
    assert fetched.is_new and fetched.config.family == "motion-encoder"
    assert hub.calls == [
        ("list", "bEijuuu/Portrait4D"),
        ("download", "bEijuuu/Portrait4D", "some/folder/motion_model.pth"),
    ]
    assert set(stages) == {"hash", "write"}
    assert fetched.config.source_sha256 == hash_file(motion_model)
    expected = torch.load(motion_model, weights_only=True)
    for found in (read_checkpoint(fetched.folder), weights.resolve_weights("motion-model")):
        assert set(found[1]) == set(expected)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found[1].items())
    assert present_weights() == {"motion-model": weights_folder() / "motion-model"}
    assert not list((weights_folder() / "downloads").rglob("*.pth"))
    again = weights.fetch("motion-model")
    assert not again.is_new and again.config == fetched.config and len(hub.calls) == 2


def test_keep_download_keeps(hub: FakeHub) -> None:
    weights.fetch("motion-model", keep_download=True)
    assert len(list((weights_folder() / "downloads").rglob("motion_model.pth"))) == 1


def test_a_file_put_there_by_hand_needs_no_network(
    hub: FakeHub, motion_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTRAIT4D_OFFLINE", "1")
    (weights_folder() / "downloads/motion-model").mkdir(parents=True)
    shutil.copy(motion_model, weights_folder() / "downloads/motion-model")
    assert weights.fetch("motion-model").is_new and not hub.calls
    assert (weights_folder() / "downloads/motion-model/motion_model.pth").exists()  # not ours to remove


def _with(monkeypatch: pytest.MonkeyPatch, name: str, **change: Any) -> None:
    table = tuple(replace(file, **change) if file.name == name else file for file in released_files())
    monkeypatch.setattr(weights_table, "released_files", lambda: table)


def test_a_wrong_checksum_is_refused(hub: FakeHub, motion_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with(monkeypatch, "motion-model", sha256="0" * 64)
    with pytest.raises(InputError, match=r"refused and removed.*has sha256 .* expected 0000000000000000"):
        weights.fetch("motion-model")
    assert not present_weights() and not list((weights_folder() / "downloads").rglob("*.pth"))
    _with(monkeypatch, "motion-model", sha256=hash_file(motion_model))
    assert weights.fetch("motion-model").is_new


def test_a_truncated_download_is_refused(hub: FakeHub, motion_model: Path) -> None:
    remote = hub.folder / "some/folder/motion_model.pth"
    remote.write_bytes(motion_model.read_bytes()[:-1000])
    with pytest.raises(InputError, match="refused and removed.*motion_model.pth"):
        weights.fetch("motion-model")
    remote.write_bytes(b"")
    with pytest.raises(InputError, match="left no file"):
        weights.fetch("motion-model")
    shutil.copy(motion_model, remote)
    assert weights.fetch("motion-model").is_new  # the refused file does not stand in the way


def test_another_network_under_the_name_is_refused(hub: FakeHub, motion_model: Path) -> None:
    (weights_folder() / "downloads/genhead").mkdir(parents=True)
    shutil.copy(motion_model, weights_folder() / "downloads/genhead/genhead-ffhq512.pkl")
    with pytest.raises(InputError, match="holds motion-encoder encoder: expected genhead.generator"):
        weights.fetch("genhead")
    assert (weights_folder() / "downloads/genhead/genhead-ffhq512.pkl").exists()  # not ours to remove


def test_a_file_that_the_repository_lacks(hub: FakeHub) -> None:
    with pytest.raises(InputError, match=r"Portrait4D holds no genhead-ffhq512\.pkl.*convert FILE --name genhead"):
        weights.fetch("genhead")


@pytest.mark.parametrize("name", ["PORTRAIT4D_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_is_said_at_once(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(InputError, match=f"not on this machine and .*{name}.* is set"):
        weights.fetch("motion-model")
    assert not hub.calls


def test_what_the_hub_raises_becomes_a_line(hub: FakeHub) -> None:
    class RepositoryNotFoundError(OSError):
        pass

    class GatedRepoError(RepositoryNotFoundError):  # as in huggingface_hub
        pass

    cases = {
        GatedRepoError("403"): "accept its licence first",
        RepositoryNotFoundError("404"): "cannot be found",
        ConnectionError(
            "name not resolved\nmore"
        ): r"ConnectionError: name not resolved\): run the command again to go on",
    }
    for error, said in cases.items():
        hub.error = error
        with pytest.raises(InputError, match=said) as refusal:
            weights.fetch("motion-model")
        assert "\n" not in str(refusal.value)


def test_the_extra_is_named(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    by_hand = (
        r"motion_model\.pth from https://huggingface\.co/\S+ by hand .*convert motion_model\.pth --name motion-model"
    )
    with pytest.raises(InputError, match=r"pip install 'portrait4d\[hub\]'.*" + by_hand):
        weights.fetch("motion-model")


def test_licensed_files_give_an_instruction(hub: FakeHub) -> None:
    with pytest.raises(InputError, match=r"accept the licence at https://catalog\.ngc\.nvidia\.com.*weights convert"):
        weights.fetch("eg3d-ffhq512-128")
    assert not hub.calls


def test_names_and_paths_that_lead_nowhere(hub: FakeHub, tmp_path: Path) -> None:
    cases = {
        "motion-model": "run `portrait4d weights fetch motion-model`",
        "motion-modell": "nearest is 'motion-model'",
        "absent.pkl": "expected a checkpoint folder or an official file at absent.pkl",
        "./motion-modell": "expected a checkpoint folder or an official file",
        tmp_path / "absent": "expected a checkpoint folder or an official file",
        tmp_path: "expected a checkpoint folder with config.json",
    }
    for name, said in cases.items():
        with pytest.raises(InputError) as refusal:
            weights.resolve_weights(name)
        assert said in str(refusal.value)


def test_an_official_file_is_opened_in_memory(hub: FakeHub, motion_model: Path) -> None:
    config, tensors = weights.resolve_weights(motion_model)
    assert config.source == "motion_model.pth" and config.family == "motion-encoder"
    expected = torch.load(motion_model, weights_only=True)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in expected.items())


def test_the_table_is_sound() -> None:
    files = released_files()
    assert len({file.name for file in files}) == len(files) >= 10
    assert {file.family for file in files} == {"eg3d", "genhead", "portrait4d", "motion-encoder"}
    for file in files:
        assert file.sha256 is None or len(file.sha256) == 64
        assert (file.origin == "page") == file.location.startswith("https://")
    assert find_released("portrait4d-v2").file_name == "portrait4d-v2-vfhq512.pkl"


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PORTRAIT4D_HOME", str(tmp_path / "home"))
    assert weights_folder() == tmp_path / "home/weights"
    monkeypatch.delenv("PORTRAIT4D_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert weights_folder() == tmp_path / "cache/portrait4d/weights"


# ---- the commands


def test_list_says_what_is_here(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    weights.fetch("motion-model")
    assert run(["weights", "list"]) == 0
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert (
        "here" in lines["motion-model"]
        and "by hand" in lines["eg3d-ffhq512-128"]
        and "unknown" in lines["motion-model"]
    )
    assert "NVIDIA Source Code License" in out and str(weights_folder()) in out
    assert run(["weights", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["weights"]}
    assert rows["motion-model"]["folder"] and rows["motion-model"]["source_sha256"]
    assert rows["genhead"]["folder"] is None and rows["genhead"]["sha256"] is None


def test_a_damaged_folder_is_listed_as_such(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    folder = weights.fetch("motion-model").folder
    (folder / "config.json").write_text("{}")
    assert run(["weights", "list"]) == 0
    captured = capsys.readouterr()
    assert "motion-model" in captured.out and "damaged" in captured.out and "not the config" in captured.err


def test_text_in_a_file_cannot_steer_the_terminal(
    hub: FakeHub, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, meta = load_manifest(shared, "eg3d_ffhq512.D")
    with official_names() as plain:
        module = module_from_manifest(manifest, meta, plain)
        module.__dict__["rendering_kwargs"] = {"\x1b[2J": "a\nb\x07"}
        path = save_official(tmp_path / "a.pkl", {"D": module})
    assert run(["weights", "inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert r"\x1b[2J = a\nb\x07" in out and "\x1b" not in out
    path.write_bytes(b"\x80\x04\x8c\x03a\x1b[\x8c\x01\n\x93.")
    assert run(["weights", "inspect", str(path)]) == 2
    error = capsys.readouterr().err
    assert r"asks for a\x1b[.\n," in error and "\x1b" not in error


def test_fetch_from_the_command_line(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["weights", "fetch", "motion-model", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["is_new"] is True
    assert run(["weights", "fetch", "motion-model"]) == 0
    assert "was here already" in capsys.readouterr().out
    assert run(["weights", "fetch", "eg3d-ffhq512-128"]) == 2
    assert "accept the licence" in capsys.readouterr().err


def test_convert_and_inspect(
    hub: FakeHub, shared: Path, tmp_path: Path, motion_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, meta = load_manifest(shared, "eg3d_ffhq512.D")
    with official_names() as plain:
        path = save_official(tmp_path / "eg3d.pkl", {"D": module_from_manifest(manifest, meta, plain)})
    folder = str(tmp_path / "own")
    assert run(["weights", "convert", str(path), "-o", folder, "--discriminator", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["network"] == "discriminator"
    for given, kind in (
        (str(path), "official pickle"),
        (folder, "portrait4d checkpoint"),
        (str(motion_model), "state dict"),
    ):
        assert run(["weights", "inspect", given]) == 0
        assert kind in capsys.readouterr().out
    assert run(["weights", "inspect", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["networks"][0]["num_parameters"] == meta["num_params"]
    assert report["networks"][0]["num_tensors"] == meta["num_tensors"]
    assert report["suspicious"] == ["lacks G, G_ema, which official files have"]
    assert run(["weights", "inspect", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["networks"][0]["num_parameters"] == meta["num_params"]
    assert run(["weights", "inspect", str(motion_model), "--json"]) == 0
    fan = load_manifest(shared, "pdfgc_fanencoder")[1]
    assert json.loads(capsys.readouterr().out)["networks"][0]["num_parameters"] == fan["num_params"]


def test_convert_under_a_released_name(hub: FakeHub, motion_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["weights", "convert", str(motion_model), "--name", "motion-model"]) == 0
    assert "motion-model" in present_weights()
    assert run(["weights", "convert", str(motion_model), "--name", "genhead"]) == 2
    assert "expected genhead.generator" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["convert", "absent.pkl", "-o", "x"], "expected a file at absent.pkl"),
        (["convert", "absent.pkl", "--name", "motion-model"], "expected a file at absent.pkl"),
        (["convert", "absent.pkl"], "one of -o FOLDER and --name NAME"),
        (["convert", "a", "-o", "x", "--name", "y"], "one of -o FOLDER and --name NAME"),
        (["fetch", "portrait4d-v3"], "nearest is 'portrait4d-v2'"),
        (["inspect", "absent.pkl"], "there is none"),
    ],
)
def test_wrong_use_is_one_line(
    hub: FakeHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["weights", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1


def test_each_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("list", "fetch", "convert", "inspect"):
        assert run(["weights", command, "--help"]) == 0
        assert f"portrait4d weights {command}" in capsys.readouterr().out
