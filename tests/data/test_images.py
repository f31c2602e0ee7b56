"""Every kind of image a user may pass, and every kind that must be refused with a useful message."""

from __future__ import annotations

import glob
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps

from partglee.basics.patterns import matches
from partglee.data import images
from partglee.data.images import list_images, read_image
from partglee.data.segmentation import read_label_map

SHARED_PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "pascal_part_18"


@pytest.fixture
def rgb() -> np.ndarray:
    """A 4 x 6 picture with a different colour in each pixel."""
    return np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


class TestSources:
    def test_path_text_pil_and_array_agree(self, tmp_path: Path, rgb: np.ndarray) -> None:
        path = save(Image.fromarray(rgb), tmp_path / "a.png")
        for source in (path, str(path), Image.fromarray(rgb), rgb):
            result = read_image(source)
            assert result.dtype == np.uint8
            assert result.flags.c_contiguous
            np.testing.assert_array_equal(result, rgb)

    def test_uint8_and_float_tensor(self, rgb: np.ndarray) -> None:
        tensor = torch.from_numpy(rgb).permute(2, 0, 1)
        np.testing.assert_array_equal(read_image(tensor), rgb)
        np.testing.assert_array_equal(read_image(tensor.float() / 255), rgb)
        np.testing.assert_array_equal(read_image(tensor.double() / 255), rgb)

    def test_one_by_one(self) -> None:
        assert read_image(np.array([[[1, 2, 3]]], dtype=np.uint8)).tolist() == [[[1, 2, 3]]]
        assert read_image(torch.zeros(3, 1, 1)).shape == (1, 1, 3)

    def test_strided_array_becomes_contiguous(self, rgb: np.ndarray) -> None:
        flipped = rgb[:, ::-1]
        assert not flipped.flags.c_contiguous
        result = read_image(flipped)
        assert result.flags.c_contiguous
        np.testing.assert_array_equal(result, flipped)

    def test_home_is_expanded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rgb: np.ndarray) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        save(Image.fromarray(rgb), tmp_path / "a.png")
        np.testing.assert_array_equal(read_image("~/a.png"), rgb)


