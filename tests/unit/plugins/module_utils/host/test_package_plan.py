# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One version that all packages have, from what apt and dnf print."""

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import packages as package_plan

# As apt-cache prints it; bookworm, where the open modules lag behind the security updates.
MADISON = """\
nvidia-open-kernel-dkms | 535.261.03-1 | http://mirror.debian bookworm/contrib amd64 Packages
nvidia-kernel-dkms | 535.309.01-0+deb12u1 | http://security.debian bookworm-security/non-free amd64 Packages
nvidia-kernel-dkms | 535.261.03-1 | http://mirror.debian bookworm/non-free amd64 Packages
nvidia-graphics-drivers | 535.309.01-0+deb12u1 | http://security.debian bookworm-security/non-free Sources
nvidia-smi | 535.309.01-0+deb12u1 | http://security.debian bookworm-security/non-free amd64 Packages
nvidia-smi | 535.261.03-1 | http://mirror.debian bookworm/non-free amd64 Packages
  libcuda1 | 535.309.01-0+deb12u1 | http://security.debian bookworm-security/non-free amd64 Packages
  libcuda1 | 535.261.03-1 | http://mirror.debian bookworm/non-free amd64 Packages
"""
DNF = """\
Installed Packages
nvidia-driver-cuda.x86_64        3:550.54.15-1.el9        @cuda-rhel9-x86_64
Available Packages
nvidia-driver-cuda.x86_64        3:550.54.15-1.el9        cuda-rhel9-x86_64
nvidia-driver-cuda.x86_64        3:550.90.12-1.el9        cuda-rhel9-x86_64
nvidia-fabric-manager.x86_64     550.90.12-1              cuda-rhel9-x86_64
kmod-nvidia-open-dkms.noarch     3:550.90.12-1.el9        cuda-rhel9-x86_64
"""
NVIDIA = {
    "driver": ["560.35.03-1", "550.127.05-1", "550.90.12-1", "550.54.15-1"],
    "fabricmanager-550": ["550.90.12-1", "550.54.15-1"],
    "fabricmanager": ["560.35.03-1"],
}


def test_upstream():
    assert package_plan.upstream("3:550.90.12-1.el9") == "550.90.12"
    assert package_plan.upstream("550.90.12-0ubuntu0.22.04.1") == "550.90.12"
    assert package_plan.upstream("550.90.12") == "550.90.12"


def test_parse_madison():
    found = package_plan.parse_madison(MADISON)
    assert found["nvidia-smi"] == ["535.309.01-0+deb12u1", "535.261.03-1"]
    assert found["libcuda1"] == ["535.309.01-0+deb12u1", "535.261.03-1"]
    assert "nvidia-graphics-drivers" not in found
    assert package_plan.parse_madison("") == {}


def test_parse_dnf_list():
    found = package_plan.parse_dnf_list(DNF)
    assert found["nvidia-driver-cuda"] == ["3:550.90.12-1.el9", "3:550.54.15-1.el9"]
    assert found["kmod-nvidia-open-dkms"] == ["3:550.90.12-1.el9"]
    plan = package_plan.choose(["nvidia-driver-cuda", "nvidia-fabric-manager"], found, "x", "550")
    assert plan.packages == {"nvidia-driver-cuda": "3:550.90.12-1.el9", "nvidia-fabric-manager": "550.90.12-1"}


def test_dnf_breaks_lines_that_are_too_long():
    listing = """\
nvidia-driver.x86_64                    3:570.86.15-1.el9                    cuda-rhel9-x86_64
nvidia-persistenced-of-some-long-name-here.x86_64
                                        3:570.86.15-1.el9                    cuda-rhel9-x86_64
nvidia-driver.x86_64                    3:580.82.07-1.el9                    @cuda-rhel9-x86_64
"""
    assert package_plan.parse_dnf_list(listing) == {
        "nvidia-driver": ["3:580.82.07-1.el9", "3:570.86.15-1.el9"],
        "nvidia-persistenced-of-some-long-name-here": ["3:570.86.15-1.el9"],
    }


def test_newest_of_all():
    plan = package_plan.choose(
        ["nvidia-kernel-dkms", "nvidia-smi", "libcuda1"], package_plan.parse_madison(MADISON), "x"
    )
    assert plan.version == "535.309.01"
    assert set(plan.packages.values()) == {"535.309.01-0+deb12u1"}


