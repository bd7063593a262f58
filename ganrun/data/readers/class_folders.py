"""Class folders: the folders right below the root, as the labels of the images in them."""

from __future__ import annotations

from ganrun.core.errors import ConfigError
from ganrun.data.readers.listing import Listing, some
from ganrun.data.readers.regular import printable

SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation"})


def class_folders(found: Listing, required: bool) -> list[str]:
    """The folders that label the images, sorted; empty when the images are unlabelled.

    Raises ConfigError for labels that are required and missing, for images beside class folders, and for splits.
    """
    groups = set(found.groups)
    names = sorted(groups - {""})
    if not names:
        if required:
            files = f"{len(found.names)} files and no class folders"
            remedy = "a model that needs no labels, and .labels=null"
            raise ConfigError(".labels", files, "a folder for each class, dataset.json or labels.csv", remedy)
        return []
    if "" in groups:
        stray = found.groups.count("")
        raise ConfigError(".path", f"{stray} images beside {len(names)} class folders", "one or the other",
                          ".labels=false to use all of them without classes")  # fmt: skip
    splits = [name for name in names if name.lower() in SPLITS]
    if splits:
        shown = some([printable(name) for name in splits])
        raise ConfigError(".path", f"the folders {shown} are parts of a data set", "class folders",
                          f"adding /{splits[-1] if 'train' not in splits else 'train'} to .path")  # fmt: skip
    return names
