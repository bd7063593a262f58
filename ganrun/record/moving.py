"""Moving pictures of frames, GIF and MP4: whole or not there."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ganrun.core.errors import ConfigError, EnvironmentFailed
from ganrun.record.atomic import environment, sync_folder, write_atomically


def save_gif(path: Path, frames: Sequence[np.ndarray], fps: int) -> None:
    """Write frames, uint8 [H, W, 1 or 3] each, as a GIF that repeats. A frame equal to the one before lengthens it."""
    pictures = [Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame) for frame in frames]
    buffer = io.BytesIO()
    first, *rest = pictures
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)
    with environment(f"cannot save {path}"):
        write_atomically(path, buffer.getbuffer())


def check_mp4() -> None:
    """Raises ConfigError where what writes MP4 is not installed."""
    try:
        import imageio.v2  # noqa: F401
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise ConfigError("out", f"an MP4, but {error.name} is not installed", "imageio with imageio-ffmpeg",
                          "pip install 'ganrun[video]', or out=walk.gif") from error  # fmt: skip


def save_mp4(path: Path, frames: Sequence[np.ndarray], fps: int) -> None:
    """Write frames, uint8 [H, W, 1 or 3] each, as an MP4 (H.264), which any browser shows.

    Height and width become even by a black edge. Raises ConfigError as `check_mp4` does, EnvironmentFailed for a file
    that cannot be written.
    """
    check_mp4()
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.mp4")
    try:
        with environment(f"cannot save {path}"):
            _encode(temporary, frames, fps)
            os.replace(temporary, path)
            sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _encode(path: Path, frames: Sequence[np.ndarray], fps: int) -> None:
    import imageio.v2
    import imageio_ffmpeg

    video: dict[str, Any] = {"fps": fps, "codec": "libx264", "quality": 8, "macro_block_size": 2}
    imageio.v2.mimwrite(path, [_even(frame) for frame in frames], format="FFMPEG", **video)
    try:
        written = imageio_ffmpeg.count_frames_and_secs(str(path))[0]
    except RuntimeError:  # what is no MP4: ffmpeg says nothing when its disk is full
        written = 0
    if written != len(frames):
        raise EnvironmentFailed(f"cannot save {path}: {written} of {len(frames)} frames were written")


def _even(frame: np.ndarray) -> np.ndarray:
    """Three channels, of even height and width. [H, W, C] -> [H', W', 3]"""
    height, width, channels = frame.shape
    wider = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)))
    return wider if channels == 3 else wider.repeat(3, axis=2)
