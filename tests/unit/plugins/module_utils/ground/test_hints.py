# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import errno
import os

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.hints import hint_for

# Lines as the programs print them: pip 23 to 26, uv 0.9, git 2.39, curl, Python's own.
SAID = [
    ("E: Unable to lock directory /var/lib/apt/lists/", "Another package installation"),
    (
        "W: GPG error: https://x InRelease: The following signatures couldn't be verified because the public key is "
        "not available: NO_PUBKEY A4B469963BF863CC",
        "key of a package source",
    ),
    ("E: The repository 'https://x focal Release' does not have a Release file.", "this release of the distribution"),
    ("E: Failed to fetch https://x  File has unexpected size (1 != 2). Mirror sync in progress?", "being updated"),
    ("curl: (56) Proxy CONNECT aborted", "proxy"),
    ("fatal: unable to access 'https://x/': Failed to connect to x port 443 after 129 ms", "cannot be reached"),
    ("Curl error (28): Timeout was reached for https://x [Operation too slow. Less than 1000 bytes/sec]", "cannot be"),
    ("Cannot download repodata/repomd.xml: All mirrors were tried", "cannot be reached"),
    ("error: RPC failed; curl 92 HTTP/2 stream 0 was not closed cleanly: CANCEL (err 8)", "cannot be reached"),
    ("fatal: early EOF", "cannot be reached"),
    ("fatal: Authentication failed for 'https://x'", "refuses the credentials"),
    ("fatal: could not read Username for 'https://x': terminal prompts disabled", "refuses the credentials"),
    ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
    ("error: Failed to write to the client cache\n  Caused by: No space left on device (os error 28)", "disk is full"),
    ("OSError: [Errno 122] Disk quota exceeded: '/home/x'", "quota"),
    ("error: failed to create directory `/opt/x`: Read-only file system (os error 30)", "read-only"),
    ("ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: '/opt/x'", "root is needed"),
    (
        "WARNING: Retrying (Retry(total=4)) after connection broken by 'ProxyError('Cannot connect to proxy.', "
        "OSError('Tunnel connection failed: 407 Proxy Authentication Required'))': /simple/x/\n"
        "ERROR: Could not find a version that satisfies the requirement x (from versions: none)",
        "proxy",
    ),
    ("fatal: unable to access 'https://x/': Could not resolve proxy: proxy.example", "proxy"),
    (
        "ERROR: Could not fetch URL https://x/simple/: There was a problem confirming the ssl certificate: "
        "SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate')\n"
        "ERROR: No matching distribution found for x",
        "TLS",
    ),
    ("  Caused by: invalid peer certificate: UnknownIssuer", "TLS"),
    (
        "NewConnectionError('<pip._vendor>: Failed to establish a new connection: [Errno -3] Temporary failure in name "
        "resolution')': /simple/x/\nERROR: No matching distribution found for x",
        "name cannot be resolved",
    ),
    ("  Caused by: dns error\n  Caused by: failed to lookup address information", "name cannot"),
    ("fatal: unable to access 'https://x/': Could not resolve host: x", "name cannot be resolved"),
    ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "another file than the pinned one"),
    ("error: Hash mismatch for `numpy==2.0`", "another file than the pinned one"),
    (
        "'/usr/bin/apt-get -y install 'gpg'' failed: E: dpkg was interrupted, you must manually run "
        "'dpkg --configure -a' to correct the problem.",
        "dpkg --configure -a and",
    ),
    ("E: Unmet dependencies. Try 'apt --fix-broken install' with no packages (or specify a solution).", "--fix-broken"),
    (
        "Errors were encountered while processing:\n nvidia-dkms-550\n"
        "E: Sub-process /usr/bin/dpkg returned an error code (1)",
        "dpkg --audit",
    ),
    (
        "E:Release file for http://mirror.example.org/debian/dists/bookworm/InRelease is not valid yet (invalid for "
        "another 3h 4min 5s). Updates for this repository will not be applied.",
        "clock is behind",
    ),
    ("SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate is not yet valid')", "behind"),
    (
        "E: Release file for http://x/dists/jammy-updates/InRelease is expired (invalid since 3d 2h). Updates for "
        "this repository will not be applied.",
        "out of date",
    ),
    ("error: HTTP status client error (404 Not Found) for url (https://x/simple/y/)", "does not have it"),
    ("ERROR: No matching distribution found for x==9", "index does not have it, or does not answer"),
    ("error: HTTP status client error (401 Unauthorized) for url (https://x/simple/y/)", "credentials"),
    ("NewConnectionError: [Errno 111] Connection refused')': /simple/x/\nERROR: No matching distribution", "reached"),
    ("ReadTimeoutError(\"HTTPSConnectionPool(host='x', port=443): Read timed out. (read timeout=15)\")", "reached"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "words"), SAID, ids=[words for _said, words in SAID])
def test_the_hint_is_of_the_cause(said, words):
    assert words in hint_for(said)
    assert words in hint_for(said.splitlines())
    assert "\n" not in hint_for(said)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "Permission denied"),
        (errno.EPERM, "Permission denied"),
    ],
)
def test_the_number_of_an_oserror_counts_and_its_file_is_named(number, words):
    # strerror may be in another language, and the path may say anything.
    hint = hint_for(OSError(number, "kein Platz", "/srv/404/quota exceeded"))
    assert words in hint and hint.endswith("(/srv/404/quota exceeded)")


@pytest.mark.parametrize("said", ["404 GB are needed", "the probe of GPU 403 timed out", "block 401 of 512"])
def test_numbers_and_time_limits_of_other_things_are_no_server_s(said):
    assert hint_for(said) == ""


def test_what_tells_nothing_has_the_default():
    assert hint_for("SyntaxError", "look at the log") == "look at the log"
    assert hint_for(OSError(errno.EISDIR, os.strerror(errno.EISDIR), "/x"), "d") == "d"
    assert hint_for("") == ""
