"""From a verb and its options to one run of ansible-playbook: pure functions, no Ansible imported."""

from __future__ import annotations

import configparser
import difflib
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsdeploy.collection import Collection
from dsdeploy.errors import DsdeployError

PLAYBOOKS = {"up": "deepseek_r1", "prepare": "prepare_host"}
PLAYBOOKS.update({verb: verb for verb in ("status", "ask", "logs", "down", "rollback")})
PLAYBOOKS.update({f"model {verb}": f"model_{verb}" for verb in ("list", "verify", "prune")})
DEFAULT_INVENTORY = "local"

# A task that says nothing for an hour (a download, a build) must not lose its connection to a firewall that forgets
# idle ones; a host that does not answer for five minutes is gone.
_SSH_ARGS = "-C -o ControlMaster=auto -o ControlPersist=30m -o ServerAliveInterval=30 -o ServerAliveCountMax=10"

# Set unless the user set them, in the environment or in their ansible.cfg: (name, value, ansible.cfg section, key).
_DEFAULTS = (
    ("ANSIBLE_PIPELINING", "True", "connection", "pipelining"),
    ("ANSIBLE_SSH_ARGS", _SSH_ARGS, "ssh_connection", "ssh_args"),
    ("ANSIBLE_FORKS", "25", "defaults", "forks"),
    ("ANSIBLE_GATHERING", "explicit", "defaults", "gathering"),
    # ansible-runner would switch it off.
    ("ANSIBLE_HOST_KEY_CHECKING", "True", "defaults", "host_key_checking"),
    ("ANSIBLE_PYTHON_INTERPRETER", "auto_silent", "defaults", "interpreter_python"),
    # Without it, a broken inventory is a warning and a run over no hosts.
    ("ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED", "True", "inventory", "any_unparsed_is_failed"),
)

# Always ours: the renderer draws, Ansible's own look is not seen.
_FIXED = {
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_FORCE_COLOR": "0",
    "ANSIBLE_STDOUT_CALLBACK": "default",
    "DSDEPLOY_PROGRESS": "json",
    # Characters of one result above which ansible-runner drops it whole; a long service log is larger than its own.
    "MAX_EVENT_RES": "16000000",
}
_ANSIBLE_COLLECTIONS_DEFAULT = "~/.ansible/collections:/usr/share/ansible/collections"


# A word of `name=value name='more words'`, as Ansible takes it apart.
_WORD = re.compile(r"""(?:\\(?:.|$)|[^\s"'{\\]|\{(?!\{)|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\{\{.*?\}\})+""")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options every verb shares, as the command line gave them; `model`, `tags` and `skip_tags` only `up` has."""

    inventory: tuple[str, ...] = ()
    engine: str | None = None
    model: str | None = None
    limit: str | None = None
    extra_vars: tuple[str, ...] = ()
    check: bool = False
    diff: bool = False
    json: bool = False
    verbose: int = 0
    user: str | None = None
    private_key: str | None = None
    ask_pass: bool = False
    become: bool = False
    ask_become_pass: bool = False
    become_password_file: str | None = None
    vault_password_file: tuple[str, ...] = ()
    vault_id: tuple[str, ...] = ()
    ask_vault_pass: bool = False
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """A password asked once before the run and typed into Ansible's own prompt, so that it is in no argv and file."""

    text: str
    pattern: str  # regular expression of Ansible's prompt


@dataclass(frozen=True)
class Invocation:
    """One run: ansible-playbook with `argv` and then `playbook`; `extra_vars` go first (through a private file), so
    that the user's own `-e` in `argv` win; `environment` is added to the caller's."""

    playbook: Path
    argv: tuple[str, ...]
    extra_vars: dict[str, Any]
    environment: dict[str, str]
    prompts: tuple[Prompt, ...]


def build(
    verb: str,
    options: Options,
    variables: Mapping[str, Any],
    collection: Collection,
    environ: Mapping[str, str],
    user_config: configparser.ConfigParser,
) -> Invocation:
    """The run that `verb` with `options` means.

    `variables` are the verb's own (`dsdeploy_question`, …); None among them is left out. `environ` is the caller's
    environment and `user_config` their ansible.cfg, both only read: what they set is never overwritten.
    Raises DsdeployError for an inventory or extra variable that cannot be meant.
    """
    # `up` says what to deploy; the other verbs take what is deployed, and --engine narrows that down.
    engine = "dsdeploy_engine" if verb == "up" else "dsdeploy_only_engine"
    extra_vars = {engine: options.engine, "dsdeploy_model": options.model, **variables}
    return Invocation(
        playbook=collection.playbook(PLAYBOOKS[verb]),
        argv=tuple(_argv(options, collection, PLAYBOOKS[verb])),
        extra_vars={name: value for name, value in extra_vars.items() if value is not None},
        environment=_environment(collection, environ, user_config),
        prompts=tuple(_prompts(options)),
    )


