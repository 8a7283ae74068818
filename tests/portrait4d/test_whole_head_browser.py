"""The whole head in a real browser: three.js loads the `.glb`, counts its parts, and moves what a name says.

three.js with its GLTFLoader comes out of the viewer that trimesh ships, so that nothing is fetched.
"""

import base64
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

import portrait4d.engines.lift.whole_head
from flame.heads.expression_names import ARKIT_NAMES
from flame.heads.open_head import OpenHead
from live_heads import free_avatar, free_models
from portrait4d.engines.lift.avatar import LiftAvatar
from portrait4d.engines.lift.whole_head import whole_head
from preprocess.media.rigged_glb import write_rigged_glb
from studio_browser import browser, chromium, wait_for

pytestmark = pytest.mark.slow

VIEWER = Path(trimesh.__file__).parent / "resources" / "templates" / "viewer.zip"

SCENE = """
window.shown = null;
window.show = (base64) => {
  const renderer = new THREE.WebGLRenderer({ antialias: false, preserveDrawingBuffer: true });
  renderer.setSize(384, 384);
  renderer.outputEncoding = THREE.sRGBEncoding;
  document.body.append(renderer.domElement);
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  new THREE.GLTFLoader().parse(bytes.buffer, "", (gltf) => {
    const scene = new THREE.Scene(), camera = new THREE.PerspectiveCamera(25, 1, 0.05, 10);
    scene.add(gltf.scene, new THREE.AmbientLight(0xffffff, 1));
    const box = new THREE.Box3().setFromObject(gltf.scene), middle = box.getCenter(new THREE.Vector3());
    camera.position.set(middle.x, middle.y, middle.z + 0.9);
    camera.lookAt(middle);
    let head = null;
    const bones = [];
    gltf.scene.traverse((item) => {
      if (item.isSkinnedMesh) head = item;
      if (item.isBone) bones.push(item);
    });
    window.shown = { head, bones, size: box.getSize(new THREE.Vector3()).toArray(),
      draw: () => { renderer.render(scene, camera); return renderer.domElement.toDataURL("image/png"); } };
  }, (error) => { window.shown = { error: String(error) }; });
};
"""


def three() -> str:
    """The scripts of three.js and its loader of glTF."""
    if not VIEWER.is_file():
        pytest.skip("this test needs the three.js of trimesh's viewer: pip install 'trimesh>=4.0'")
    with zipfile.ZipFile(VIEWER) as archive:
        page = archive.read("viewer.html.template").decode()
    library = page[page.index("<script>") + len("<script>") :]
    end = re.search(r"THREE\.GLTFLoader\s*=\s*GLTFLoader;\s*\}\)\(\);", library)
    if end is None:
        pytest.skip("the viewer of this trimesh holds another three.js: this test reads that of trimesh 4")
    return library[: end.end()].replace("</script>", "").replace("<script>", "")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A page that shows the free head."""
    chromium()
    script = three()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portrait4d.engines.lift.whole_head, "TEXTURE_SIZE", 512)
        avatar, model = free_avatar(), free_models().head_model
        assert isinstance(avatar, LiftAvatar) and isinstance(model, OpenHead)
        head = whole_head(avatar, model)
    path = tmp_path_factory.mktemp("glb") / "head.glb"
    write_rigged_glb(path, head)
    with browser() as running:
        page = running.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.add_script_tag(content=script)
        page.add_script_tag(content=SCENE)
        page.evaluate("(data) => show(data)", base64.b64encode(path.read_bytes()).decode())
        wait_for(page, "shown !== null")
        assert errors == [] and page.evaluate("shown.error") is None
        yield page


def picture(page: Any, before: str = "") -> np.ndarray:
    """What is drawn after a change, uint8 `[384, 384, 3]`; the change is undone by the test."""
    address = page.evaluate(f"(() => {{ {before}; return shown.draw(); }})()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"))


def test_three_js_finds_every_expression_and_the_joints(shown: Any) -> None:
    names = shown.evaluate("Object.keys(shown.head.morphTargetDictionary)")
    assert sorted(names) == sorted(ARKIT_NAMES) and len(names) == 52
    assert shown.evaluate("shown.head.geometry.morphAttributes.position.length") == 52
    joints = shown.evaluate("shown.head.skeleton.bones.map((bone) => bone.name)")
    assert set(joints) == set(free_models().head_model.joint_names) and len(joints) == len(set(joints))
    width, height, depth = shown.evaluate("shown.size")
    assert 0.13 < width < 0.3 and 0.2 < height < 0.5 and 0.15 < depth < 0.4  # metres


def test_a_name_moves_its_part_of_the_picture_and_no_other(shown: Any) -> None:
    rest = picture(shown).astype(float)
    rows = np.flatnonzero((rest.max(-1) > 8).any(1))
    top, bottom = int(rows[0]), int(rows[-1])
    assert bottom - top > 150  # the head is in the picture
    set_to = lambda value: f"shown.head.morphTargetInfluences[shown.head.morphTargetDictionary.jawOpen] = {value}"  # noqa: E731
    opened = picture(shown, set_to(1)).astype(float)
    changed = np.abs(opened - rest).mean(-1).mean(1)
    middle = (top + bottom) // 2
    assert changed[middle:].max() > 3 and changed[: top + (middle - top) // 2].max() < 0.01
    assert np.array_equal(picture(shown, set_to(0)), rest)


def test_a_joint_turns_the_head(shown: Any) -> None:
    rest = picture(shown).astype(float)
    turn = "shown.bones.find((bone) => bone.name === 'head').rotation.y"
    turned = picture(shown, f"{turn} = 0.5").astype(float)
    assert np.abs(turned - rest).mean() > 2
    assert np.array_equal(picture(shown, f"{turn} = 0"), rest)
