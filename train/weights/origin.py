"""What a training starts from, for the record in the model's file: the name, the digest and the licence of the weights.

The licence goes by the digest of the file, not by the flag: a published file that was fetched by hand is the same
file. Weights that are not in :data:`~aweigh.train.weights.imagenet.PUBLISHED` have none that aweigh knows.
"""

from __future__ import annotations

import posixpath
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from aweigh.runtime.files.digest import file_sha256
from aweigh.runtime.spec import STARTING_DIGEST, STARTING_LICENSE, STARTING_WEIGHTS
from aweigh.train.weights.imagenet import PUBLISHED

# Training began with random weights.
RANDOM = {STARTING_WEIGHTS: "none, random weights"}
RECORDED = (STARTING_WEIGHTS, STARTING_DIGEST, STARTING_LICENSE)


def origin_of_weights(source: str, path: Path) -> dict[str, str]:
    """The entries of a spec's parents for the weights of a backbone.

    Args:
        source: as the recipe names it; of a path or an address only the file's name is recorded: folders and
            passwords stay here.
        path: the file that it led to.

    Returns:
        Name and sha256; the licence where the file is a published one.
    """
    sha256 = file_sha256(path)
    published = next((one for one in PUBLISHED.values() if sha256.startswith(one.digits)), None)
    name = path.name
    if published is not None:
        name = published.name
    elif source.startswith("hf:"):
        name = source.partition("#")[0]
    elif "://" in source:
        name = posixpath.basename(urllib.parse.urlsplit(source).path)
    entries = {STARTING_WEIGHTS: name, STARTING_DIGEST: sha256}
    return entries if published is None else {**entries, STARTING_LICENSE: published.license}


def origin_of_checkpoint(path: Path, sha256: str, parents: Mapping[str, str]) -> dict[str, str]:
    """The same for a training that goes on from a detector: what that one started from is named, too.

    Args:
        path: of the checkpoint.
        sha256: of the checkpoint.
        parents: of the checkpoint's spec.
    """
    released, before = parents.get("released_file"), parents.get(STARTING_WEIGHTS)
    if released is not None:
        how = f"which holds the released {released}"
    elif before is not None:
        how = f"which started from {before}"
    else:
        how = "which does not record what it started from"
    entries = {STARTING_WEIGHTS: f"{path.name}, {how}", STARTING_DIGEST: sha256}
    return entries | {name: parents[name] for name in (STARTING_LICENSE,) if name in parents}
