"""The table of a unit's settings: what each need excepts, and what an older systemd does not know."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import confinement

NEWEST = 999


def lines(version: int = NEWEST, paths: tuple[str, ...] = ("/var/lib/dsdeploy/x",), **more: Any) -> list[str]:
    fixed = {"hardening": True, "needs": [], "record": {}, "state_dir": "/var/lib/dsdeploy/x", "write_paths": []}
    return confinement.settings({**fixed, **more}, paths, version)


def test_a_service_that_needs_nothing_gets_every_setting_that_is_not_for_devices() -> None:
    every = [row for row in confinement.TABLE if not row.only]
    assert [line.partition("=")[0] for line in lines()] == [row.name for row in every]


@pytest.mark.parametrize(
    ("need", "gone"),
    [
        ("gpu", {"PrivateDevices=yes", "MemoryDenyWriteExecute=yes"}),
        ("jit", {"MemoryDenyWriteExecute=yes"}),
        ("network", {"IPAddressDeny=any", "IPAddressAllow=localhost"}),
    ],
)
def test_each_need_excepts_what_it_says_and_no_more(need: str, gone: set[str]) -> None:
    assert set(lines()) - set(lines(needs=[need])) == gone
    assert gone <= set(lines())


def test_a_gpu_host_gets_its_devices_and_no_others() -> None:
    found = lines(record={"device": "gpu", "endpoint": "http://127.0.0.1:1"})
    assert "DevicePolicy=closed" in found
    assert "DeviceAllow=char-nvidia* rwm" in found
    assert "PrivateDevices=yes" not in found
    assert not [line for line in lines(record={"device": "cpu"}) if line.startswith("DeviceAllow")]
    # One filter grants first: what is taken away must come after what is given.
    filters = [line.partition("=")[2] for line in found if line.startswith("SystemCallFilter=")]
    assert filters[0] == "@system-service"
    assert filters[-1] == "~@privileged"


def test_one_that_listens_beyond_loopback_is_not_cut_off() -> None:
    assert "IPAddressDeny=any" in lines(record={"endpoint": "http://127.0.0.1:8080"})
    assert "IPAddressDeny=any" in lines(record={"endpoint": "http://[::1]:8080"})
    assert "IPAddressDeny=any" not in lines(record={"endpoint": "http://10.0.0.5:8080"})


def test_what_a_systemd_does_not_know_is_left_out() -> None:
    # Ubuntu 20.04 has 245, 22.04 249, Debian 12 252.
    old = {line.partition("=")[0] for line in lines(245)}
    assert {"ProtectClock", "ProtectKernelLogs", "IPAddressDeny"} <= old
    assert "ProtectProc" not in old
    assert "SystemCallFilter=pidfd_getfd process_vm_readv process_vm_writev" not in lines(247, needs=["gpu"])
    assert set(lines(252)) == set(lines(257)) == set(lines())


def test_keys_and_records_are_hidden_unless_it_reads_there() -> None:
    assert "InaccessiblePaths=-/etc/dsdeploy" in lines()
    assert not [line for line in lines(paths=("/etc/dsdeploy/gateway/haproxy.cfg",)) if "Inaccessible" in line]
    assert "InaccessiblePaths=-/etc/dsdeploy" in lines(paths=("/etc/dsdeploy-other/model.gguf",))


def test_where_it_reads_in_a_home_or_below_tmp_that_is_seen() -> None:
    assert "ProtectHome=yes" in lines()
    assert "ProtectHome=read-only" in lines(paths=("/home/a/model.gguf",))
    assert "PrivateTmp=no" in lines(paths=("/tmp/model.gguf",))


def test_every_exception_has_its_reason() -> None:
    assert all(row.why for row in confinement.TABLE if row.without or row.only)


def test_what_is_left_out_is_in_no_unit() -> None:
    assert not {row.name for row in confinement.TABLE} & set(confinement.LEFT_OUT)


def test_without_hardening_there_is_none() -> None:
    assert lines(hardening=False) == []
