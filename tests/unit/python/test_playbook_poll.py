"""A run that waits for hosts costs little."""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import sys
from pathlib import Path

import pytest
from ansible import constants

from dsdeploy import playbook


@pytest.mark.parametrize(("configured", "used"), [(0.001, 0.01), (0.05, 0.05)])
def test_ansible_polls_less_often_unless_the_user_says_how_often(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, configured: float, used: float
) -> None:
    seen = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "DEFAULT_INTERNAL_POLL_INTERVAL", configured)
    # What it changes of Ansible's classes is for a process of its own.
    for name in ("copy_less", "_collect_less"):
        monkeypatch.setattr(playbook, name, lambda: None)
    monkeypatch.setattr(playbook.template_cache, "kept", lambda **_settings: contextlib.nullcontext())
    monkeypatch.setattr(os, "umask", lambda _mask: 0)
    monkeypatch.setattr(signal, "signal", lambda *_handler: None)
    monkeypatch.setattr(sys, "argv", ["playbook", "play.yml"])
    monkeypatch.setattr(
        runpy, "run_module", lambda *_names, **_how: seen.append(constants.DEFAULT_INTERNAL_POLL_INTERVAL)
    )
    playbook.main()
    assert seen == [used]
    assert sys.argv == ["playbook", "playbook", "play.yml"]


def test_the_default_is_still_the_one_that_is_replaced() -> None:
    assert constants.config.get_configuration_definitions()["DEFAULT_INTERNAL_POLL_INTERVAL"]["default"] == 0.001