def test_newest_ones_that_do_not_match_are_refused_with_the_version_that_does():
    with pytest.raises(Failure) as error:
        package_plan.choose(["nvidia-open-kernel-dkms", "nvidia-smi"], package_plan.parse_madison(MADISON), "x")
    assert str(error.value) == (
        "the newest versions do not match: nvidia-open-kernel-dkms 535.261.03-1, nvidia-smi 535.309.01-0+deb12u1"
    )
    assert error.value.hint == "All of them have 535.261.03: set x_version to that."
    pinned = package_plan.choose(
        ["nvidia-open-kernel-dkms", "nvidia-smi"], package_plan.parse_madison(MADISON), "x", version="535.261.03"
    )
    assert set(pinned.packages.values()) == {"535.261.03-1"}


def test_alternatives_are_taken_by_branch():
    wanted = ["driver", "fabricmanager-550 | fabricmanager"]
    assert package_plan.choose(wanted, NVIDIA, "x", "560").packages["fabricmanager"] == "560.35.03-1"
    assert package_plan.choose(wanted, NVIDIA, "x", "550", "550.90.12").packages["fabricmanager-550"] == "550.90.12-1"


@pytest.mark.parametrize(
    ("version", "kept", "chosen"),
    [
        ("550.90.12", "", "550.90.12"),
        ("550.90.12-1", "", "550.90.12"),
        ("550.54.15", "550.90.12", "550.54.15"),
        ("", "550.54.15", "550.54.15"),
        ("", "535.161.08", "550.127.05"),
    ],
)
def test_pins_and_what_is_installed(version, kept, chosen):
    assert package_plan.choose(["driver"], NVIDIA, "x", "550", version, kept).version == chosen


@pytest.mark.parametrize(
    ("wanted", "branch", "version", "message", "hint"),
    [
        (
            ["driver", "fabricmanager-550"],
            "550",
            "550.127.05",
            "fabricmanager-550 has no version 550.127.05; it has 550.9",
            "550.90.12",
        ),
        (["driver", "fabricmanager-550"], "550", "", "the newest versions do not match", "550.90.12, 550.54.15"),
        (["driver"], "550", "550.1.1", "driver has no version 550.1.1; it has 560.35.03-1", "550.127.05"),
        (["driver"], "570", "", "driver has no version of branch 570; it has 560.35.03-1", "x_branch"),
        (["none | no-one"], "", "", "no repository of this host has the package none or no-one", "non-free"),
        (["driver", "fabricmanager-550"], "560", "", "fabricmanager-550 has no version of branch 560", "branch"),
    ],
)
def test_refusals(wanted, branch, version, message, hint):
    with pytest.raises(Failure) as error:
        package_plan.choose(wanted, NVIDIA, "x", branch, version)
    assert str(error.value).startswith(message)
    assert hint in error.value.hint


def test_what_is_installed_comes_along():
    plan = package_plan.choose(["driver"], NVIDIA, "x", "550", "550.54.15")
    candidates = {**NVIDIA, "lib": ["550.90.12-1", "550.54.15-1"], "other": ["550.90.12-1"]}
    installed = {"driver": "550.90.12-1", "lib": "550.90.12-1", "other": "550.90.12-1"}
    assert package_plan.family(installed, plan, candidates) == {"lib": "550.54.15-1"}


INSTALLED = {"driver": "550.54.15-1", "libcuda": "550.54.15-1"}
CANDIDATES = {**NVIDIA, "libcuda": ["550.127.05-1", "550.90.12-1"], "headers": ["1"]}


