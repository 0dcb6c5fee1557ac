# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The texts that make a definition a service: unit, environment file, supervisor's configuration. Pure."""

from __future__ import annotations

from typing import Any, Dict, Sequence

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import waiting
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import confinement
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.quoting import (
    environment_value,
    supervisor_word,
    systemd_assignment,
    systemd_text,
    systemd_word,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.state import AUTOSTART

MARK = "dsdeploy:service"  # in every file that makes a service ours
HEAD = "Written by dsdeploy; changes here are overwritten."
# What GPUs need before CUDA starts on them, where a host has such units (modprobe@ since systemd 245). Only an order:
# where one fails, the launcher or the engine says what is missing, and it is started again until it is there. MIG's
# instances are gone after a boot: NVIDIA's manager of them makes them anew.
GPU_UNITS = (
    "modprobe@nvidia_uvm.service nvidia-persistenced.service nvidia-fabricmanager.service nvidia-mig-manager.service"
)
# supervisor gives a program up after so many tries, of which each waits a second longer than the one before: never
# (after a day seven minutes). GPUs may come late.
START_RETRIES = 1000000


TMP_LONGEST = 70  # bytes; ZeroMQ's sockets lie there by names of 37, and the path of one has 107 at most


def own_tmp(definition: Dict[str, Any], confined: Sequence[str] = ()) -> str:
    """A directory of its own for a service's temporary files; "" where its unit gives it a /tmp of its own, and where
    the path is too long.

    :param confined: lines of its unit; none under supervisor.
    """
    if "PrivateTmp=yes" in confined:
        return ""
    path = "%s/tmp" % definition["state_dir"]
    return path if len(path.encode("utf-8", "surrogateescape")) <= TMP_LONGEST else ""


def environment_text(definition: Dict[str, Any]) -> str:
    """The environment, the secrets among it, for EnvironmentFile= and the launcher."""
    variables = dict(definition["environment"], **definition["secrets"])
    lines = ["%s=%s" % (name, environment_value(value)) for name, value in sorted(variables.items())]
    return "\n".join(["# " + HEAD, *lines]) + "\n"


_MAKE_TMP = 'rm -rf "$0"; mkdir -m 700 "$0"'


def unit_text(
    definition: Dict[str, Any],
    confined: Sequence[str],
    revision: str,
    start_check: str,
    launcher: str,
    systemd_version: int,
) -> str:
    """The unit.

    :param confined: from `confinement.settings`.
    :param start_check: path of the start check's program; `launcher`: of the launcher, which makes GPUs' device files.
    """
    gpu = "gpu" in confinement.needs_of(definition)
    name, run = definition["name"], places.RUN
    # As root ("+"), whatever confines the service: what it started with is noted where it cannot write itself.
    note = "umask 077; mkdir -p %s; echo %s > %s/%s.revision" % (run, revision, run, name)
    tmp = own_tmp(definition, confined)
    lines = [
        "# " + HEAD,
        "# " + MARK,
        "[Unit]",
        "Description=" + systemd_text(definition["description"]),
        "After=network-online.target" + (" " + GPU_UNITS if gpu else ""),
        "Wants=network-online.target" + (" modprobe@nvidia_uvm.service" if gpu else ""),
        # However late the GPUs come: it is not given up.
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=exec",
        "User=" + definition["user"],
        "WorkingDirectory=" + systemd_text(definition["state_dir"]),
        *(["Environment=" + systemd_assignment("TMPDIR", tmp)] if tmp else []),
        "EnvironmentFile=" + systemd_text(definition["environment_file"]),
        *(["ExecStartPre=+/usr/bin/python3 %s --gpu-devices" % systemd_word(launcher)] if gpu else []),
        "ExecStartPre=+/bin/sh -c " + systemd_word(note),
        # As its user: root has no business in a directory of another user's.
        *(["ExecStartPre=/bin/sh -c " + systemd_word(_MAKE_TMP) + " " + systemd_word(tmp)] if tmp else []),
        "ExecStart=" + " ".join(systemd_word(word) for word in definition["exec"]),
    ]
    if definition.get("health_url"):
        check = [start_check, definition["health_url"]]
        lines += [
            '# "Started" means "answers": until then the unit is activating, and TimeoutStartSec counts.',
            "ExecStartPost=/usr/bin/python3 " + " ".join(systemd_word(word) for word in check),
        ]
    lines += [
        # An engine that works is waited for beyond its time; the limit is the last resort.
        "TimeoutStartSec=%d"
        % (waiting.limit(definition["start_timeout"]) if definition["record"] else definition["start_timeout"]),
        "TimeoutStopSec=%d" % definition["stop_timeout"],
        "KillMode=" + definition["kill_mode"],
        "Restart=always",
        "RestartSec=%d" % definition["restart_delay"],
    ]
    if systemd_version >= 254:
        lines += ["RestartSteps=6", "RestartMaxDelaySec=%d" % definition["restart_max_delay"]]
    if definition["success_exit_status"]:
        lines.append("SuccessExitStatus=" + " ".join(definition["success_exit_status"]))
    lines += [
        "LimitNOFILE=%d" % definition["nofile"],
        "LimitMEMLOCK=" + definition["memlock"],
        # A dump of its memory would hold the API key and the users' questions.
        "LimitCORE=0",
        "SyslogIdentifier=" + name,
        "UMask=0077",
        *confined,
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def program_text(
    definition: Dict[str, Any], revision: str, python: str, launcher: str, log: str, log_max_mib: int, log_backups: int
) -> str:
    """The program's file for supervisor. The launcher is started as root and becomes the service."""
    command = [python, "-I", launcher, "--name", definition["name"], "--user", definition["user"], "--run", places.RUN]
    command += ["--environment", definition["environment_file"], "--revision", revision]
    command += ["--nofile", str(definition["nofile"]), "--memlock", definition["memlock"]]
    command += ["--gpu"] if "gpu" in confinement.needs_of(definition) else []
    tmp = own_tmp(definition)
    command += ["--tmp", tmp] if tmp else []
    command += ["--", *definition["exec"]]
    lines = [
        "; " + HEAD,
        "; " + MARK,
        "[program:%s]" % definition["name"],
        "command=" + " ".join(supervisor_word(word) for word in command),
        "directory=" + _plain(definition["state_dir"]),
        "umask=077",
        AUTOSTART,
        "autorestart=true",
        "startsecs=5",
        "; Each try waits a second longer than the one before, and it is not given up.",
        "startretries=%d" % START_RETRIES,
        "stopsignal=TERM",
        "stopwaitsecs=%d" % definition["stop_timeout"],
        "stopasgroup=" + ("true" if definition["kill_mode"] == "control-group" else "false"),
        "killasgroup=true",
        "redirect_stderr=true",
        "stdout_logfile=" + _plain(log),
        "stdout_logfile_maxbytes=%dMB" % log_max_mib,
        "stdout_logfile_backups=%d" % log_backups,
    ]
    return "\n".join(lines) + "\n"


def supervisord_text(log_dir: str, log_max_mib: int, log_backups: int) -> str:
    """The configuration of supervisord itself."""
    lines = [
        "; " + HEAD,
        "; " + MARK,
        "[unix_http_server]",
        "file=" + places.SUPERVISOR_SOCKET,
        "chmod=0700",
        "",
        "[supervisord]",
        "logfile=" + _plain(log_dir + "/supervisord.log"),
        "logfile_maxbytes=%dMB" % log_max_mib,
        "logfile_backups=%d" % log_backups,
        "pidfile=" + places.SUPERVISOR_PIDFILE,
        "childlogdir=" + _plain(log_dir),
        "umask=027",
        "user=root",
        "",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
        "",
        "[supervisorctl]",
        "serverurl=unix://" + places.SUPERVISOR_SOCKET,
        "",
        "[include]",
        "files = %s/*.conf" % places.SUPERVISOR_PROGRAMS,
    ]
    return "\n".join(lines) + "\n"


def _plain(path: str) -> str:
    """A path as a value of supervisor's configuration."""
    supervisor_word(path)  # ValueError for what its parser would read as a comment
    return path.replace("%", "%%")
