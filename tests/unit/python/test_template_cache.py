"""Compiled templates of the roles are taken from an earlier run; what a user wrote is never kept."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from dsdeploy import template_cache


def work(place: Path, number: int, templates: tuple[tuple[str, str], ...], variables: dict[str, Any], out: Any) -> None:
    """One run of Ansible's templating, in a process of its own: sends the results, and how many were compiled."""
    from ansible._internal._datatag._tags import Origin, TrustedAsTemplate
    from ansible._internal._templating import _jinja_bits
    from ansible.parsing.dataloader import DataLoader
    from ansible.template import Templar

    compiled, made, said = _jinja_bits.AnsibleEnvironment._compile, [], []
    _jinja_bits.AnsibleEnvironment._compile = lambda *args: made.append(1) or compiled(*args)
    shared = {"root": place / "root", "version": "v", "ansible": place / "ansible", "others": [str(place / "others")]}
    with template_cache.kept(**shared, used=place / f"used-{number}"):
        for path, text in templates:
            tagged = TrustedAsTemplate().tag(Origin(path=str(place / path)).tag(text))
            templar = Templar(DataLoader(), variables)
            try:
                said.append(
                    templar.evaluate_conditional(tagged) if path.endswith("#when") else templar.template(tagged)
                )
            except Exception as error:
                said.append(f"{type(error).__name__}: {str(error).splitlines()[0]}")
    out.send_bytes(json.dumps([said, len(made)]).encode())


ROLE, PLAY, LINKED = (
    "root/roles/a/tasks/main.yml",
    "root/playbooks/up.yml",
    ("root/playbooks/collections/ansible_collections/dsdeploy/llm/roles/a/defaults/main.yml"),
)


class Runs:
    def __init__(self, place: Path) -> None:
        self.place, self.runs = place, 0
        (place / "root/plugins/filter").mkdir(parents=True)
        (place / "root/plugins/filter/a.py").write_text("1\n")

    def run(self, *templates: tuple[str, str], **variables: Any) -> tuple[list[Any], int]:
        self.runs += 1
        there, here = multiprocessing.Pipe(duplex=False)
        # A fork: no other test sees what a run changes of Ansible's classes, and to import them anew is slow.
        process = multiprocessing.get_context("fork").Process(
            target=work, args=(self.place, self.runs, templates, variables, here)
        )
        process.start()
        here.close()
        said, made = json.loads(there.recv_bytes())
        process.join()
        return said, made

    @property
    def kept(self) -> str:
        return "".join(str(path.read_bytes()) for path in (self.place / "cache/dsdeploy/templates").iterdir())


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pytest.importorskip("ansible._internal._templating._jinja_bits")
    return Runs(tmp_path)


TEMPLATES = (
    (ROLE, "{{ a | regex_replace('^(.*)_x$', '\\1') }} of {{ numbers | map('int') | sum }}"),
    (PLAY, "{{ {'one': a, 'two': [a, none, 1.5]} }}"),
    (LINKED, "{% for number in numbers %}{{ number }},{% endfor %}"),
    ("root/.collections/ansible_collections/dsdeploy/llm/roles/a/b.yml", "{{ a is defined and a is match('a_') }}"),
    (f"{ROLE}#when", "a | length > 2 and numbers | length > 0"),
    (ROLE, "{{ nothing.that.is }}"),
    (ROLE, "{{ broken"),
)


def test_the_second_run_compiles_nothing_and_says_the_same(runs: Runs) -> None:
    first, made = runs.run(*TEMPLATES, a="a_x", numbers=["1", "2"])
    assert made == len(TEMPLATES) - 1 and first[:5] == [
        "a of 3",
        {"one": "a_x", "two": ["a_x", None, 1.5]},
        "1,2,",
        True,
        True,
    ]
    assert runs.run(*TEMPLATES, a="a_x", numbers=["1", "2"]) == (first, 0)
    # It is the template that is kept, not what it led to.
    assert runs.run(*TEMPLATES[:3], a="b", numbers=[])[0] == ["b of 0", {"one": "b", "two": ["b", None, 1.5]}, None]
    (path,) = (runs.place / "cache/dsdeploy/templates").iterdir()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize(
    "path",
    [
        "root/inventories/own/hosts.yml",
        "root/playbooks/group_vars/all.yml",
        "elsewhere/root/roles/a/b.yml",
        "root/rolesX/a",
    ],
)
def test_what_the_user_wrote_is_not_kept(runs: Runs, path: str) -> None:
    for _run in range(2):
        assert runs.run((path, "{{ a }}-planted"), (ROLE, "{{ a }}-ours"), a=1)[0] == ["1-planted", "1-ours"]
    assert "planted" not in runs.kept and "ours" in runs.kept


def test_it_is_made_anew_when_a_plugin_changes_or_it_is_damaged(runs: Runs) -> None:
    assert [runs.run((ROLE, "{{ a }}"), a=1)[1] for _run in range(2)] == [1, 0]
    (runs.place / "root/plugins/filter/a.py").write_text("2\n")
    assert [runs.run((ROLE, "{{ a }}"), a=1)[1] for _run in range(2)] == [1, 0]
    for path in (runs.place / "cache/dsdeploy/templates").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert [runs.run((ROLE, "{{ a }}"), a=1)[1] for _run in range(2)] == [1, 0]


def test_one_that_others_can_write_to_is_not_used(runs: Runs) -> None:
    runs.run((ROLE, "{{ a }}"), a=1)
    (runs.place / "cache/dsdeploy/templates").chmod(0o770)
    assert runs.run((ROLE, "{{ a }}"), a=1) == ([1], 1)


def test_half_an_entry_of_a_process_that_was_killed(tmp_path: Path) -> None:
    templates = template_cache.Templates({}, tmp_path)
    templates.add("one", compile("1", "a", "eval"))
    whole = (tmp_path / str(os.getpid())).read_bytes()
    (tmp_path / "killed").write_bytes(whole.replace(b"one", b"two") + whole[: len(whole) // 2])
    assert set(template_cache._spooled(tmp_path)) == {"one", "two"}


def test_where_plugins_went_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finder = pytest.importorskip("ansible.utils.collection_loader._collection_finder")
    asked = []

    def read(text: str, what: tuple[str, str]) -> dict[str, str]:
        asked.append(what[0])
        return {"text": text}

    known: dict[str, bytes] = {}
    for _run in range(2):
        monkeypatch.setattr(finder, "_meta_yml_to_dict", read)
        template_cache.use_routing(template_cache.Templates(known, tmp_path))
        for name, text in (("ansible.builtin", "a"), ("dsdeploy.llm", "b"), ("ansible.builtin", "c")):
            assert finder._meta_yml_to_dict(text, (name, "runtime.yml")) == {"text": text}
    assert asked == ["ansible.builtin", "dsdeploy.llm", "ansible.builtin", "dsdeploy.llm"]
