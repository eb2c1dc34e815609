"""How an extra that is missing is installed: the command for the way this package came here.

It reads what installers write down (PEP 610, ``direct_url.json``). Only a package without that file came
from an index by its name.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from urllib.parse import urlsplit
from urllib.request import url2pathname

import msgspec

_NAME = "hilos-async"


class _Origin(msgspec.Struct):
    """Where a package was installed from, if that was no index."""

    url: str
    dir_info: dict[str, bool] = {}
    vcs_info: dict[str, str] = {}


def install_command(extra: str) -> str:
    """The command that installs an extra of this package, in quotes that every shell takes."""
    try:
        written = distribution(_NAME).read_text("direct_url.json")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return f'pip install ".[{extra}]" in the checkout'
    if written is None:
        return f'pip install "{_NAME}[{extra}]"'
    origin = msgspec.json.decode(written, type=_Origin)
    if origin.dir_info.get("editable"):
        path = url2pathname(urlsplit(origin.url).path)
        return f'pip install --editable "{path}[{extra}]"'
    url = origin.url
    if origin.vcs_info:
        url = f"{origin.vcs_info['vcs']}+{url}@{origin.vcs_info['commit_id']}"
    return f'pip install "{_NAME}[{extra}] @ {url}"'
