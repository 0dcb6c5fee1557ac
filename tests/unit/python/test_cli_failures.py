"""One readable failure from every shape of a failed result; the shapes are those of ansible-core 2.17 and 2.21."""

from __future__ import annotations

from typing import Any

import pytest

from dsdeploy import failures
from dsdeploy.errors import MEANING, PRECEDENCE, ExitCode, worst
from dsdeploy.events import Failure

PYTHON_TRACE = (
    "Traceback (most recent call last):\n  File \"x\"\nOSError: [Errno 28] No space left on device: '/data'\n"
)
CENSORED = {"censored": "the output has been hidden due to the fact that 'no_log: true' was specified for this result"}


def describe(
    result: dict[str, Any], *items: dict[str, Any], action: str = "command", unreachable: bool = False
) -> Failure:
    return failures.describe("h", "engine: install", "T", action, result, items, unreachable)


def test_what_the_module_says_is_kept() -> None:
    result = {"msg": "port 8080 is taken", "hint": "Set the port.", "error_kind": "preflight", "log_tail": ["a", "b"]}
    assert describe(result) == Failure(
        "h", "engine: install", "T", "port 8080 is taken", "Set the port.", "preflight", ["a", "b"]
    )


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"msg": "Task failed: Action failed: port taken"}, "port taken"),
        ({"msg": ["one", "two"]}, "one; two"),
        ({"msg": "first\n  second\n"}, "first second"),
        ({"msg": "MODULE FAILURE\nSee stdout/stderr for the exact error", "module_stderr": PYTHON_TRACE},
         "OSError: [Errno 28] No space left on device: '/data'"),
        ({"msg": "Module result deserialization failed: No start of json char found", "module_stderr": PYTHON_TRACE},
         "OSError: [Errno 28] No space left on device: '/data'"),
        ({"msg": "Module result deserialization failed: No start of json char found",
          "module_stderr": "pyenv: python3.13: command not found\n\nNote: See 'pyenv help global' for tips\n"},
         "pyenv: python3.13: command not found"),
        ({"msg": "MODULE FAILURE\nSee stdout"}, "MODULE FAILURE"),
        ({"msg": "non-zero return code", "cmd": ["/bin/tar", "xf"], "rc": 2}, "/bin/tar ended with exit status 2"),
        ({"msg": "non-zero return code", "cmd": "make -j secret", "rc": 1}, "make ended with exit status 1"),
        ({"msg": "The command exited with a non-zero return code.", "cmd": "x", "rc": 3}, "x ended with exit status 3"),
        ({"msg": "'nope' is undefined\n\nThe error appears to be in '/x': line 1"}, "'nope' is undefined"),
        ({"reason": "conflicting action statements"}, "conflicting action statements"),
        ({"failed_when_result": True}, "what the task found counts as a failure (failed_when)"),
        ({}, "command failed without a message"),
        (CENSORED, "it failed, and its output is withheld because it can hold secrets (no_log)"),
    ],
)  # fmt: skip
def test_message(result: dict[str, Any], message: str) -> None:
    assert describe(result).msg == message


def test_items_of_a_loop() -> None:
    items = [{"item": name, "msg": f"no {name}", "_ansible_item_label": name} for name in "bcdef"]
    items[1] |= {"hint": "not the first", "stderr": "tail of c"}
    items[0] |= {"hint": "look at b"}
    failure = describe({"msg": "One or more items failed", "results": [{"item": "a"}, *items]}, *items)
    assert failure.msg == "b: no b; c: no c; d: no d; and 2 more"
    assert failure.hint == "look at b"
    assert failure.log_tail == ["tail of c"]


def test_wrong_variables_are_one_line_of_usage() -> None:
    errors = [
        "missing required arguments: r_port",
        "value of dsdeploy_engine must be one of: llama_cpp, vllm, got: lama_cpp",
        "r_prt. Supported parameters include: dsdeploy_engine, r_port.",
    ]
    failure = describe(
        {"msg": "Validation of arguments failed:\n…", "argument_errors": errors}, action="validate_argument_spec"
    )
    assert failure.msg == (
        "missing required arguments: r_port; "
        "dsdeploy_engine: unknown value 'lama_cpp' (did you mean llama_cpp? choices: llama_cpp, vllm); "
        "unknown variable r_prt (known: dsdeploy_engine, r_port)"
    )
    assert failures.exit_code(failure) == ExitCode.USAGE
    assert "-e" in failure.hint


