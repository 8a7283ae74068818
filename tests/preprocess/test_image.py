"""Pictures of every kind come out upright, in sRGB, with the right brightness, or are refused in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageFile

from flame.errors import InputError
from preprocess.files.atomic import atomic_path
from preprocess.media.contact_sheet import contact_sheet
from preprocess.media.image import read_image, read_image_alpha, to_tensor, to_uint8, write_png


@pytest.fixture
def picture():
    """A smooth picture without any symmetry, `uint8 [48, 64, 3]`."""
    row, column = np.mgrid[0:48, 0:64]
    return np.stack([row * 5, column * 4, (row + column) * 2], axis=-1).astype(np.uint8)


def save(path, image, **options):
    Image.fromarray(image).save(path, **options)
    return path


def test_bytes_survive_the_round_trip_through_tensors():
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    tensor = to_tensor(image)
    assert tensor.shape == (1, 3, 16, 16) and tensor.dtype == torch.float32 and tensor.is_contiguous()
    assert tensor.min() == -1 and tensor.max() == 1
    np.testing.assert_array_equal(to_uint8(tensor), image)
    np.testing.assert_array_equal(to_uint8(tensor + 0.0039), image)  # less than half a level
    np.testing.assert_array_equal(to_uint8(to_tensor(image[0])), image)


def test_to_uint8_clamps_and_does_not_touch_its_input():
    tensor = torch.tensor([-3.0, 3.0, 0.0]).reshape(1, 3, 1, 1)
    before = tensor.clone()
    np.testing.assert_array_equal(to_uint8(tensor)[0, 0, 0], [0, 255, 128])
    torch.testing.assert_close(tensor, before)


def test_channels_keep_their_place():
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 2] = (255, 128, 0)
    assert to_tensor(image)[0, :, 0, 2].tolist() == pytest.approx([1, 128 / 127.5 - 1, -1], abs=1e-6)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_to_tensor_refuses_other_arrays(image):
    with pytest.raises(ValueError, match="expected uint8"):
        to_tensor(image)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "Ünï 人.png", "wrong_suffix.jpg"])
def test_lossless_formats_are_read_exactly(tmp_path, picture, name):
    form = {"webp": "WEBP", "tif": "TIFF"}.get(name.rsplit(".")[-1], "PNG")
    path = save(tmp_path / name, picture, format=form, **({"lossless": True} if form == "WEBP" else {}))
    np.testing.assert_array_equal(read_image(path), picture)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_tags_are_undone(tmp_path, picture, orientation):
    """The eight stored forms of one picture, as EXIF defines them, all read the same."""
    stored = {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: np.rot90(picture, 1),
        7: picture[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(picture, -1),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    path = save(tmp_path / "a.png", np.ascontiguousarray(stored), exif=exif)
    np.testing.assert_array_equal(read_image(path), picture)


def test_sixteen_bit_grey_has_the_brightness_of_eight_bit(tmp_path, picture):
    grey = picture[:, :, 0]
    path = tmp_path / "deep.png"
    Image.fromarray(grey.astype(np.uint16) * 257).save(path)
    np.testing.assert_array_equal(read_image(path), grey[:, :, None].repeat(3, axis=2))


@pytest.mark.parametrize("mode", ["L", "CMYK", "YCbCr", "1", "F"])
def test_other_modes_become_rgb(tmp_path, picture, mode):
    path = tmp_path / "a.tif"
    Image.fromarray(picture).convert(mode).save(path)
    expected = np.asarray(Image.fromarray(picture).convert(mode).convert("RGB"), float)
    assert np.abs(read_image(path) - expected).max() <= 1


def test_palette_with_transparency(tmp_path):
    image = Image.new("P", (40, 40), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(1, (0, 0, 40, 20))
    image.save(tmp_path / "a.png", transparency=0)
    rgb, alpha = read_image_alpha(tmp_path / "a.png")
    assert alpha is not None
    np.testing.assert_array_equal(rgb[5, 5], [0, 255, 0])
    np.testing.assert_array_equal(rgb[35, 5], [128, 128, 128])
    assert alpha[5, 5] == 1 and alpha[35, 5] == 0


def test_hidden_pixels_do_not_leak(tmp_path, picture):
    alpha = np.zeros((48, 64), np.uint8)
    alpha[10:30, 10:40] = 255
    alpha[20] = 51
    pictures = []
    for hidden in (0, 255):
        rgba = np.dstack([np.where(alpha[..., None] > 0, picture, hidden).astype(np.uint8), alpha])
        pictures.append(read_image_alpha(save(tmp_path / f"{hidden}.png", rgba)))
    np.testing.assert_array_equal(pictures[0][0], pictures[1][0])
    rgb, opacity = pictures[0]
    assert opacity is not None and opacity[20, 20] == pytest.approx(0.2)
    np.testing.assert_array_equal(rgb[15, 15], picture[15, 15])
    expected = 0.2 * picture[20, 5].astype(float) + 0.8 * 128
    np.testing.assert_allclose(rgb[20, 5], expected, atol=0.51)


def test_opaque_alpha_is_no_alpha(tmp_path, picture):
    path = save(tmp_path / "a.png", np.dstack([picture, np.full((48, 64), 255, np.uint8)]))
    rgb, alpha = read_image_alpha(path)
    assert alpha is None
    np.testing.assert_array_equal(rgb, picture)


def test_fully_transparent_picture_is_refused(tmp_path, picture):
    path = save(tmp_path / "a.png", np.dstack([picture, np.zeros((48, 64), np.uint8)]))
    with pytest.raises(InputError, match="a.png: the picture is fully transparent"):
        read_image(path)


def test_colour_profile_is_applied(tmp_path):
    """A profile made from sRGB by exchanging red and green: what is stored as red is to be seen as green."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ").replace(b"tXYZ", b"gXYZ")
    profile = profile.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    red = np.zeros((40, 40, 3), np.uint8) + np.array([200, 0, 0], np.uint8)
    image = read_image(save(tmp_path / "a.png", red, icc_profile=profile))
    np.testing.assert_allclose(image[0, 0], [0, 200, 0], atol=2)


