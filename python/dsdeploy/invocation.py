"""From a verb and its options to one run of ansible-playbook: pure functions, no Ansible imported."""

from __future__ import annotations

import configparser
import difflib
import os
import re
import stat
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsdeploy.collection import NO_SUCH_FILE, READABLE, Collection, unreadable
from dsdeploy.errors import DsdeployError

PLAYBOOKS = {"up": "deepseek_r1", "prepare": "prepare_host"}
PLAYBOOKS.update(
    {verb: verb for verb in ("status", "doctor", "ask", "bench", "watch", "logs", "down", "rollback", "plan")}
)
PLAYBOOKS.update({f"key {verb}": f"key_{verb}" for verb in ("add", "list", "revoke")})
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
    # Its prompt would wait for somebody who does not see it.
    "ANSIBLE_ENABLE_TASK_DEBUGGER": "False",
    # "BECOME password", whatever the method: what the command waits for.
    "ANSIBLE_AGNOSTIC_BECOME_PROMPT": "True",
}
# Settings of Ansible by which it asks for a password: (environment, ansible.cfg section, key).
_ASK_PASS = ("ANSIBLE_ASK_PASS", "defaults", "ask_pass")
_ASK_BECOME_PASS = ("ANSIBLE_BECOME_ASK_PASS", "privilege_escalation", "become_ask_pass")
_ASK_VAULT_PASS = ("ANSIBLE_ASK_VAULT_PASS", "defaults", "ask_vault_pass")
_VAULT_IDENTITIES = ("ANSIBLE_VAULT_IDENTITY_LIST", "defaults", "vault_identity_list")
_RUN_TAGS = ("ANSIBLE_RUN_TAGS", "tags", "run")
_SKIP_TAGS = ("ANSIBLE_SKIP_TAGS", "tags", "skip")
_STRATEGY = ("ANSIBLE_STRATEGY", "defaults", "strategy")
_NO_LOG = ("ANSIBLE_NO_LOG", "defaults", "no_log")

# What ssh asks of a person who is not asked here: (its prompt, what it is told). It then fails with a reason.
SSH_PROMPTS = (
    (r"Are you sure you want to continue connecting \(yes/no.*\)\?\s*?$", "no"),
    (r"Enter passphrase for key .*:\s*?$", ""),
)

