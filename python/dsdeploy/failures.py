"""From a failed result of Ansible to one readable failure: what happened, and the next thing to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dsdeploy import collection
from dsdeploy.errors import ExitCode
from dsdeploy.events import Failure

TAIL_LINES = 20
# Where in the user's files something is wrong, as ansible-core says it: from 2.19 on, and before.
_ORIGIN = re.compile(
    r"^Origin: (/[^\n]*?):(\d+)(?::\d+)?\s*$|The error appears to be in '(/[^'\n]+)': line (\d+)", re.MULTILINE
)
_ITEMS_SHOWN = 3
# What `command` says of itself: "non-zero return code", since ansible-core 2.20 in a sentence.
_NONZERO = "non-zero return code"
_WITHHELD = "it failed, and its output is withheld because it can hold secrets (no_log)"

_UNREACHABLE_HINT = "Check that the host is up and that ssh reaches it from here (address, port, user, key)."

# Texts of Ansible, SSH and sudo (ansible-core 2.17 to 2.21), and what to do about each; the first that matches counts:
# what stopped everything stands above what it led to. What programs on a host say: `ground/hints.py` of the collection.
_HINTS = (
    (r"no vault secrets (were )?found|Decryption failed",
     "Give the vault's password: --vault-password-file FILE, or -J to be asked for it."),
    (r"parse inventory source \S+: ",
     "Correct it there; `ansible-inventory -i SOURCE --list` says more."),
    (r"parse inventory source",
     "Give an inventory in YAML or INI, or a directory with one; `ansible-inventory -i SOURCE --list` says more."),
    (r"(?i)--limit leaves us with no hosts|no hosts? (of the inventory )?match",
     "Check the inventory (-i) and --limit; `ansible-inventory -i SOURCE --graph` shows the names it has."),
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED",
     "The host's key is not the one that is known. If it was set up anew, remove the old one (ssh-keygen -R HOST), and "
     "connect once with ssh."),
    (r"Host key verification failed|authenticity of host .* can't be established|continue connecting \(yes/no",
     "Connect once with ssh and accept the host's key, or put it into known_hosts (ssh-keyscan)."),
    (r"Enter passphrase for key|incorrect passphrase supplied|agent refused operation",
     "Unlock the key first (ssh-add), or name another one (--private-key)."),
    (r"UNPROTECTED PRIVATE KEY FILE|bad permissions",
     "Let only its owner read the key: chmod 600."),
    (r"Too many authentication failures",
     "Name the key to use with --private-key, and IdentitiesOnly=yes in ~/.ssh/config."),
    (r"Permission denied \(",
     "Check the user (--user), its key (--private-key) and the host's authorized_keys; for a password use --ask-pass."),
    (r"sshpass",
     "Install sshpass on this machine, or use a key (--private-key)."),
    (r"No such file or directory: b?'ssh'",
     "Install the OpenSSH client on this machine."),
    (r"Could not resolve hostname|Name or service not known.*ssh",
     "Check the host's name or ansible_host in the inventory."),
    (r"must have a tty to run sudo|sudo: no tty present",
     "The host's sudoers asks for a terminal (Defaults requiretty): remove that for this user, or run with "
     "ANSIBLE_PIPELINING=False in the environment."),
    (r"(?i)incorrect (sudo|become) password|sudo: \d incorrect password|Sorry, try again",
     "The password for sudo is wrong: give it again with --ask-become-pass."),
    (r"(?i)missing (sudo|become) password|sudo: (a terminal|a password) is required|sudo: .*askpass",
     "Give the sudo password with --ask-become-pass, or let the user run sudo without one."),
    (r"Time(out|d out).*waiting for (privilege escalation|become)",
     "sudo did not answer. It may want a password (--ask-become-pass), or be slow because the host cannot resolve its "
     "own name (/etc/hosts); ANSIBLE_TIMEOUT=60 waits longer."),
    # Its other cause, a disk that is full, stands in what follows it.
    (r"Failed to create temporary directory(?!.*No space left)",
     "The user that logs in has no home directory on the host that it may write to: make it, or name another place, as "
     "in ANSIBLE_REMOTE_TMP=/var/tmp/ansible-USER in the environment."),
    (r"is not in the sudoers file|may not run sudo|is not allowed to (run|execute)",
     "Allow that user sudo on the host, or connect as another one (--user root)."),
    (r"sudo: (command )?not found|sudo: No such file|sudo: .*No such file",
     "Install sudo on the host, or connect as root (--user root)."),
    (r"module interpreter .* was not found|python[0-9.]*: (command )?not found|set the interpreter|"
     r"No python interpreters found",
     "Install python3 on the host, or set ansible_python_interpreter for it in the inventory."),
    (r"Timed out after [0-9]+ second",
     "A setting of yours ends every task after that time (ANSIBLE_TASK_TIMEOUT, task_timeout in ansible.cfg), and "
     "models and engines take longer: set it to 0 for this command."),
    (r"connect to host .* port |banner exchange|kex_exchange_identification|Connection (closed|reset) by .* port ",
     _UNREACHABLE_HINT),
)  # fmt: skip


def describe(
    host: str,
    stage: str,
    task: str,
    action: str,
    result: Mapping[str, Any],
    items: Sequence[Mapping[str, Any]] = (),
    unreachable: bool = False,
) -> Failure:
    """The failure that `result` (a module's or action's result as in ansible-runner's events) tells of.

    `items` are the results of the items of a loop that failed. They cannot be picked out of `result`: since
    ansible-core 2.20 the items there do not say which of them failed.
    """
    failed: list[tuple[str, Mapping[str, Any]]] = [
        (str(item.get("_ansible_item_label", item.get("item", ""))), item) for item in items
    ] or [("", result)]
    first = failed[0][1]
    if unreachable and "censored" in first:
        first = {"msg": "no connection to the host (what ssh said is withheld: no_log)"}
        failed = [("", first)]
    msg = "; ".join(_message(action, item) if not label else f"{label}: {_message(action, item)}"
                    for label, item in failed[:_ITEMS_SHOWN])  # fmt: skip
    if len(failed) > _ITEMS_SHOWN:
        msg += f"; and {len(failed) - _ITEMS_SHOWN} more"
    kind = "unreachable" if unreachable else str(first.get("error_kind") or "")
    if action.endswith("validate_argument_spec"):
        kind = "usage"
    tail = next((tail for _label, item in failed if (tail := _tail(item))), [])
    return Failure(
        host=host,
        stage=stage,
        task=task,
        msg=msg,
        hint=str(first.get("hint") or "") or _generic_hint(msg, tail, first, kind),
        kind=kind,
        log_tail=tail,
    )


def _in_search_path() -> str:
    """The collection as Ansible comes to it, which may be through a link."""
    found = collection.find()
    return str(found.search_path / "ansible_collections" / collection.NAMESPACE / collection.NAME)


def origin(said: str) -> str:
    """The last place in a file of the user's that Ansible names, as `FILE:LINE`; "" where it names none.
    The collection's own files are nothing that a user can mend."""
    found = [(first or second, line or other) for first, line, second, other in _ORIGIN.findall(said)]
    root = collection.find().root
    own = tuple(f"{base}/{part}/" for base in {str(root), _in_search_path()} for part in ("roles", "playbooks"))
    places = [f"{path}:{line}" for path, line in found if not path.startswith(own)]
    return places[-1] if places else ""


def exit_code(failure: Failure) -> ExitCode:
    kinds = {
        "usage": ExitCode.USAGE,
        "verify": ExitCode.VERIFY,
        "unreachable": ExitCode.UNREACHABLE,
        "reboot": ExitCode.REBOOT,
        "interrupted": ExitCode.INTERRUPTED,
    }
    return kinds.get(failure.kind, ExitCode.FAILED)


def _message(action: str, result: Mapping[str, Any]) -> str:
    if "censored" in result:
        return _WITHHELD
    if result.get("argument_errors"):
        return "; ".join(_argument_error(str(error)) for error in result["argument_errors"])
    msg = result.get("msg") or result.get("reason") or ""
    text = "; ".join(str(part) for part in msg) if isinstance(msg, list) else str(msg)
    text = re.sub(r"^((Task|Module|Action) failed:\s*)+", "", text.strip())
    if re.match(r"MODULE FAILURE|Module result deserialization failed|The module failed to execute", text):
        # The module died: the last line it wrote is the exception. Or it did not start, as a shell says.
        said = _lines(result.get("module_stderr") or result.get("exception") or result.get("module_stdout"))
        unstarted = [line for line in said if re.search(r"not found$|No such file or directory$", line)]
        text = (unstarted or said[-1:] or text.splitlines())[0].strip()
    elif _NONZERO in text:
        command = result.get("cmd") or ""
        program = command[0] if isinstance(command, list) and command else str(command).split(" ")[0]
        text = f"{program} ended with exit status {result.get('rc')}"
    # ansible-core before 2.19 appends where in the YAML it happened.
    text = text.split("\n\nThe error appears to be in")[0]
    if not text and result.get("failed_when_result"):
        text = "what the task found counts as a failure (failed_when)"
    return re.sub(r"\s*\n\s*", " ", text) or f"{action or 'the task'} failed without a message"


# Types of Ansible's argument specs, in words.
_TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "dict": "a mapping", "list": "a list"}


