"""Translations of a folder of images, as PNG files of the same names and sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from torch import Tensor

from ganrun.core.errors import ConfigError
from ganrun.core.from_images import FromImages
from ganrun.core.seeding import generators_kept, reseed
from ganrun.data.datasets.raw_ends import raw_ends
from ganrun.data.readers.headers import read_headers
from ganrun.data.readers.image_file import decode_whole
from ganrun.data.readers.open_root import open_root
from ganrun.data.readers.progress_bar import track
from ganrun.data.readers.regular import UnreadableImage
from ganrun.data.transforms.value_range import to_units
from ganrun.record.grid import to_bytes
from ganrun.record.progress import shown
from ganrun.record.samples import save_pngs
from ganrun.run.load import LoadedRun, RunForm
from ganrun.run.place import place
from ganrun.run.samples import SampleForm

READ = ("images", "direction", "out", "seed", "format", *(field.name for field in fields(RunForm)))


class Translations:
    """Images of a folder or an archive, translated one by one, each at its own size."""

    def __init__(self, run: LoadedRun, form: SampleForm):
        """Raises ConfigError, before any image is translated, for what the run cannot do and what cannot be read."""
        assert isinstance(run.game, FromImages)
        self.run, self.form, self.game = run, form, run.game
        self._refuse_others()
        self.direction = self._direction()
        self._open(form.images)
        self.path = place(run, form.out, "", "translations", [*self._words(), f"seed_{form.seed}"])
        if self.path.resolve().is_relative_to(Path(str(form.images)).expanduser().resolve()):
            found = f"{shown(self.path)}, inside the folder that is translated"
            raise ConfigError("out", found, "a folder outside of it", "out=translated")

    def _open(self, images: str | None) -> None:
        """Find the images, and which of their raw values become -1 and 1. Raises ConfigError."""
        if not images:
            found = "not set, and this run makes images from images"
            raise ConfigError("images", found, "some to translate", "images=FOLDER")
        try:
            self.root = open_root(str(Path(images).expanduser()), "images")
            self.names = self.root.listing().names
            headers = read_headers(self.root, self.names, skip_bad=False).seen
            self.ends = raw_ends(self.root, self.names, headers, channels=self._channels, setting=self._range())
        except ConfigError as error:
            remedy = error.remedy if error.where == "images" else "taking these out, or another folder"
            raise ConfigError("images", error.found, error.expected, remedy) from error
        if not self.names:
            raise ConfigError("images", f"no images in {images}", "image files such as PNG or JPEG",
                              "a folder that holds some")  # fmt: skip

    def write(self) -> str:
        """Translate and write; returns a line that says what was written, and where."""
        count = len(self.names)
        with generators_kept(self.run.device):
            made = track(self._made(), "translating", count, few=0)
            save_pngs(self.path, (to_bytes(image[None])[0] for image in made), _png_names(self.names))
        kind = "image" if count == 1 else "images"
        return f"{count:,} {kind} translated ({self.direction}) by step {self.run.step:,}: {shown(self.path)}"

    def _made(self) -> Iterator[Tensor]:
        """The translations, one by one. [C, H, W] Raises ConfigError for a file that turns out to be damaged.

        Random numbers of layers that draw some follow from the seed alone, so that files do not depend on each other.
        """
        for name, ends in zip(self.names, self.ends, strict=True):
            try:
                with self.root.open(name) as file:
                    image = to_units(decode_whole(file, channels=self._channels, ends=ends))
            except (UnreadableImage, OSError) as problem:  # damaged between its header and its end
                found, remedy = f"{self.root.place(name)} {problem}", "taking it out, or another folder"
                raise ConfigError("images", found, "whole images", remedy) from problem
            reseed(self.form.seed, "translate")
            yield self.game.translate(self.direction, image[None].to(self.run.device))[0].cpu()

    @property
    def _channels(self) -> int:
        return int(self.run.settings["dataset"]["channels"])

    def _range(self) -> Sequence[float] | None:
        """The raw values that became -1 and 1 in training, where that is a setting of what was translated."""
        data = self.run.settings["dataset"]
        node = data.get(self.game.origins[self.direction], data.get("input", data))
        return node.get("range") if isinstance(node, Mapping) else None

    def _direction(self) -> str:
        """The direction that was asked for, the first without one. Raises ConfigError for one that there is not."""
        possible, wanted = list(self.game.plans), self.form.direction
        if wanted is None:
            return possible[0]
        if wanted not in possible:
            raise ConfigError("direction", wanted, " or ".join(possible), f"direction={possible[0]}")
        return wanted

    def _refuse_others(self) -> None:
        """Raises ConfigError for settings that mean nothing for translations."""
        for field in fields(self.form):
            if field.name not in READ and getattr(self.form, field.name) != field.default:
                found = f"{getattr(self.form, field.name)}, but this run makes images from images"
                raise ConfigError(field.name, found, "a run whose images are made from noise",
                                  f"leaving {field.name} out")  # fmt: skip
        if self.form.format not in (None, "png"):
            found = f"{self.form.format}, but translations keep their names and sizes"
            raise ConfigError("format", found, "png", "format=png")

    def _words(self) -> list[str]:
        """What was asked for, for the name of the folder."""
        return [Path(str(self.form.images)).stem, self.direction]


def _png_names(names: list[str]) -> list[str]:
    """The names of images with the ending .png, behind the old ending where two names would agree without it."""
    stems = [name.rpartition(".")[0] or name for name in names]
    counts = Counter(stems)
    return [f"{stem if counts[stem] == 1 else name}.png" for stem, name in zip(stems, names, strict=True)]
