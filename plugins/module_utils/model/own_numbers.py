# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The numbers of a model that the catalog knows none of, from its own config.json or GGUF header, before it is fetched.

Of a hub the listing and that one file are read, of a GGUF file no more than its header.
"""

from __future__ import annotations

import os
import tempfile

from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import config_facts, gguf_facts
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.families import NoText
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf import header as gguf
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import store as model_store
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.parts import files_of
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.download import Remote

CONFIG = "config.json"
MOST_CONFIG = 4 * 1024 * 1024  # bytes
FIRST_READ = 1024 * 1024  # bytes of a GGUF file; four times as many while its header goes on


def of_config(text):
    """What a config.json adds to a catalog entry; raises ``ValueError`` with one line."""
    try:
        config = foreign.loads(text, MOST_CONFIG)
    except ValueError:
        raise ValueError("config.json is not JSON") from None
    facts = config_facts.facts_of(config)
    added = {"format": "safetensors", "architecture": facts}
    bits = _weight_bits(config_facts.text_config(config))
    return dict(added, weight_bits=bits) if bits else added


# What a catalog may say otherwise than a model's own config.json: a context that is served shorter, a name, a sum.
_FREE = ("name", "parameters", "context", "scaled_context", "tied_embeddings", "attention", "unknown", "moe_layers")


def differences(entry, text):
    """What a model's own config.json says otherwise than its entry in the catalog, a line each.

    A config.json that is not understood says nothing.
    """
    catalog = entry.get("architecture") or {}
    try:
        found = of_config(text)["architecture"]
    except ValueError:
        return []
    return [
        "%s is %s in config.json, %s in the catalog" % (key, found[key], catalog[key])
        for key in sorted(set(catalog) & set(found) - set(_FREE))
        if found[key] != catalog[key]
    ]


def _weight_bits(config):
    """Bits of one weight; None where the config does not say."""
    for key in ("quantization_config", "compression_config", "quantization"):
        how = config.get(key)
        if how:
            break
    if how:
        how = how if isinstance(how, dict) else {}
        bits = how.get("bits") or how.get("w_bit") or {"fp8": 8, "mxfp4": 4.25}.get(str(how.get("quant_method")))
        return bits if isinstance(bits, (int, float)) and not isinstance(bits, bool) and 1 <= bits <= 32 else None
    kind = str(config.get("dtype") or config.get("torch_dtype")).replace("torch.", "")
    return {"bfloat16": 16, "float16": 16, "float32": 32, "float8_e4m3fn": 8}.get(kind)


def of_header(header):
    """What a GGUF header adds to a catalog entry; raises ``ValueError`` with one line."""
    names = [tensor.name.decode("utf-8", "replace") for tensor in header.tensors]
    facts, latent = gguf_facts.with_lengths(header.value, list(header.pairs), names)
    if not facts.get("vocabulary"):
        tokens = header.pairs.get(b"tokenizer.ggml.tokens")
        if tokens is not None and tokens.count:
            facts["vocabulary"] = tokens.count
    return {"format": "gguf", "architecture": facts, "kv_cache": "latent" if latent else "full"}


def _has_config(names, model_format):
    """Whether config.json tells of these files; repositories of GGUF files often hold the original's."""
    weights = [name for name in names if name.endswith((".gguf", ".safetensors"))]
    return CONFIG in names and model_format != "gguf" and any(name.endswith(".safetensors") for name in weights)


def of_files(directory, names, model_format=None):
    """The same of files that are there: paths below ``directory``. None where neither of both is among them."""
    weights = [name for name in names if name.endswith(".gguf" if model_format == "gguf" else ".safetensors")]
    if _has_config(names, model_format):
        added = of_config(foreign.read_bytes(os.path.join(directory, CONFIG), MOST_CONFIG))
    else:
        weights = sorted((name for name in names if name.endswith(".gguf")), key=model_store.gguf_order)
        if not weights:
            return None
        try:
            added = of_header(gguf.read_header(os.path.join(directory, weights[0]), complete=False))
        except gguf.GGUFError as error:
            raise ValueError("%s %s" % (os.path.basename(error.path), error.reason)) from None
    size = sum(os.path.getsize(os.path.join(directory, name)) for name in weights)
    return dict(added, bytes=size) if size else added