def _argv(options: Options, collection: Collection, playbook: str) -> Iterable[str]:
    for source in options.inventory or (str(collection.root / "inventories" / DEFAULT_INVENTORY),):
        yield from ("--inventory", collection.inventory(source))
    if options.limit is not None and not options.limit.strip():
        # Ansible would take all hosts.
        raise DsdeployError("--limit: names no host", "Name hosts or groups of the inventory, or leave --limit out.")
    for extra in options.extra_vars:
        yield from ("--extra-vars", _checked_extra_vars(extra))
    for flag, given in (
        ("--limit", options.limit),
        ("--user", options.user),
        ("--private-key", options.private_key),
        ("--become-password-file", options.become_password_file),
        ("--tags", ",".join(_checked_tags(options.tags, collection, playbook))),
        ("--skip-tags", ",".join(_checked_tags(options.skip_tags, collection, playbook))),
    ):
        if given:
            yield from (flag, given)
    for flag, switched_on in (
        ("--check", options.check),
        ("--diff", options.diff),
        ("--become", options.become),
        ("--ask-pass", options.ask_pass),
        ("--ask-become-pass", options.ask_become_pass),
        ("--ask-vault-password", options.ask_vault_pass),
    ):
        if switched_on:
            yield flag
    for path in options.vault_password_file:
        yield from ("--vault-password-file", path)
    for vault_id in options.vault_id:
        yield from ("--vault-id", vault_id)
    if options.verbose:
        yield "-" + "v" * options.verbose


def _checked_extra_vars(given: str) -> str:
    """`given` itself. Ansible drops a word that names no value without a sound, and blames the inventory for what it
    cannot read."""
    text = given.strip()
    problem = ""
    if text.startswith("@"):
        path = Path(text[1:]).expanduser()
        if not path.is_file():
            problem = "no such file"
        # What a vault file holds is for Ansible to find out.
        elif not (content := path.read_bytes()).startswith(b"$ANSIBLE_VAULT"):
            problem = _no_mapping(content)
    elif text.startswith(("{", "[")):
        problem = _no_mapping(text)
    elif _WORD.sub("", text).strip():
        problem = "a quote or a brace is not closed"
    else:
        odd = [word for word in _WORD.findall(text) if not re.match(r"[A-Za-z_]\w*=", word)]
        if odd or not text:
            problem = f"{odd[0]!r} names no value" if odd else "it is empty"
    if problem:
        shown = textwrap.shorten(given, 60, placeholder="...")
        raise DsdeployError(
            f"-e {shown}: {problem}", "Write -e name=value, -e name='two words', -e '{\"name\": value}' or -e @file."
        )
    return given


def _no_mapping(text: str | bytes) -> str:
    """What is wrong with YAML or JSON that is to hold variables, "" for nothing. Tags (!vault) are not looked at."""
    import yaml  # type: ignore[import-untyped]

    try:
        node = yaml.compose(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        return f"is not valid JSON or YAML: {getattr(error, 'problem', None) or 'it cannot be read'}{where}"
    return "" if isinstance(node, yaml.MappingNode) else "holds no names with values"


def _checked_tags(given: tuple[str, ...], collection: Collection, playbook: str) -> tuple[str, ...]:
    """`given` itself. With a tag that nothing has, Ansible does nothing, and calls that success."""
    stages = collection.stages(playbook) if given else []
    for tag in ",".join(given).split(",") if given else ():
        if tag not in stages:
            close = difflib.get_close_matches(tag, stages, n=1)
            raise DsdeployError(
                f"there is no stage {tag!r}" + (f"; did you mean {close[0]}?" if close else ""),
                f"The stages are {', '.join(stages)}.",
            )
    return given


def _environment(
    collection: Collection, environ: Mapping[str, str], config: configparser.ConfigParser
) -> dict[str, str]:
    added = dict(_FIXED)
    for name, value, section, key in _DEFAULTS:
        if name not in environ:
            if not config.has_option(section, key):
                added[name] = value
            elif name == "ANSIBLE_HOST_KEY_CHECKING":
                added[name] = config.get(section, key)
    searched = environ.get("ANSIBLE_COLLECTIONS_PATH") or _configured_collections(config)
    added["ANSIBLE_COLLECTIONS_PATH"] = f"{collection.search_path}:{searched or _ANSIBLE_COLLECTIONS_DEFAULT}"
    return added


def _configured_collections(config: configparser.ConfigParser) -> str:
    """collections_path of the user's ansible.cfg; its relative entries are relative to that file."""
    found = config.get("defaults", "collections_path", fallback="")
    base = Path(config.get("dsdeploy:source", "directory", fallback="."))
    return ":".join(str(base / Path(entry).expanduser()) for entry in found.split(":") if entry)


def _prompts(options: Options) -> Iterable[Prompt]:
    if options.ask_pass:
        yield Prompt("SSH password", r"SSH password:\s*?$")
    if options.ask_become_pass:
        yield Prompt("Password to become root (sudo)", r"BECOME password.*:\s*?$")
    if options.ask_vault_pass:
        yield Prompt("Vault password", r"Vault password:\s*?$")
    for vault_id in options.vault_id:
        label, _at, source = vault_id.rpartition("@")
        if source in ("prompt", "prompt_ask_vault_pass"):
            label = label or "default"
            yield Prompt(f"Vault password ({label})", rf"Vault password \({re.escape(label)}\):\s*?$")


def read_user_config(environ: Mapping[str, str], cwd: Path, home: Path) -> configparser.ConfigParser:
    """The ansible.cfg that Ansible would read, in its order: $ANSIBLE_CONFIG, ./, ~/.ansible.cfg, /etc. Empty when
    there is none or it cannot be read (Ansible then says so itself)."""
    config = configparser.ConfigParser(interpolation=None, strict=False, inline_comment_prefixes=(";",))
    for path in (
        Path(environ.get("ANSIBLE_CONFIG") or "/nonexistent"),
        cwd / "ansible.cfg",
        home / ".ansible.cfg",
        Path("/etc/ansible/ansible.cfg"),
    ):
        if path.is_file():
            try:
                config.read(path, encoding="utf-8")
            except (configparser.Error, OSError, UnicodeDecodeError):
                return configparser.ConfigParser()
            config.read_dict({"dsdeploy:source": {"directory": str(path.resolve().parent)}})
            break
    return config
