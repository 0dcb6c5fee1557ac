"""Packed modules with what Python makes of them beside each source.

A host compiles all sources of a packed module for every task: 0.1 to 0.3 s of CPU time each, half of what a process of
ours takes there. Python takes a `.pyc` in the archive instead where it is of its own version, else the source
(zipimport), so that hosts with another Python than the controller's lose nothing but some transfer.
"""

from __future__ import annotations

import base64
import dataclasses
import importlib.util
import io
import marshal
import pickle
import zipfile

# PEP 552: named by a hash of the source, which is not looked at again; times are of no use in an archive.
_UNCHECKED = (1).to_bytes(4, "little")


class Compiler:
    """Compiles each source once, as modules have most of theirs in common."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, bytes], bytes] = {}

    def packed(self, kept: bytes) -> bytes:
        """What Ansible keeps of a packed module, with bytecode in its archive; as it is where it cannot be read."""
        try:
            if kept.startswith(b"\x80"):  # since ansible-core 2.19: a pickled dataclass
                module = pickle.loads(kept)
                return pickle.dumps(dataclasses.replace(module, zip_data=self._archive(module.zip_data)))
            return self._archive(kept)
        except (ValueError, TypeError, AttributeError, SyntaxError, zipfile.BadZipFile):
            return kept

    def _archive(self, encoded: bytes) -> bytes:
        both = io.BytesIO(base64.b64decode(encoded))
        if not zipfile.is_zipfile(both):
            raise zipfile.BadZipFile  # it would be made one
        with zipfile.ZipFile(both, "a", zipfile.ZIP_DEFLATED) as archive:
            for name in archive.namelist():
                if name.endswith(".py"):
                    archive.writestr(f"{name}c", self._pyc(name, archive.read(name)))
        return base64.b64encode(both.getvalue())

    def _pyc(self, name: str, source: bytes) -> bytes:
        if (name, source) not in self._made:
            code = compile(source, name, "exec", dont_inherit=True, optimize=0)
            head = importlib.util.MAGIC_NUMBER + _UNCHECKED + importlib.util.source_hash(source)
            self._made[name, source] = head + marshal.dumps(code)
        return self._made[name, source]
