"""Packed modules with bytecode: a host's Python takes it where it is its own, and the source where it is not."""

from __future__ import annotations

import base64
import importlib.util
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dsdeploy.bytecode import Compiler

SOURCE = "def who():\n    return 'compiled'\n"


def archive(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in files.items():
            packed.writestr(name, text)
    return base64.b64encode(out.getvalue())


def said(packed: bytes, place: Path, code: str) -> str:
    path = place / "payload.zip"
    path.write_bytes(base64.b64decode(packed))
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(path)!r}); {code}"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def changed(packed: bytes, name: str, change: dict[int, bytes]) -> bytes:
    """The archive with bytes of one file changed, by their place."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(packed))) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            for at, what in change.items() if entry.filename == name else ():
                content = content[:at] + what + content[at + len(what) :]
            new.writestr(entry.filename, content)
    return base64.b64encode(out.getvalue())


def test_the_bytecode_is_what_runs_and_the_source_is_still_there(tmp_path: Path) -> None:
    packed = Compiler().packed(archive({"pack/__init__.py": "", "pack/module.py": SOURCE, "pack/data.txt": "text"}))
    names = zipfile.ZipFile(io.BytesIO(base64.b64decode(packed))).namelist()
    assert sorted(names) == sorted(
        ["pack/__init__.py", "pack/module.py", "pack/data.txt", "pack/__init__.pyc", "pack/module.pyc"]
    )
    ask = "from pack import module as m; print(m.who(), m.__file__[-3:], m.who.__code__.co_filename)"
    assert said(packed, tmp_path, ask) == "compiled pyc pack/module.py"
    # Even if the source were another one: nothing is read but the bytecode.
    other = changed(packed, "pack/module.py", {SOURCE.index("compiled"): b"the text"})
    assert said(other, tmp_path, ask) == "compiled pyc pack/module.py"


def test_another_python_takes_the_source(tmp_path: Path) -> None:
    packed = Compiler().packed(archive({"module.py": SOURCE}))
    magic = bytes(255 - byte for byte in importlib.util.MAGIC_NUMBER)
    other = changed(packed, "module.pyc", {0: magic})
    assert said(other, tmp_path, "import module; print(module.who(), module.__file__[-3:])") == "compiled .py"


def test_a_module_as_this_ansible_keeps_it(tmp_path: Path) -> None:
    common = pytest.importorskip("ansible.executor.module_common")
    kept = tmp_path / "kept"
    plain = common._CachedModule(zip_data=archive({"module.py": SOURCE}), metadata=None, source_mapping={"a": "b"})
    plain.dump(str(kept))
    kept.write_bytes(Compiler().packed(kept.read_bytes()))
    both = common._CachedModule.load(str(kept))
    assert both.source_mapping == {"a": "b"}
    assert said(both.zip_data, tmp_path, "import module; print(module.__file__[-3:])") == "pyc"


@pytest.mark.parametrize("kept", [b"", b"no archive", b"\x80\x04N.", archive({"module.py": "def ("})])
def test_what_is_not_understood_stays_as_it_is(kept: bytes) -> None:
    assert Compiler().packed(kept) == kept
