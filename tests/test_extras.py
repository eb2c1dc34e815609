"""What is said of a missing extra fits how the package was installed."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from hilos_async._extras import install_command

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, 'pip install "hilos-async[redis]"'),
        (
            {"url": "file:///home/ana/hilos", "dir_info": {"editable": True}},
            'pip install --editable "/home/ana/hilos[redis]"',
        ),
        (
            {"url": "file:///home/ana/mis%20cosas", "dir_info": {"editable": True}},
            'pip install --editable "/home/ana/mis cosas[redis]"',
        ),
        (
            {"url": "file:///home/ana/hilos", "dir_info": {}},
            'pip install "hilos-async[redis] @ file:///home/ana/hilos"',
        ),
        (
            {
                "url": "https://git.invalid/hilos.git",
                "vcs_info": {"vcs": "git", "requested_revision": "main", "commit_id": COMMIT},
            },
            f'pip install "hilos-async[redis] @ git+https://git.invalid/hilos.git@{COMMIT}"',
        ),
        (
            {
                "url": "file:///tmp/hilos_async-0.1.0-py3-none-any.whl",
                "archive_info": {"hash": "sha256=00", "hashes": {"sha256": "00"}},
            },
            'pip install "hilos-async[redis] @ file:///tmp/hilos_async-0.1.0-py3-none-any.whl"',
        ),
    ],
    ids=["index", "editable", "a space in the path", "directory", "git", "wheel"],
)
@pytest.mark.skipif(sys.platform == "win32", reason="the paths are those of other systems")
def test_the_command_installs_the_extra_from_where_the_package_came(
    origin: dict[str, object] | None,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metadata = tmp_path / "hilos_async-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.4\nName: hilos-async\nVersion: 0.1.0\n")
    if origin is not None:
        (metadata / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.syspath_prepend(tmp_path)
    assert install_command("redis") == command


def test_a_checkout_that_was_never_installed_is_installed_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [])
    assert install_command("redis") == 'pip install ".[redis]" in the checkout'