# Names of variables whose values are secrets; a file that holds one is none itself.
_SECRET = re.compile(r"(^|_)(api_key|password|passwd|pass|passphrase|secret|token|private_key)$|^model_tokens$", re.I)
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
    # `up` and `plan` say what to deploy; the other verbs take what is deployed, and --engine narrows that down.
    engine = "dsdeploy_engine" if verb in ("up", "plan") else "dsdeploy_only_engine"
    extra_vars = {engine: options.engine, "dsdeploy_model": options.model, **variables}
    _check_configured_tags(verb, collection, environ, user_config)
    _check_no_log(verb, environ, user_config)
    return Invocation(
        playbook=collection.playbook(PLAYBOOKS[verb]),
        argv=tuple(_argv(options, collection, PLAYBOOKS[verb])),
        extra_vars={name: value for name, value in extra_vars.items() if value is not None},
        environment=_environment(collection, environ, user_config),
        prompts=tuple(_prompts(options, environ, user_config)),
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
        path = os.path.expanduser(text[1:])
        problem = unreadable(path) or ("" if os.path.isfile(path) else "not a file")
        if problem not in ("", NO_SUCH_FILE, "not a file"):
            raise DsdeployError(f"-e {given}: {problem}", READABLE)
        # What a vault file holds is for Ansible to find out.
        if not problem and not (content := Path(path).read_bytes()).startswith(b"$ANSIBLE_VAULT"):
            problem = _no_mapping(content)
    elif text.startswith(("{", "[")):
        problem = _no_mapping(text)
        for name, value in () if problem else _scalars(text):
            _refuse_secret(name, value)
    elif _WORD.sub("", text).strip():
        problem = "a quote or a brace is not closed"
    else:
        odd = [word for word in _WORD.findall(text) if not re.match(r"[A-Za-z_]\w*=", word)]
        if odd or not text:
            problem = f"{odd[0]!r} names no value" if odd else "it is empty"
        for word in _WORD.findall(text):
            _refuse_secret(word.partition("=")[0], word.partition("=")[2])
    if problem:
        shown = textwrap.shorten(given, 60, placeholder="...")
        raise DsdeployError(
            f"-e {shown}: {problem}", "Write -e name=value, -e name='two words', -e '{\"name\": value}' or -e @file."
        )
    return given


def _refuse_secret(name: str, value: str) -> None:
    """A secret in a command line is seen by every user of the machine for as long as the command runs."""
    # A template or a lookup is none: the secret is elsewhere.
    if _SECRET.search(name) and value.strip("'\"") and "{{" not in value:
        raise DsdeployError(
            f"-e {name}=…: a secret on the command line can be read by every user of this machine (ps)",
            f"Write it into a file that only you can read (chmod 600 secrets.yml; in it, {name}: ...) "
            "and give -e @secrets.yml, or keep it in the inventory, in a vault.",
        )


def _scalars(text: str) -> Iterable[tuple[str, str]]:
    """Names and values in a mapping in YAML or JSON, those in mappings in it, too."""
    import yaml  # type: ignore[import-untyped]

    pending = [yaml.compose(text)]
    while pending:
        node = pending.pop()
        if isinstance(node, yaml.SequenceNode):
            pending += node.value
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                # A mapping of secrets, such as tokens by hub, is told by its own name.
                inner = value.value[0][1] if isinstance(value, yaml.MappingNode) and value.value else value
                if isinstance(inner, yaml.ScalarNode):
                    yield str(key.value), str(inner.value)
                pending.append(value)


def _no_mapping(text: str | bytes) -> str:
    """What is wrong with YAML or JSON that is to hold variables, "" for nothing. Tags (!vault) are not looked at."""
    import yaml

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


def _check_configured_tags(
    verb: str, collection: Collection, environ: Mapping[str, str], config: configparser.ConfigParser
) -> None:
    """Tags from the environment or ansible.cfg leave out whatever has none of them, without a word of Ansible."""
    chosen = [tag.strip() for tag in _configured(_RUN_TAGS, environ, config).split(",") if tag.strip()]
    left_out = [tag.strip() for tag in _configured(_SKIP_TAGS, environ, config).split(",") if tag.strip()]
    if not (chosen or left_out):
        return
    stages = collection.stages(PLAYBOOKS[verb])
    for (variable, section, key), unfit in (
        (_RUN_TAGS, [tag for tag in chosen if tag not in (*stages, "all")]),
        (_SKIP_TAGS, [tag for tag in left_out if tag in ("all", "always", "tagged", "untagged")]),
    ):
        if unfit:
            where = f"{variable}={environ[variable]}" if environ.get(variable) else f"[{section}] {key} in ansible.cfg"
            raise DsdeployError(
                f"{where} would leave out what {verb!r} has to do: {unfit[0]!r} is none of its stages",
                f"Unset it for this command (env -u {variable} dsdeploy {verb})"
                + (f"; the stages are {', '.join(stages)}." if stages else "."),
            )


def _check_no_log(verb: str, environ: Mapping[str, str], config: configparser.ConfigParser) -> None:
    """Without what tasks say nothing is known of a host, which would be told as if nothing were there."""
    if _is_on(_configured(_NO_LOG, environ, config)):
        variable, section, key = _NO_LOG
        where = variable if environ.get(variable) else f"[{section}] {key} in ansible.cfg"
        raise DsdeployError(
            f"{where} hides from {verb!r} what it has to read of the hosts",
            f"Switch it off for this command ({variable}=false dsdeploy {verb}): secrets are hidden anyway.",
        )


def _configured(setting: tuple[str, str, str], environ: Mapping[str, str], config: configparser.ConfigParser) -> str:
    """What a setting of Ansible is, by environment or ansible.cfg; "" for not set."""
    variable, section, key = setting
    return environ[variable] if variable in environ else config.get(section, key, fallback="")


def _is_on(text: str) -> bool:
    """As Ansible reads a truth value."""
    return text.strip().lower() in ("y", "yes", "on", "1", "true", "t", "1.0")


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
    if _configured(_STRATEGY, environ, config).rpartition(".")[2] == "debug":
        added["ANSIBLE_STRATEGY"] = "linear"  # the other asks, as the task debugger does
    searched = environ.get("ANSIBLE_COLLECTIONS_PATH") or _configured_collections(config)
    added["ANSIBLE_COLLECTIONS_PATH"] = f"{collection.search_path}:{searched or _ANSIBLE_COLLECTIONS_DEFAULT}"
    return added


def _configured_collections(config: configparser.ConfigParser) -> str:
    """collections_path of the user's ansible.cfg; its relative entries are relative to that file."""
    found = config.get("defaults", "collections_path", fallback="")
    base = Path(config.get("dsdeploy:source", "directory", fallback="."))
    return ":".join(str(base / os.path.expanduser(entry)) for entry in found.split(":") if entry)


def _prompts(options: Options, environ: Mapping[str, str], config: configparser.ConfigParser) -> Iterable[Prompt]:
    """Every password that Ansible will ask for, by an option or by the user's settings."""
    if options.ask_pass or _is_on(_configured(_ASK_PASS, environ, config)):
        yield Prompt("SSH password", r"SSH password:\s*?$")
    if options.ask_become_pass or _is_on(_configured(_ASK_BECOME_PASS, environ, config)):
        yield Prompt("Password to become root (sudo)", r"BECOME password.*:\s*?$")
    if options.ask_vault_pass or _is_on(_configured(_ASK_VAULT_PASS, environ, config)):
        yield Prompt("Vault password", r"Vault password:\s*?$")
    configured = _configured(_VAULT_IDENTITIES, environ, config).split(",")
    for vault_id in dict.fromkeys([*(name.strip() for name in configured), *options.vault_id]):
        label, _at, source = vault_id.rpartition("@")
        if source in ("prompt", "prompt_ask_vault_pass"):
            label = label or "default"
            yield Prompt(f"Vault password ({label})", rf"Vault password \({re.escape(label)}\):\s*?$")


def read_user_config(environ: Mapping[str, str], cwd: Path, home: Path) -> configparser.ConfigParser:
    """The ansible.cfg that Ansible would read, by its rules (ansible.config.manager): $ANSIBLE_CONFIG (a file, or a
    directory with one), ./ unless every user may write there, ~/.ansible.cfg, /etc. Empty when there is none
    or it cannot be read (Ansible then says so itself)."""
    config = configparser.ConfigParser(interpolation=None, strict=False, inline_comment_prefixes=(";",))
    named = Path(os.path.expanduser(environ.get("ANSIBLE_CONFIG") or "/nonexistent"))
    for path in (
        named / "ansible.cfg" if os.path.isdir(named) else named,
        *([] if _is_public(cwd) else [cwd / "ansible.cfg"]),
        home / ".ansible.cfg",
        Path("/etc/ansible/ansible.cfg"),
    ):
        # The directory may be one that this user cannot enter, as root's home is with `sudo -u`.
        if os.path.isfile(path) and os.access(path, os.R_OK):
            try:
                config.read(path, encoding="utf-8")
            except (configparser.Error, OSError, UnicodeDecodeError):
                return configparser.ConfigParser()
            config.read_dict({"dsdeploy:source": {"directory": str(path.resolve().parent)}})
            break
    return config


def _is_public(directory: Path) -> bool:
    try:
        return bool(directory.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return True
