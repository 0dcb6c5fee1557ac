"""Templates of the roles as Jinja compiles them, kept from one run to the next.

Every task runs in a process of its own, which compiles anew whatever its variables lead to: 640 templates in an `up`
that changes nothing, a third of what its processes compute. Kept are those alone that stand in the collection's own
files: what a user writes may hold a secret. Ansible's own table of names is kept beside them, as read.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dsdeploy import cache

_DIGEST = hashlib.sha256
# Of the environment, beside what `overrides` of a template can set: what the compiled code depends on.
_SETTINGS = (
    *("block_start_string", "block_end_string", "variable_start_string", "variable_end_string", "comment_start_string"),
    *("comment_end_string", "line_statement_prefix", "line_comment_prefix", "trim_blocks", "lstrip_blocks"),
    *("newline_sequence", "keep_trailing_newline"),
)


class Templates:
    """What was compiled, by what it depends on. `spool`: a directory where each process notes what it has compiled."""

    def __init__(self, known: dict[str, bytes], spool: Path) -> None:
        self._known, self._spool = known, spool

    def get(self, key: str) -> Any:
        found = self._known.get(key)
        return None if found is None else marshal.loads(found)

    def add(self, key: str, found: Any) -> None:
        made = marshal.dumps(found)
        self._known[key] = made
        with contextlib.suppress(OSError), open(self._spool / str(os.getpid()), "ab") as file:
            marshal.dump((key, made), file)


def read(path: Path) -> dict[str, bytes]:
    """What an earlier run wrote; nothing of a file that is damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return {}
    size = _DIGEST().digest_size
    found = marshal.loads(content[size:]) if _DIGEST(content[size:]).digest() == content[:size] else {}
    return found if isinstance(found, dict) else {}


def _spooled(spool: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in spool.iterdir():
        with open(path, "rb") as file:
            # A process that was killed leaves half an entry.
            with contextlib.suppress(EOFError, ValueError, TypeError):
                while True:
                    key, made = marshal.load(file)
                    found[key] = made
    return found


def write(path: Path, known: dict[str, bytes]) -> None:
    content = marshal.dumps(known)
    cache.write(path, _DIGEST(content).digest() + content)


def _ours(root: Path) -> re.Pattern[str]:
    """Files of roles and playbooks; not inventories, nor variables of groups and hosts beside a playbook."""
    # A checkout has links by which Ansible finds it as a collection.
    return re.compile(
        f"{re.escape(str(root))}/(.+/ansible_collections/dsdeploy/llm/)?(roles/|playbooks/([^/]+$|tasks/))"
    )


def use(templates: Templates, root: Path) -> None:
    """From now on Ansible takes the templates of the collection at `root` from `templates`.

    Raises ImportError or AttributeError where Ansible's own classes are others: before ansible-core 2.19.
    """
    from ansible._internal._datatag._tags import Origin  # type: ignore[import-untyped]
    from ansible._internal._templating import _jinja_bits as bits  # type: ignore[import-untyped]
    from jinja2.environment import TemplateExpression

    environment = bits.AnsibleEnvironment
    compile_source, compile_expression = environment.compile, environment.compile_expression
    context, config, ours = bits._TemplateCompileContext, bits._TemplateConfig, _ours(root)
    pending: list[str | None] = []  # the expression that is being compiled: Jinja passes on its nodes alone

    def key(env: Any, kind: str, source: str) -> str | None:
        origin = Origin.get_tag(source)
        if origin is None or not ours.match(origin.path or "") or getattr(env, "_debuggable_template_source", False):
            return None
        compiling = context.current(optional=True)
        settings = [getattr(env, name) for name in _SETTINGS]
        settings += [
            sorted(env.extensions),
            config.allow_embedded_templates,
            compiling and compiling.escape_backslashes,
        ]
        return f"{kind} {settings} {source}"

    def compiled(
        env: Any, source: Any, name: Any = None, filename: Any = None, raw: Any = False, defer: Any = False
    ) -> Any:
        known = None
        if not (name or filename or raw or defer):
            known = key(env, "template", source) if isinstance(source, str) else pending.pop() if pending else None
        code = templates.get(known) if known else None
        if code is None:
            code = compile_source(env, source, name, filename, raw, defer)
            if known:
                templates.add(known, code)
        return code

    def expression(env: Any, source: str, undefined_to_none: bool = True) -> Any:
        known = key(env, "expression", source)
        code = templates.get(known) if known else None
        if code is not None:
            template = env.template_class.from_code(env, code, env.make_globals(None), None)
            return TemplateExpression(template, undefined_to_none)
        pending[:] = [known] if known else []
        try:
            return compile_expression(env, source, undefined_to_none)
        finally:
            pending.clear()

    environment.compile, environment.compile_expression = compiled, expression


def use_routing(templates: Templates) -> None:
    """The same of where ansible.builtin's plugins and modules went: 370 KiB of YAML, read in every run."""
    from ansible.utils.collection_loader import _collection_finder as finder  # type: ignore[import-untyped]

    read_yaml = finder._meta_yml_to_dict

    def routing(text: bytes | str, what: tuple[str, str]) -> Any:
        if what[0] != "ansible.builtin":
            return read_yaml(text, what)
        known = f"routing {_DIGEST(text.encode() if isinstance(text, str) else text).hexdigest()}"
        found = templates.get(known)
        if found is None:
            found = read_yaml(text, what)
            templates.add(known, found)
        return found

    finder._meta_yml_to_dict = routing


@contextlib.contextmanager
def kept(root: Path, version: str, ansible: Path, others: list[str], used: Path) -> Iterator[None]:
    """While it is open, Ansible finds the templates that an earlier run compiled.

    `root`: of the collection; `version`, `ansible`: Ansible's, and where it lies; `others`: where Ansible looks for
    filters and tests besides; `used`: a directory of this run. A cache that cannot be used is none.
    """
    directories = [root / "plugins", ansible / "_internal/_templating", ansible / "plugins/filter"]
    directories += [ansible / "plugins/test", *map(Path, others)]

    def name() -> str:
        import jinja2

        return cache.key(f"{version} {jinja2.__version__}", directories)

    path, place, spool = None, cache.place("templates"), used / "templates"
    with contextlib.suppress(ImportError, AttributeError, OSError):
        if place:
            path = place / name()
            known = read(path)
            if known:
                os.utime(path)  # what is in use is not the oldest
            spool.mkdir(parents=True)
            templates = Templates(known, spool)
            use_routing(templates)
            use(templates, root)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if path and place and (new := _spooled(spool)) and path.name == name():
                write(path, {**read(path), **new})
                cache.remove_old(place)