def test_a_profile_that_does_not_fit_is_ignored(tmp_path, picture):
    path = save(tmp_path / "a.png", picture, icc_profile=b"nonsense")
    np.testing.assert_array_equal(read_image(path), picture)


def test_first_frame_of_an_animation(tmp_path, picture):
    frames = [Image.fromarray(picture), Image.fromarray(255 - picture)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True, duration=80)
    np.testing.assert_array_equal(read_image(tmp_path / "a.webp"), picture)


def test_damaged_files_are_refused_in_one_line(tmp_path, picture):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    for form in ("png", "jpg", "webp", "gif", "bmp", "tif"):
        data = save(tmp_path / f"whole.{form}", noise).read_bytes()
        for part in (0.05, 0.5, 0.95):
            path = tmp_path / f"part.{form}"
            path.write_bytes(data[: int(len(data) * part)])
            with pytest.raises(InputError) as caught:
                read_image(path)
            assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"hello, not a picture", "not a picture"),
        (b"\0\0\0\x20ftypheic" + b"\0" * 64, "HEIC pictures are not supported; use a JPEG, PNG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + b"\0" * 64, "HEIC pictures are not supported"),
        (b"\0\0\0\x18ftypavif\0\0\0\0avifmif1" + b"\0" * 64, "AVIF|damaged"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif" + b"\0" * 64, "AVIF|damaged"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + b"\0" * 64, "not a picture this program can read"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isomavc1" + b"\0" * 64, "got a video or sound file"),
        (b"RIFF\x40\0\0\0WEBPjunk" + b"\0" * 52, "the WebP picture is damaged or cut off"),
        (b"RIFF\x40\0\0\0AVI LIST" + b"\0" * 52, "got a video or sound file"),
        (b"RIFF\x40\0\0\0sfbkLIST" + b"\0" * 52, "not a picture this program can read"),
        (b"\x1aE\xdf\xa3" + b"\0" * 60, "got a video or sound file"),
    ],
)
def test_files_that_are_no_pictures(tmp_path, content, message):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_image(path)


def test_absent_files_and_folders(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)


def test_size_limits(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="31 x 40 pixels is too small"):
        read_image(save(tmp_path / "small.png", np.zeros((40, 31, 3), np.uint8)))
    Image.new("1", (20000, 5001)).save(tmp_path / "huge.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded before the size was checked"))
    with pytest.raises(InputError, match="megapixels"):
        read_image(tmp_path / "huge.png")


def test_write_png_round_trip_and_leaves_nothing_else(tmp_path, picture):
    write_png(tmp_path / "new" / "a.png", picture)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), picture)
    assert os.listdir(tmp_path / "new") == ["a.png"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_atomic_path_keeps_the_old_file_when_writing_fails(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_path(path) as temporary:  # noqa: PT012  (the body is what fails)
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_leftovers_of_killed_writers_are_removed(tmp_path):
    path = tmp_path / "a.txt"
    program = (
        "import os, sys\n"
        "from preprocess.files.atomic import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], cwd=Path(__file__).resolve().parents[2], check=False)
    left = os.listdir(tmp_path)
    assert len(left) == 1 and left[0].startswith(".") and left[0] != "a.txt"
    with atomic_path(path) as temporary, atomic_path(path) as other:  # a running writer is left alone
        temporary.write_text("whole")
        other.write_text("whole too")
        assert temporary.exists() and left[0] not in os.listdir(tmp_path)
    assert os.listdir(tmp_path) == ["a.txt"]


def test_very_long_names(tmp_path, picture):
    path = tmp_path / ("x" * 240 + ".png")
    write_png(path, picture)
    np.testing.assert_array_equal(read_image(path), picture)


def test_contact_sheet_holds_every_picture(tmp_path, picture):
    red = np.zeros((96, 64, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    contact_sheet([[picture, red], [red]], tmp_path / "sheet.png", labels=["first", "second"], cell_height=64)
    sheet = read_image(tmp_path / "sheet.png")
    assert sheet.shape[0] == 2 * (64 + 22) + 4
    is_red = (sheet == [255, 0, 0]).all(-1)
    assert is_red.sum() == 2 * 64 * round(64 * 64 / 96)
    assert (sheet[:22] == 0).any()  # there is text


def test_every_picture_of_the_reference_set_behaves_as_expected(shared):
    folder = shared / "data"
    entries = json.loads((folder / "manifest.json").read_text())["files"]
    suffixes = (".png", ".jpg", ".webp", ".gif")
    pictures = [entry for entry in entries if "negatives/" in entry["file"] and entry["file"].endswith(suffixes)]
    assert len(pictures) > 25
    refused = ("empty", "text", "truncated", "one_pixel", "huge_flat")
    plain = read_image(folder / "negatives/progressive.jpg").astype(float)
    for entry in pictures:
        path = folder / entry["file"]
        if path.name.startswith(refused):
            with pytest.raises(InputError):
                read_image(path)
            continue
        image = read_image(path)
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        if path.name.startswith(("exif", "cmyk")):
            assert np.abs(image - plain).mean() < 4, path.name
        if path.name.startswith("png16"):
            assert image.mean() == pytest.approx(plain.mean(), abs=1)