def of_offer(client, files, model_format=None):
    """The same of what a hub offers (list of `Remote`)."""
    by_name = dict((remote.path, remote) for remote in files)
    if _has_config(by_name, model_format):
        remote = by_name[CONFIG]
        if remote.size and remote.size > MOST_CONFIG:
            raise ValueError("config.json has %d bytes" % remote.size)
        added = of_config(_start(client, remote, MOST_CONFIG))
        weights = [one for one in files if one.path.endswith(".safetensors")]
        # Some repositories hold the weights twice, in another layout in a folder of its own.
        weights = [one for one in weights if "/" not in one.path and not one.path.startswith("consolidated")] or weights
    else:
        weights = sorted(
            (one for one in files if one.path.endswith(".gguf")), key=lambda one: model_store.gguf_order(one.path)
        )
        if not weights:
            return None
        added = of_header(_header(client, weights[0]))
    size = sum(one.size or 0 for one in weights)
    return dict(added, bytes=size) if size else added


def _start(client, remote, count):
    """The first ``count`` bytes of a file, fewer where it is shorter or the server sends all of it."""
    with client.open(remote.url, dict(remote.headers, Range="bytes=0-%d" % (count - 1))) as response:
        parts, left = [], count
        while left > 0:
            part = response.read(min(left, 1024 * 1024))
            if not part:
                break
            parts.append(part)
            left -= len(part)
    return b"".join(parts)


def _header(client, remote):
    """The header of a GGUF file on a hub; raises ``ValueError``."""
    count = FIRST_READ
    while True:
        start = _start(client, remote, count)
        with tempfile.NamedTemporaryFile(suffix=".gguf") as handle:
            handle.write(start)
            handle.flush()
            try:
                return gguf.read_header(handle.name, complete=False)
            except gguf.GGUFError as error:
                if len(start) < count or count >= gguf.MAX_HEADER_BYTES or "cut off" not in error.reason:
                    raise ValueError("%s %s" % (remote.path, error.reason)) from None
        count *= 4


def look(entry, fetch):
    """``(what is added to the entry, lines of what went wrong)``; nothing is added where nobody can tell.

    :param entry: a resolved entry of the catalog.
    :param fetch: a `Fetch` of it; nothing is fetched into the store.
    :raises NoText: its config.json is of a model that writes no text.
    """
    first = fetch.sources()[0]
    wrong = []
    try:
        if first["kind"] == "url" and [item["path"] for item in entry.get("files") or []] == [CONFIG]:
            remote = Remote(CONFIG, 0, "%s/%s" % (first["base"], CONFIG), {})
            return of_config(_start(fetch.client(), remote, MOST_CONFIG)), wrong
        if first["kind"] == "path":
            return of_files(*files_of(first["path"]), model_format=entry.get("format")) or {}, wrong
        manifest = model_store.read_manifest(fetch.directory)
        if manifest:
            names = [item["path"] for item in manifest["files"]]
            return of_files(fetch.directory, names, manifest["format"]) or {}, wrong
    except NoText:
        raise
    except (ValueError, OSError, Failure) as error:
        return {}, [str(error)]
    for place in fetch.places():
        if place.unlisted:
            continue
        try:
            added = of_offer(fetch.client(), place.offer().files, entry.get("format"))
        except NoText:
            raise
        except (Failure, ValueError, OSError) as error:
            wrong.append("%s: %s" % (place.label, error))
        else:
            if added:
                return added, []
            wrong.append("%s: neither a GGUF file nor a config.json beside .safetensors is there" % place.label)
    return {}, wrong
