"""As a program it is `ansible-playbook …` that ends when whoever started it is gone.

Its terminal is a pseudo-terminal of the command `dsdeploy`. When that is killed, the terminal hangs up; ansible-runner
has the signal ignored, so that Ansible would go on alone, with nobody to see what it does or to stop it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import runpy
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from dsdeploy import module_cache, template_cache

ANSIBLE_POLLS_EVERY_S = 0.001  # its default
POLL_EVERY_S = 0.01


def _interrupt(number: int, frame: FrameType | None) -> None:
    """As Ctrl-C would: to Ansible, which passes it on to its workers, and to those of its group."""
    if os.getpid() == os.getpgrp():
        os.killpg(0, signal.SIGINT)


def _poll_less() -> None:
    """Ansible looks a thousand times a second whether a host has answered, which of a run that waits is most of the
    CPU time; it has a setting for that, but in ansible.cfg alone. What the user has set there stays."""
    from ansible import constants  # type: ignore[import-untyped]

    if constants.DEFAULT_INTERNAL_POLL_INTERVAL == ANSIBLE_POLLS_EVERY_S:
        constants.DEFAULT_INTERNAL_POLL_INTERVAL = POLL_EVERY_S


def copy_less() -> None:
    """Ansible copies all that it has read of a role for each task that includes it, each text with its origin, although
    nothing can change a text: a tenth of a run that changes nothing."""
    with contextlib.suppress(ImportError, AttributeError):  # before ansible-core 2.19 texts are plain ones
        from ansible.module_utils._internal import _datatag  # type: ignore[import-untyped]

        texts = (_datatag._AnsibleTaggedStr, _datatag._AnsibleTaggedInt, _datatag._AnsibleTaggedFloat)
        for kind in (*texts, _datatag.AnsibleDatatagBase, _datatag._AnsibleTagsMapping):
            kind.__deepcopy__ = lambda self, memo: self


def _collect_less() -> None:
    """There is next to none, neither while Ansible is imported nor in the copy of this process that runs a task, where
    all that is looked through is copied page by page."""
    gc.set_threshold(50_000, 20, 100)


@contextlib.contextmanager
def _caches(root: Path) -> Iterator[None]:
    import ansible
    from ansible import constants

    shared = {"root": root, "version": ansible.__version__, "ansible": Path(ansible.__file__).parent}
    used = Path(constants.DEFAULT_LOCAL_TMP)
    plugins = [*(constants.DEFAULT_FILTER_PLUGIN_PATH or []), *(constants.DEFAULT_TEST_PLUGIN_PATH or [])]
    with (
        module_cache.kept(**shared, others=constants.DEFAULT_MODULE_UTILS_PATH or [], used=used / "ansiballz_cache"),
        template_cache.kept(**shared, others=plugins, used=used / "dsdeploy_templates"),
    ):
        yield


def play(root: Path) -> None:
    """`ansible-playbook` with the arguments of this process, quicker, for the collection at `root`."""
    sys.argv[1:1] = ["playbook"]
    _collect_less()
    _poll_less()
    copy_less()
    with _caches(root):
        runpy.run_module("ansible", run_name="__main__", alter_sys=True)


def main() -> None:
    # That of the command is strict, for what it writes itself; what tasks make on this machine has the user's.
    os.umask(int(os.environ.pop("DSDEPLOY_UMASK", "22"), 8))
    signal.signal(signal.SIGHUP, _interrupt)
    play(Path(sys.argv[-1]).resolve().parents[1])