def _argument_error(error: str) -> str:
    choices = re.fullmatch(r"value of (\S+) must be one of: (.*), got: (.*)", error, re.DOTALL)
    if choices:
        name, allowed, got = choices.groups()
        close = difflib.get_close_matches(got, allowed.split(", "), n=1)
        meant = f"did you mean {close[0]}? " if close else ""
        return f"{name}: unknown value {got!r} ({meant}choices: {allowed})"
    unfit = re.fullmatch(
        r"argument '(\S+)' is of type \S+ and we were unable to convert to (\w+): .*", error, re.DOTALL
    )
    if unfit:
        name, wanted = unfit.groups()
        return f"{name} is not {_TYPES.get(wanted, wanted)}"
    unknown = re.fullmatch(r"(.*)\. Supported parameters include: (.*)\.", error, re.DOTALL)
    if unknown:
        names, allowed = unknown.groups()
        return f"unknown variable {names} (known: {allowed})"
    return re.sub(r"\s*\n\s*", " ", error)


def _tail(result: Mapping[str, Any]) -> list[str]:
    tail = result.get("log_tail")
    if isinstance(tail, list):
        return [str(line) for line in tail][-TAIL_LINES:]
    for key in ("log_tail", "stderr", "module_stderr", "stdout"):
        # A module that merely carries output beside its own message has said what matters.
        if result.get(key) and (key != "stdout" or _NONZERO in str(result.get("msg", ""))):
            return _lines(result[key])[-TAIL_LINES:]
    return []


def _lines(text: Any) -> list[str]:
    return [line.rstrip() for line in str(text or "").splitlines() if line.strip()]


def hint_for(said: str) -> str:
    """What to do about a text that is known, "" for another."""
    own = next((hint for pattern, hint in _HINTS if re.search(pattern, said)), "")
    if own:
        return own
    collection.make_importable()
    from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import hints

    return str(hints.hint_for(said))


def _generic_hint(msg: str, tail: list[str], result: Mapping[str, Any], kind: str) -> str:
    if hint := hint_for("\n".join([msg, *tail])):
        return hint
    if kind == "unreachable":
        return _UNREACHABLE_HINT
    if kind == "verify":
        return "Look at what the engine says: dsdeploy logs."
    if kind == "usage":
        return "Correct the variable in the inventory or on the command line (-e), then run the same command again."
    if "censored" in result:
        return "Look at the service's log (dsdeploy logs), or run the step that the task names by hand."
    return ""
