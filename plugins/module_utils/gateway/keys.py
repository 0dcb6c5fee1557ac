# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's API keys: a list with the SHA-256 of each, and the maps of HAProxy that follow from it. Pure.

A key is 32 random bytes, so that its plain SHA-256 tells nothing of it; no key is on the host. The list is
``[{"name", "sha256", "created", "requests_per_minute", "streams", "models"}]``, the last three null for no limit of its
own.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Sequence

from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway.config import NAME, NOBODY, PROBE, REPLICAS
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

Key = Dict[str, Any]
SHA256 = re.compile(r"[0-9a-f]{64}\Z")
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of no key at all
OWN = (PROBE, REPLICAS)  # that no user has
_LIMITS = ("requests_per_minute", "streams")


def check_name(name: str) -> str:
    """The name itself; Failure for one that is none, or the host's own."""
    if not NAME.match(name):
        raise Failure(
            "'%s' is not a name for a key" % " ".join(name.split())[:80],
            hint="Letters, digits, '.', '_' and '-', beginning with a letter or digit, 63 at most.",
            error_kind="usage",
        )
    if name in (*OWN, NOBODY):
        what = "is the host's own" if name in OWN else "is what the log calls a request without a key"
        raise Failure("the key's name '%s' %s" % (name, what), hint="Choose another name.", error_kind="usage")
    return name


def make(name: str, sha256: str, created: str, limits: Dict[str, Any]) -> Key:
    """A new entry. Failure for what is none; never with the hash."""
    if not SHA256.match(sha256) or sha256 == EMPTY:
        raise Failure("key %s: sha256 is not the SHA-256 of a key, 64 hexadecimal digits" % name, error_kind="usage")
    for limit in _LIMITS:
        if limits.get(limit) is not None and limits[limit] < 1:
            raise Failure("key %s: %s is %d, less than 1" % (name, limit, limits[limit]), error_kind="usage")
    for model in limits.get("models") or []:
        if not model or re.search(r"[\x00-\x1f\x7f]", model):
            raise Failure("key %s: models has a name that is empty or not on one line" % name, error_kind="usage")
    return {
        "name": name,
        "sha256": sha256,
        "created": created,
        "requests_per_minute": limits.get("requests_per_minute"),
        "streams": limits.get("streams"),
        "models": sorted(set(limits.get("models") or [])) or None,
    }


def parse(text: str) -> List[Key]:
    """The list in the text of its file. ValueError, one line, for what is none."""
    found = foreign.loads(text)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ValueError("not a list of keys")
    names, hashes = set(), set()
    for item in found:
        name, digest = item.get("name"), item.get("sha256")
        if not isinstance(name, str) or not NAME.match(name) or name in names:
            raise ValueError("a key without a name of its own")
        if not isinstance(digest, str) or not SHA256.match(digest) or digest in hashes or digest == EMPTY:
            raise ValueError("key %s has no SHA-256 of its own" % name)
        names.add(name)
        hashes.add(digest)
        for limit in _LIMITS:
            if item.get(limit) is not None and not (foreign.is_whole(item[limit]) and item[limit] >= 1):
                raise ValueError("key %s: %s is not a number of at least 1" % (name, limit))
        models = item.get("models")
        if models is not None and not (isinstance(models, list) and all(isinstance(model, str) for model in models)):
            raise ValueError("key %s: models is not a list of names" % name)
    return found


def dump(keys: Sequence[Key]) -> str:
    """The text of the file."""
    return json.dumps(sorted(keys, key=lambda key: str(key["name"])), indent=1, sort_keys=True) + "\n"


def maps(keys: Sequence[Key], pools: Sequence[Dict[str, Any]]) -> Dict[str, Dict[str, str]]:
    """What each map of HAProxy holds, by its file's name.

    :param pools: ``engine`` and ``model`` of each. What Ollama answers with is what the request's body names, which is
        not looked at: a key that is limited to some models does not pass there.
    """
    limited = [key for key in keys if key.get("models")]
    return {
        "keys.map": {key["sha256"]: key["name"] for key in keys},
        "streams.map": {key["name"]: str(key["streams"]) for key in keys if key.get("streams")},
        "rates.map": {key["name"]: str(key["requests_per_minute"]) for key in keys if key.get("requests_per_minute")},
        "limited.map": {key["name"]: "1" for key in limited},
        "allowed.map": {
            "%s/%s" % (key["name"], pool["engine"]): "1"
            for key in limited
            for pool in pools
            if pool["model"] in key["models"] and pool["engine"] != "ollama"
        },
    }


def map_text(entries: Dict[str, str]) -> str:
    """The text of a map's file."""
    return "".join("%s %s\n" % entry for entry in sorted(entries.items()))


def pool_model(pool: Dict[str, Any]) -> str:
    """What the log calls the model of a pool: one word, or "-" for Ollama, where each request names its own."""
    return "-" if pool["engine"] == "ollama" else re.sub(r"[^A-Za-z0-9._:/@+-]", "_", pool["model"])[:200] or "-"