class TestModes:
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation(self, tmp_path: Path, rgb: np.ndarray, orientation: int) -> None:
        undo = {  # how a camera stored the upright picture, by the EXIF standard
            1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
            5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, 1),
            7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1], 8: lambda a: np.rot90(a, -1),
        }  # fmt: skip
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = Image.fromarray(np.ascontiguousarray(undo[orientation](rgb)))
        path = save(stored, tmp_path / "turned.png", exif=exif)
        np.testing.assert_array_equal(read_image(path), rgb)

    def test_grey(self, tmp_path: Path) -> None:
        grey = np.arange(24, dtype=np.uint8).reshape(4, 6)
        expected = np.stack([grey] * 3, axis=2)
        for source in (grey, grey[..., None], Image.fromarray(grey), save(Image.fromarray(grey), tmp_path / "g.png")):
            np.testing.assert_array_equal(read_image(source), expected)

    def test_black_and_white(self) -> None:
        assert read_image(Image.fromarray(np.array([[True, False]]))).tolist() == [[[255] * 3, [0] * 3]]

    def test_palette(self, tmp_path: Path) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 200, 100, 50])
        image.putpixel((1, 0), 1)
        assert read_image(save(image, tmp_path / "p.png")).tolist() == [[[10, 20, 30], [200, 100, 50]]]

    def test_palette_with_transparency_is_laid_on_white(self, tmp_path: Path) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 200, 100, 50])
        image.putpixel((1, 0), 1)
        path = save(image, tmp_path / "p.png", transparency=0)
        assert read_image(path).tolist() == [[[255, 255, 255], [200, 100, 50]]]

    def test_rgba_is_laid_on_white(self, tmp_path: Path) -> None:
        rgba = np.array([[[0, 0, 0, 0], [10, 20, 30, 255], [0, 100, 200, 51]]], dtype=np.uint8)
        expected = [[[255, 255, 255], [10, 20, 30], [204, 224, 244]]]
        for source in (rgba, Image.fromarray(rgba), save(Image.fromarray(rgba), tmp_path / "a.png")):
            np.testing.assert_allclose(read_image(source), expected, atol=1)
        np.testing.assert_allclose(read_image(torch.from_numpy(rgba).permute(2, 0, 1)), expected, atol=1)

    def test_grey_with_alpha(self, tmp_path: Path) -> None:
        image = Image.merge("LA", (Image.new("L", (1, 1), 40), Image.new("L", (1, 1), 0)))
        assert read_image(save(image, tmp_path / "la.png")).tolist() == [[[255, 255, 255]]]

    def test_16_bit_is_scaled(self, tmp_path: Path) -> None:
        grey = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
        path = save(Image.fromarray(grey), tmp_path / "deep.png")
        assert read_image(path)[0, :, 0].tolist() == [0, 1, 128, 255]

    def test_cmyk(self, tmp_path: Path) -> None:
        path = save(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "ink.jpg")
        red, green, blue = read_image(path)[4, 4].tolist()
        assert red > 240
        assert green < 15
        assert blue < 15

    def test_animation_gives_first_frame(self, tmp_path: Path) -> None:
        frames = [Image.new("RGB", (3, 2), colour) for colour in ("red", "blue")]
        path = save(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
        assert read_image(path)[0, 0].tolist() == [255, 0, 0]

    def test_32_bit_integers_out_of_range(self) -> None:
        with pytest.raises(ValueError, match=r"values 0\.\.70000, expected 16 bits"):
            read_image(Image.fromarray(np.array([[0, 70000]], dtype=np.int32)))

    def test_broken_exif_is_ignored(self, tmp_path: Path, rgb: np.ndarray) -> None:
        path = save(Image.fromarray(rgb), tmp_path / "a.png", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff")
        np.testing.assert_array_equal(read_image(path), rgb)


class TestRefusedFiles:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"no\.jpg' does not exist; check the file name"):
            read_image(tmp_path / "no.jpg")

    def test_missing_directory(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"there is no directory .*nowhere' either"):
            read_image(tmp_path / "nowhere" / "no.jpg")

    def test_address(self) -> None:
        with pytest.raises(FileNotFoundError, match=r"is an address, not a file; a predictor reads http"):
            read_image("https://example.org/cat.jpg")

    def test_directory(self, tmp_path: Path) -> None:
        with pytest.raises(IsADirectoryError, match=r"is a directory, expected an image file; list_images"):
            read_image(tmp_path)

    def test_zero_bytes(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.jpg"
        path.touch()
        with pytest.raises(ValueError, match=r"empty\.jpg' is empty \(0 bytes\); copy or download it again"):
            read_image(path)

    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp"])
    def test_truncated(self, tmp_path: Path, suffix: str) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        path = save(Image.fromarray(noise), tmp_path / f"cut.{suffix}")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(
            ValueError, match=rf"cut\.{suffix}' (is damaged or cut off|is not an image that Pillow can read)"
        ):
            read_image(path)

    def test_text_called_jpg(self, tmp_path: Path) -> None:
        path = tmp_path / "note.jpg"
        path.write_text("hello, I am no picture")
        with pytest.raises(ValueError, match=r"note\.jpg' is not an image .*starts with b'hello, I am '.*convert it"):
            read_image(path)

    def test_20000_x_20000_is_refused_from_the_header(self, tmp_path: Path) -> None:
        buffer = io.BytesIO()
        Image.new("L", (1, 1)).save(buffer, "PNG")
        data = bytearray(buffer.getvalue())
        data[16:24] = (20000).to_bytes(4, "big") * 2  # width and height in the PNG header; the pixels are not there
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        path = tmp_path / "huge.png"
        path.write_bytes(data)
        with pytest.raises(
            ValueError,
            match=r"20000 x 20000 = 400,000,000 pixels, more than the limit of 120,000,000.*max_pixels=400000000",
        ):
            read_image(path)

    def test_limit_can_be_set(self, tmp_path: Path, rgb: np.ndarray) -> None:
        path = save(Image.fromarray(rgb), tmp_path / "a.png")
        assert read_image(path, max_pixels=24).shape == (4, 6, 3)
        for source in (path, rgb, Image.fromarray(rgb), torch.zeros(3, 4, 6)):
            with pytest.raises(ValueError, match=r"6 x 4 = 24 pixels, more than the limit of 23"):
                read_image(source, max_pixels=23)

    def test_pillow_limit_is_left_as_it_was(
        self, tmp_path: Path, rgb: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)  # would raise at 24 pixels, more than twice the limit
        assert read_image(save(Image.fromarray(rgb), tmp_path / "a.png")).shape == (4, 6, 3)
        assert Image.MAX_IMAGE_PIXELS == 5


class TestRefusedValues:
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_not_finite(self, value: float) -> None:
        tensor = torch.zeros(3, 2, 2)
        tensor[1, 0, 1] = value
        with pytest.raises(ValueError, match=r"has 1 NaN or infinite values"):
            read_image(tensor)

    def test_float_tensor_in_0_255(self) -> None:
        with pytest.raises(ValueError, match=r"values 0\.\.200, expected floats in \[0, 1\]; divide by 255"):
            read_image(torch.tensor([0.0, 200.0, 3.0]).reshape(3, 1, 1))

    def test_normalised_tensor(self) -> None:
        with pytest.raises(ValueError, match=r"values -2\.\.2, expected floats in \[0, 1\]; undo the normalisation"):
            read_image(torch.tensor([-2.0, 2.0, 0.0]).reshape(3, 1, 1))

    def test_integer_tensor(self) -> None:
        with pytest.raises(ValueError, match=r"torch\.int64 must be uint8"):
            read_image(torch.zeros(3, 2, 2, dtype=torch.long))

    def test_channels_last_tensor(self) -> None:
        with pytest.raises(ValueError, match=r"\(5, 6, 3\).*channels-last, call permute\(2, 0, 1\)"):
            read_image(torch.zeros(5, 6, 3))

    def test_batch_tensor(self) -> None:
        with pytest.raises(ValueError, match=r"expected \(3, h, w\); a batch goes in as a list"):
            read_image(torch.zeros(2, 3, 4, 4))

    @pytest.mark.parametrize("high", [1.0, 200.0])
    def test_float_array(self, high: float) -> None:
        with pytest.raises(ValueError, match=r"float64 must be uint8 .*\(array \* 255\)"):
            read_image(np.full((2, 2, 3), high))

    def test_16_bit_array(self) -> None:
        with pytest.raises(ValueError, match=r"uint16 must be uint8 with values 0\.\.255; scale it"):
            read_image(np.zeros((2, 2, 3), dtype=np.uint16))

    def test_two_channels(self) -> None:
        with pytest.raises(ValueError, match=r"shape \(5, 5, 2\).*is no image; expected \(h, w\)"):
            read_image(np.zeros((5, 5, 2), dtype=np.uint8))

    def test_one_dimension(self) -> None:
        with pytest.raises(ValueError, match=r"shape \(12,\).*is no image"):
            read_image(np.zeros(12, dtype=np.uint8))

    def test_channels_first_array(self) -> None:
        with pytest.raises(ValueError, match=r"channels-first, call transpose\(1, 2, 0\)"):
            read_image(np.zeros((3, 5, 5), dtype=np.uint8))

    def test_no_pixels(self) -> None:
        with pytest.raises(ValueError, match=r"has no pixels \(0 x 4\)"):
            read_image(np.zeros((4, 0, 3), dtype=np.uint8))

    def test_other_type(self) -> None:
        with pytest.raises(TypeError, match=r"cannot read an image from b'abc' \(bytes\)"):
            read_image(b"abc")  # type: ignore[arg-type]


class TestListImages:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("b.jpg", "a.PNG", "notes.txt", "sub/c.jpg", "[1].jpg"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    def test_directory_is_sorted_and_flat(self, folder: Path) -> None:
        assert [p.name for p in list_images(folder)] == ["[1].jpg", "a.PNG", "b.jpg"]

    def test_pattern(self, folder: Path) -> None:
        assert [p.name for p in list_images(str(folder / "**" / "*.jpg"))] == ["[1].jpg", "b.jpg", "c.jpg"]

    def test_pattern_comes_by_each_file_once_whatever_is_linked(self, folder: Path) -> None:
        elsewhere = folder.with_name(folder.name + "_linked")
        elsewhere.mkdir()
        (elsewhere / "d.jpg").touch()
        links = {"sub/up": folder, "sub/self": folder / "sub", "far": elsewhere, ".hidden": elsewhere}
        for name, target in {**links, "sub/gone": folder / "nothing"}.items():
            (folder / name).symlink_to(target)
        (elsewhere / "back").symlink_to(folder / "sub")  # and from there up again
        found = [p.relative_to(folder).as_posix() for p in list_images(str(folder / "**" / "*.jpg"))]
        assert found == ["[1].jpg", "b.jpg", "far/back/c.jpg", "far/d.jpg", "sub/c.jpg"]

    @pytest.mark.parametrize(
        "pattern", ["**", "**/*", "*/**", "sub/**/*.jpg", "**/sub/*", "./**/sub/**/*.jpg", "*.jpg"]
    )
    def test_patterns_mean_what_they_mean_to_python(
        self, folder: Path, pattern: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folder)
        for start in ("", f"{folder}/"):
            wanted = sorted({Path(name) for name in glob.glob(start + pattern, recursive=True) if Path(name).is_file()})
            assert [path for path in matches(start + pattern) if path.is_file()] == wanted

    def test_order_is_kept_and_each_once(self, folder: Path) -> None:
        result = list_images([folder / "b.jpg", folder, str(folder / "*.PNG")])
        assert [p.name for p in result] == ["b.jpg", "[1].jpg", "a.PNG"]

    def test_file_with_brackets_or_any_suffix(self, folder: Path) -> None:
        assert list_images([folder / "[1].jpg", folder / "notes.txt"]) == [folder / "[1].jpg", folder / "notes.txt"]

    def test_nothing_given(self) -> None:
        with pytest.raises(ValueError, match="no images given"):
            list_images([])

    def test_missing_file(self, folder: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"no\.jpg' does not exist"):
            list_images([folder / "b.jpg", folder / "no.jpg"])

    def test_pattern_without_match(self, folder: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"pattern '.*\*\.gif' matches no image files"):
            list_images(str(folder / "*.gif"))

    def test_directory_without_images(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"holds no image files.*use the pattern"):
            list_images(tmp_path)


@pytest.mark.skipif(not SHARED_PHOTOS.is_dir(), reason="shared/data/pascal_part_18 is absent")
def test_real_photos() -> None:
    paths = list_images(str(SHARED_PHOTOS / "**" / "*.jpg"))
    assert len(paths) == 18
    image = read_image(paths[0])
    assert image.shape[2] == 3
    assert image.std() > 10


@pytest.mark.parametrize(
    ("at_least", "size"),
    [((50, 75), (51, 76)), ((51, 76), (101, 151)), ((100, 10), (101, 151)), ((1, 1), (51, 76)), ((999, 9), (401, 603))],
)
def test_jpegs_may_come_smaller(tmp_path: Path, at_least: tuple[int, int], size: tuple[int, int]) -> None:
    """By a power of two, never below what is wanted; other formats come as they are."""
    pixels = np.full((401, 603, 3), 77, np.uint8)
    for suffix, wanted in ((".jpg", size), (".png", (401, 603))):
        Image.fromarray(pixels).save(tmp_path / f"a{suffix}")
        small = read_image(tmp_path / f"a{suffix}", at_least=at_least)
        assert small.shape == (*wanted, 3) and np.abs(small.astype(int) - 77).max() <= 2
    assert read_image(tmp_path / "a.jpg").shape == (401, 603, 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "I;16", "1", "CMYK"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_strips_give_what_the_whole_gives(
    rgb: np.ndarray, mode: str, turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey = mode == "I;16"
    image = Image.fromarray(rgb[..., 0].astype(np.uint16) * 257) if grey else Image.fromarray(rgb).convert(mode)
    if mode == "P":
        image.info["transparency"] = 3
    image.getexif()[ExifTags.Base.Orientation] = turn
    whole = read_image(image)
    turned = ImageOps.exif_transpose(image)
    expected = read_image(turned)
    monkeypatch.setattr(images, "_STRIP", 10)
    assert np.array_equal(read_image(image), whole) and np.array_equal(whole, expected)


def test_decoders_that_take_more_memory_have_a_smaller_limit(
    rgb: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(rgb).save(tmp_path / "a.webp")
    monkeypatch.setitem(images._HUNGRY, "WEBP", 10)
    with pytest.raises(ValueError, match="more than the limit of 10"):
        read_image(tmp_path / "a.webp")
    assert read_image(tmp_path / "a.webp", max_pixels=10**6).shape == rgb.shape


# -- found by tests/fuzz


def png(folder: Path, change: Callable[[bytearray, int], None]) -> Path:
    """A PNG that was changed; the change is told where the data of its pixels begin."""
    Image.fromarray(np.arange(24 * 40, dtype=np.uint8).reshape(24, 40)).save(folder / "a.png")
    content = bytearray((folder / "a.png").read_bytes())
    change(content, content.index(b"IDAT") + 4)
    (folder / "a.png").write_bytes(content)
    return folder / "a.png"


def flip_a_pixel(content: bytearray, start: int) -> None:
    """Stored pixels that still unpack: only the checksums know."""
    length = int.from_bytes(content[start - 8 : start - 4], "big")
    pixels = bytearray(zlib.decompress(content[start : start + length]))
    pixels[30] ^= 1
    packed = zlib.compress(bytes(pixels))
    old = content[start + length : start + length + 4]
    content[start - 8 :] = len(packed).to_bytes(4, "big") + b"IDAT" + packed + old + content[start + length + 4 :]


def claim_gigabytes(content: bytearray, start: int) -> None:
    content[start - 8 : start - 4] = b"\xf0\0\0\0"


@pytest.mark.parametrize("change", [flip_a_pixel, claim_gigabytes])
def test_checksums_of_png_are_verified(tmp_path: Path, change: Callable[[bytearray, int], None]) -> None:
    """Pillow passes over those of the pixels, and would read what a chunk claims in one piece."""
    file = png(tmp_path, change)
    for read in (read_image, read_label_map):
        with pytest.raises(ValueError, match=r"a\.png.*the checksum of its IDAT chunk is wrong"):
            read(file)
    assert read_image(png(tmp_path, lambda content, start: None)).shape == (24, 40, 3)


@pytest.mark.parametrize("error", [RuntimeError("frame 0"), IndexError("x"), OverflowError("x"), MemoryError()])
def test_whatever_a_decoder_raises_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.bmp")

    def fail(self: Any) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "load", fail)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(ValueError, match=r"a\.bmp' is damaged"):
        read_image(tmp_path / "a.bmp")
