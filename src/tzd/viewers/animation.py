"""Moments as an animation: a GIF, or an MP4 by ffmpeg."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tzd.checkpoint.durable import replace_file
from tzd.errors import MissingExtraError, TzdError
from tzd.viewers.raster import Raster
from tzd.viewers.timeline import pace

if TYPE_CHECKING:
    from PIL.Image import Image

    from tzd.sampling import Frame
    from tzd.viewers.panel import Panel

HOLD = 2.0  # seconds that the last picture stays

_FASTEST = {".gif": 25.0, ".mp4": 60.0}  # pictures a second; browsers slow quicker GIFs down
_SLOWEST = 4.0  # frames a second, unless told otherwise
_CLEAR = 255  # a GIF's colour for what has not changed; no picture has as many


def write_animation(
    panels: Sequence[Panel],
    moments: Iterator[tuple[Frame, ...]],
    path: Path,
    *,
    speed: float | None = None,
    theme: str = "dark",
) -> tuple[Frame, ...]:
    """Writes a .gif, which loops, or an .mp4; in both the last picture stays for `HOLD` seconds.

    Where there are more moments a second than the format can show, some are drawn together.

    Args:
        panels: what is shown.
        moments: a frame for each panel, one after the other.
        path: the file.
        speed: moments a second; that of `tzd.viewers.timeline.pace` if None, and few moments take less.
        theme: "dark" or "light".

    Returns:
        The last moment.

    Raises:
        MissingExtraError: there is no ffmpeg for an MP4.
        TzdError: the file cannot be written.
    """
    write = {".gif": _gif, ".mp4": _mp4}[path.suffix.lower()]
    seen = list(moments)
    runs, rate = _in_time(seen, speed or max(_SLOWEST, pace(len(seen), seen[-1])), _FASTEST[path.suffix.lower()])
    raster = Raster(panels, seen[0], theme)
    replace_file(path, write(raster, (raster.draw(run) for run in runs), len(runs), rate))
    return seen[-1]


def ffmpeg() -> str:
    """The program's path: that of the extra `video`, else one that is installed.

    Raises:
        MissingExtraError: there is none.
    """
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return str(get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        program = shutil.which("ffmpeg")
        if program is None:
            raise MissingExtraError("writing an MP4", "video") from error
        return program


def _in_time(seen: list[Any], speed: float, fastest: float) -> tuple[list[list[Any]], float]:
    """What each picture shows, the first one the first moment alone, and pictures a second."""
    if speed <= fastest:
        return [[moment] for moment in seen], speed
    pictures = min(len(seen), max(2, round(len(seen) / speed * fastest)))
    ends = np.linspace(1, len(seen), pictures).round().astype(int)
    runs = [seen[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
    return runs, min(fastest, pictures * speed / len(seen))


def _gif(raster: Raster, pictures: Iterator[np.ndarray], count: int, rate: float) -> bytes:
    from PIL.GifImagePlugin import getdata, getheader

    ends = np.rint(np.arange(1, count + 1) * (100 / rate)).astype(int)  # hundredths of a second
    ends[-1] += round(100 * HOLD)
    times = (10 * np.diff(ends, prepend=0)).tolist()
    file = io.BytesIO()
    before = None
    for picture, duration in zip(pictures, times, strict=True):
        if before is None:
            image = _image(picture, raster.palette)
            file.writelines(getheader(image, info={"loop": 0})[0])
            file.writelines(getdata(image, duration=duration, disposal=1))
        else:
            part, corner = _changed(before, picture)
            image = _image(part, raster.palette)
            file.writelines(getdata(image, corner, duration=duration, disposal=1, transparency=_CLEAR))
        before = picture
    return file.getvalue() + b";"


def _image(picture: np.ndarray, palette: np.ndarray) -> Image:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture))
    image.putpalette(palette.tobytes().ljust(3 * (_CLEAR + 1), b"\0"))
    return image


def _changed(before: np.ndarray, picture: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """The rectangle that holds all that changed, the rest of it clear, and its upper left corner (x, y)."""
    changed = before != picture
    ys, xs = (np.flatnonzero(changed.any(axis)) for axis in (1, 0))
    if not ys.size:
        return np.full((1, 1), _CLEAR, dtype=np.uint8), (0, 0)
    where = slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1)
    return np.where(changed[where], picture[where], _CLEAR).astype(np.uint8), (int(xs[0]), int(ys[0]))


def _mp4(raster: Raster, pictures: Iterator[np.ndarray], count: int, rate: float) -> bytes:
    program = ffmpeg()
    height, width = raster.shape
    ground = "0x{:02x}{:02x}{:02x}".format(*raster.ground)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as says:
        out = Path(folder, "out.mp4")
        command = [
            program, "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
            "-framerate", f"{rate:.6f}", "-i", "-", "-an",
            "-vf", f"pad=ceil(iw/2)*2:ceil(ih/2)*2:color={ground},scale=out_color_matrix=bt709",
            "-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", "-colorspace", "bt709", "-color_primaries", "bt709",
            "-color_trc", "bt709", "-movflags", "+faststart", str(out),
        ]  # fmt: skip
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=says)
        assert process.stdin is not None
        try:
            for picture in pictures:
                data = raster.palette[picture].tobytes()
                process.stdin.write(data)
            for _ in range(round(HOLD * rate)):
                process.stdin.write(data)
            process.stdin.close()
            failed = process.wait() != 0
        except BrokenPipeError:
            failed = True
        finally:  # an interrupt leaves no program behind
            process.kill()
            process.wait()
            with suppress(OSError):
                process.stdin.close()
        if failed:
            says.seek(0)
            reason = says.read().decode(errors="replace").strip().splitlines() or ["it says nothing"]
            raise TzdError(f"{program} cannot make an MP4: {reason[-1]}")
        return out.read_bytes()