def test_a_choice_nothing_like_any_suggests_none() -> None:
    errors = ["value of x must be one of: llama_cpp, vllm, got: 7"]
    failure = describe({"argument_errors": errors}, action="validate_argument_spec")
    assert failure.msg == "x: unknown value '7' (choices: llama_cpp, vllm)"


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Missing sudo password", "--ask-become-pass"),
        ("Task failed: Missing sudo password", "--ask-become-pass"),
        ("Incorrect sudo password", "--ask-become-pass"),
        ("sudo: a password is required", "--ask-become-pass"),
        ("Timeout (12s) waiting for privilege escalation prompt: ", "sudo did not answer"),
        ("Task failed: Timed out waiting for become success or become password prompt.", "sudo did not answer"),
        ("sudo: sorry, you must have a tty to run sudo", "ANSIBLE_PIPELINING=False"),
        # ansible-core 2.17 waits for sudo while ssh asks.
        ("Timeout (12s) waiting for privilege escalation prompt: The authenticity of host 'h (10.0.0.1)' can't be "
         "established. Are you sure you want to continue connecting (yes/no/[fingerprint])?", "accept the host's key"),
        ("Sorry, try again.\nsudo: 1 incorrect password attempt", "password for sudo is wrong"),
        ("bob is not in the sudoers file.  This incident will be reported.", "Allow that user sudo"),
        ("Sorry, user bob is not allowed to execute '/bin/sh' as root", "Allow that user sudo"),
        ("Premature end of stream waiting for become success.\n>>> Standard Error\n/bin/sh: 1: sudo: not found",
         "Install sudo"),
        ("The module interpreter '/usr/bin/python3' was not found.", "Install python3"),
        ("/bin/sh: 1: /usr/bin/python3: not found", "Install python3"),
        ("The module failed to execute correctly, you probably need to set the interpreter.", "Install python3"),
        ("Timed out after 30 second(s).", "ANSIBLE_TASK_TIMEOUT"),
        ("[Errno 28] No space left on device", "free space"),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "free space"),
        ("Could not get lock /var/lib/dpkg/lock-frontend", "wait until it is done"),
        ("Temporary failure resolving 'mirror.example'", "mirrors"),
        ("OSError: [Errno 30] Read-only file system: '/opt/x'", "mounted read-only"),
        ("OSError: [Errno 122] Disk quota exceeded: '/opt/x'", "free space"),
        ("OSError: [Errno 12] Cannot allocate memory", "ran out of memory"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "clock"),
        ("ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 403 Forbidden'))", "proxy refuses"),
        ("NameResolutionError(\"Failed to resolve 'pypi.example'\")", "DNS"),
        ("ConnectTimeoutError: Connection to mirror.example timed out. (connect timeout=15)", "network"),
        ("HTTP Error 404: Not Found", "does not have it"),
        ("404 Client Error: Not Found for url: https://mirror.example/x", "does not have it"),
        ("HTTP Error 401: Unauthorized", "credentials"),
        ("THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "another file than the pinned one"),
        ("PermissionError: [Errno 13] Permission denied: '/etc/x'", "--become"),
    ],
)  # fmt: skip
def test_hint_for_what_any_host_can_lack(said: str, hint: str) -> None:
    assert hint in describe({"msg": said}).hint


def test_hint_reads_what_a_command_wrote() -> None:
    result = {"msg": "non-zero return code", "cmd": "cp", "rc": 1, "stderr": "cp: error: No space left on device"}
    assert "free space" in describe(result).hint


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Failed to connect to the host via ssh: Host key verification failed.", "accept the host's key"),
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @ Host key verification failed.", "ssh-keygen -R"),
        ("Failed to create temporary directory. In some cases, you may have been able to authenticate and did not have "
         "permissions on the target directory. Failed command was: ( umask 77 && mkdir -p \"` echo ~/.ansible/tmp `\" "
         "), exited with result 1", "ANSIBLE_REMOTE_TMP"),
        ("root@h: Permission denied (publickey). Enter passphrase for key '/k':", "ssh-add"),
        ("WARNING: UNPROTECTED PRIVATE KEY FILE! root@h: Permission denied (publickey).", "chmod 600"),
        ("Failed to connect to the host via ssh: root@h: Permission denied (publickey,password).", "--private-key"),
        ("Failed to connect to the host via ssh: ssh: Could not resolve hostname h: Name or service not known",
         "ansible_host"),
        ("Failed to connect to the host via ssh: connect to host h port 22: Connection refused", "host is up"),
        ("[Errno 2] No such file or directory: b'ssh'", "OpenSSH client"),
    ],
)  # fmt: skip
def test_unreachable(said: str, hint: str) -> None:
    failure = describe({"msg": said, "unreachable": True}, unreachable=True)
    assert hint in failure.hint
    assert failures.exit_code(failure) == ExitCode.UNREACHABLE


def test_unreachable_in_a_withheld_task_still_says_that() -> None:
    failure = describe(CENSORED, unreachable=True)
    assert "no connection" in failure.msg
    assert failures.exit_code(failure) == ExitCode.UNREACHABLE


def test_output_of_a_module_with_its_own_message_is_no_tail() -> None:
    assert describe({"msg": "port taken", "stdout": "lots"}).log_tail == []
    assert describe({"msg": "non-zero return code", "stdout": "lots\n\nmore"}).log_tail == ["lots", "more"]
    assert len(describe({"msg": "x", "log_tail": [str(n) for n in range(100)]}).log_tail) == failures.TAIL_LINES


@pytest.mark.parametrize(
    ("kind", "code"),
    [("", 1), ("preflight", 1), ("usage", 2), ("verify", 3), ("unreachable", 4), ("reboot", 5), ("new", 1)],
)
def test_exit_code_of_each_kind(kind: str, code: int) -> None:
    assert failures.exit_code(Failure("h", "", "", "m", kind=kind)) == code


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([], 0),
        ([0, 3], 3),
        ([3, 4], 4),
        ([4, 1], 1),
        ([1, 2], 2),
        ([3, 4, 1, 2, 0], 2),
        ([2, 130], 130),
        ([5, 0, 3], 5),
        ([5, 1], 1),
    ],
)
def test_precedence_when_hosts_differ(codes: list[int], code: int) -> None:
    assert worst(map(ExitCode, codes)) == code


def test_every_exit_code_has_its_place_and_meaning() -> None:
    assert set(PRECEDENCE) == set(MEANING) == set(ExitCode)


def test_a_vault_without_its_password_says_how_to_give_it() -> None:
    for said in (
        "Attempt to use undecryptable variable: Attempting to decrypt but no vault secrets found.",
        "Decryption failed (no vault secrets were found that could decrypt) on /x/vault.yml",
    ):
        assert "--vault-password-file" in failures.hint_for(said)
