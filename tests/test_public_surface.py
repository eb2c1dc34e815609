"""What is public stays public, documented, and where it was announced."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import hilos_async

PUBLIC = [name for name in hilos_async.__all__ if name != "__version__"]


def test_all_is_sorted_and_complete() -> None:
    assert hilos_async.__all__ == sorted(hilos_async.__all__)
    bound = {
        name
        for name, value in vars(hilos_async).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert bound == set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_and_method_has_a_docstring(name: str) -> None:
    value = getattr(hilos_async, name)
    assert (value.__doc__ or "").strip()
    for member, function in vars(value).items():
        if not member.startswith("_") and (
            inspect.isfunction(function) or isinstance(function, property)
        ):
            assert (function.__doc__ or "").strip(), f"{name}.{member}"


def test_the_base_install_imports_nothing_but_its_four_packages() -> None:
    script = (
        "import sys; before = set(sys.modules); import aiohttp, msgspec, tenacity, anyio;"
        "packages = set(sys.modules); import hilos_async;"
        "print(sorted(m for m in set(sys.modules) - packages if not m.startswith('hilos_async')))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    extra = {name.split(".")[0] for name in eval(ran.stdout)}
    assert extra <= set(sys.stdlib_module_names)
    assert "testing" not in ran.stdout
