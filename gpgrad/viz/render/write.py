"""Output of frames as animated GIF or MP4."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gpgrad.errors import SettingError

COLOURS = 96  # of a GIF's palette: enough for flat drawings
LAST = 2.0  # seconds of a GIF's last frame
KINDS = (".gif", ".mp4")


def check(path: Path) -> None:
    """Raise SettingError for file types that cannot be written, before anything is drawn."""
    if path.suffix not in KINDS:
        raise SettingError(f"--out must be a name that ends in {' or '.join(KINDS)} (got {str(path)!r})")
    if path.suffix == ".mp4":
        _ffmpeg()


def write(path: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    """Write frames uint8 [H, W, 3] of one size. Raises SettingError as `check`."""
    check(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        _gif(path, frames, fps)
    else:
        _mp4(path, frames, fps)


def _gif(path: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    """Write a GIF with one palette; `optimize` makes unchanged pixels transparent, which halves the size."""
    from PIL import Image

    plain = Image.Dither.NONE
    palette = _palette(frames)
    images = [Image.fromarray(frame).quantize(palette=palette, dither=plain) for frame in frames]
    every = 1000 / fps
    times = [round(every)] * (len(images) - 1) + [round(1000 * LAST)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=times, loop=0, optimize=True, disposal=1)


def _palette(frames: Sequence[np.ndarray]):
    """A palette of the most common colours, and of the others by median cut, each counted once."""
    from PIL import Image

    found = [np.unique(frame @ (65536, 256, 1), return_counts=True) for frame in frames]
    numbers, place = np.unique(np.concatenate([own for own, _ in found]), return_inverse=True)
    often = np.argsort(-np.bincount(place, np.concatenate([counts for _, counts in found])))
    colours = (numbers[often][:, None] >> np.array([16, 8, 0]) & 255).astype(np.uint8)
    plain, rest = colours[: COLOURS // 2], colours[COLOURS // 2 :]
    entries = plain.ravel().tolist()
    if len(rest):
        cut = Image.fromarray(rest[None]).quantize(COLOURS // 2, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        entries += (cut.getpalette() or [])[: 3 * (COLOURS // 2)]
    image = Image.new("P", (1, 1))
    image.putpalette(entries)
    return image


def _mp4(path: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    height, width = (
        size - size % 2 for size in frames[0].shape[:2]
    )  # H.264 halves the colour resolution, so sizes must be even
    options = {"fps": fps, "codec": "libx264", "macro_block_size": 2, "quality": 7}
    writer = _ffmpeg().write_frames(str(path), (width, height), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # jax warns of forks; this child becomes ffmpeg at once
        writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame[:height, :width]))
    writer.close()


def _ffmpeg():
    try:
        import imageio_ffmpeg
    except ImportError:
        raise SettingError(
            "MP4 needs imageio-ffmpeg, which is not installed: pip install 'gpgrad[video]' (GIF does not need it)"
        ) from None
    return imageio_ffmpeg