@pytest.mark.parametrize(
    ("installed", "asked", "version", "missing"),
    [
        # Nothing is there: all of one version, and what has to be beside it.
        ({}, {"branch": "550", "version": "550.90.12"}, "550.90.12",
         {"driver": "550.90.12-1", "fabricmanager-550": "550.90.12-1", "headers": None}),
        # What is installed stays, also where it has left the repositories.
        ({"driver": "550.40.07-1", "fabricmanager-550": "550.40.07-1"}, {"branch": "550"}, "550.40.07",
         {"headers": None}),
        (INSTALLED, {"branch": "550"}, "550.54.15", {"fabricmanager-550": "550.54.15-1", "headers": None}),
        # Another version takes along what is installed, and no more.
        (INSTALLED, {"branch": "550", "version": "550.90.12"}, "550.90.12",
         {"driver": "550.90.12-1", "fabricmanager-550": "550.90.12-1", "libcuda": "550.90.12-1", "headers": None}),
        ({"driver": "550.90.12-1", "fabricmanager-550": "550.90.12-1", "headers": "1"}, {"branch": "550"}, "550.90.12",
         {}),
    ],
)  # fmt: skip
def test_what_is_still_to_be_installed(installed, asked, version, missing):
    wanted, others, along = ["driver", "fabricmanager-550 | fabricmanager"], ["headers"], ["libcuda"]
    before = {name: list(versions) for name, versions in CANDIDATES.items()}
    plan, found = package_plan.to_install(wanted, others, along, CANDIDATES, installed, "nvidia_driver", **asked)
    assert (plan.version, found) == (version, missing)
    assert before == CANDIDATES


def test_what_has_to_be_beside_it_and_is_nowhere_names_the_sources():
    with pytest.raises(Failure, match="has the package headers-6.1-nowhere") as failed:
        package_plan.to_install(["driver"], ["headers-6.1-nowhere"], [], CANDIDATES, {}, "nvidia_driver")
    assert "upgrade the kernel" in failed.value.hint


def test_what_is_installed_by_dpkg_and_rpm():
    text = "nvidia-smi 535.1-1 installed\nnvidia-old 470.1-1 config-files\nheld 1 installed\n\nbroken\n"
    assert package_plan.parse_dpkg(text) == {"nvidia-smi": "535.1-1", "held": "1"}
    text = "nvidia-driver 3:550.54.15-1.el9\nkernel-headers 0:5.14-1\npackage gone is not installed\n"
    assert package_plan.parse_rpm(text) == {"nvidia-driver": "3:550.54.15-1.el9", "kernel-headers": "5.14-1"}


def test_apt_texts():
    said = """\
The following packages have unmet dependencies:
 nvidia-open-kernel-dkms : Depends: firmware-nvidia-gsp (= 535.261.03) or
                                    firmware-nvidia-gsp-535.261.03
E: Unable to correct problems, you have held broken packages.
"""
    assert package_plan.apt_reason(said) == (
        "nvidia-open-kernel-dkms : Depends: firmware-nvidia-gsp (= 535.261.03) or firmware-nvidia-gsp-535.261.03"
    )
    assert (
        package_plan.apt_reason("Reading...\nE: Version '1' for 'x' was not found\n")
        == "Version '1' for 'x' was not found"
    )
    assert package_plan.apt_pin(["*nvidia*", "libcuda1"], "550.90.12") == (
        "Package: *nvidia* libcuda1\nPin: version 550.90.12-*\nPin-Priority: 1001\n"
    )


def test_holds():
    assert package_plan.parse_apt_holds("bash\nlibcuda1\n") == ["bash", "libcuda1"]
    said = "nvidia-driver-cuda-3:550.90.12-1.el9.*\nkernel-0:5.14.0-427.el9.*\n"
    assert package_plan.parse_versionlocks(said, ["nvidia-driver-cuda", "nvidia-driver"]) == ["nvidia-driver-cuda"]


def test_the_indexes_of_apt_s_sources_and_why_one_cannot_be_reached():
    listed = (
        "'http://a/debian/dists/bookworm/InRelease' a_InRelease 0 \n"
        "'http://a/debian/dists/bookworm/main/Packages.xz' a_Packages 9 SHA256:0\n"
        "'https://b/dists/x/InRelease' b_InRelease 0 \n"
    )
    assert package_plan.parse_apt_uris(listed) == [
        "http://a/debian/dists/bookworm/InRelease",
        "https://b/dists/x/InRelease",
    ]
    said = (
        "Err:1 http://a/InRelease\n  Temporary failure resolving 'a'\n"
        "E: Failed to fetch http://a/InRelease  Temporary failure resolving 'a'\nE: Download Failed\n"
    )
    assert package_plan.apt_unreachable(said) == "Failed to fetch http://a/InRelease  Temporary failure resolving 'a'"
    # A server that answers may have a Release.
    assert (
        package_plan.apt_unreachable(said.replace("Temporary failure resolving 'a'", "404  Not Found [IP: ::1]")) == ""
    )
