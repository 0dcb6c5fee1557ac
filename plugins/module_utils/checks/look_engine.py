# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what checks need to know of the deployments of this host. Section `deployments` of look.py.

Of command lines and environments only what a check looks at leaves this file: they may hold secrets of the user's own.
"""

from __future__ import annotations

import glob
import os
import re
import ssl
import stat
import time
from typing import Any, Dict, List, Optional, Tuple
from urllib.parse import urlsplit

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.reading import Place
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.guards import flag_of_word
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.ollama_api import Api
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.header import GGUFError
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.summary import summarise
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import certificates
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import is_whole, one_line
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import users
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import store
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.driver_gather import path as program
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.deployments import read_records
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.readiness import look
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.state import has_process

HEALTH_TIMEOUT = 5.0  # s
NOTABLE = 1024**3  # bytes; a model of this size is not fetched again in a moment
# Flags that a check looks at, and whether the word after one is a value that may be kept.
_FLAGS = {
    "--enforce-eager": False,
    "--disable-cuda-graph": False,
    "--tensor-parallel-size": True,
    "--tp-size": True,
    "-ngl": True,
    "--gpu-layers": True,
    "--n-gpu-layers": True,
    "--ssl-certfile": True,
    "--ssl-cert-file": True,
}
_VARIABLES = (
    "VLLM_SERVER_DEV_MODE",
    "VLLM_ALLOW_INSECURE_SERIALIZATION",
    "OLLAMA_KEEP_ALIVE",
    "NCCL_NVLS_ENABLE",
    "NCCL_IB_GID_INDEX",
)
_ENGINES = re.compile(r"core\.(?:llama|ollama|python|vllm|VLLM|sglang)")
_DUMPS = "/var/lib/systemd/coredump"


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as handle:
            return handle.read(1024 * 1024)
    except OSError:
        return b""


def directories(records: str) -> List[Tuple[str, str, bool]]:
    """(data or programs, directory, whether what is there is large) of every deployment of a host."""
    found = []
    for record in read_records(records or places.RECORDS)[0]:
        path = record.get("model_path") or (record.get("store") or {}).get("directory")
        if isinstance(path, str) and path.startswith("/"):
            size = _model_bytes(record)
            found.append(("data", path, size is not None and size >= NOTABLE))
        found += [("programs", path, False) for path in record["dirs"] if os.path.isdir(path)]
    return found


def deployments(place: Place) -> Dict[str, Any]:
    """`{records, unreadable, hard_nofile, compiler, core_dumps}`; of each record what engine.py asks for."""
    records, problems = read_records(place.records or places.RECORDS)
    if place.engine:
        records = [record for record in records if record["engine"] == place.engine]
    known = {record["file"]: record for record in place.known}
    found = []
    for record in records:
        told = known.get(record["file"])
        if told is None:
            told = look(record, place.health, HEALTH_TIMEOUT, place.supervisor_config or places.SUPERVISOR_CONFIG)
        found.append(_record(record, told))
    return {
        "records": found,
        "unreadable": [one_line(problem) for problem in problems],
        "hard_nofile": _number(_limits(b"".join([read("/proc/1/limits")])).get("hard_nofile")),
        "compiler": next((name for name in ("gcc", "cc", "clang") if program(name)), None),
        "core_dumps": _core_dumps(),
    }


def _record(record: Dict[str, Any], told: Dict[str, Any]) -> Dict[str, Any]:
    state = told["state"]
    endpoint = urlsplit(record["endpoint"])
    pids = _pids(record["user"], (state or {}).get("pid"))
    limits = [found for found in (_limits(read("/proc/%d/limits" % pid)) for pid in pids) if found]
    argv = [words for words in (_argv(pid) for pid in pids) if words is not None]
    size = _model_bytes(record)
    found = {
        "engine": record["engine"],
        "version": record.get("version") or "",
        "endpoint": record["endpoint"],
        "host": endpoint.hostname or "",
        "port": endpoint.port,
        "device": record["device"],
        "user": record["user"],
        "state": state,
        "running": bool(state and has_process(state)),
        "on_purpose": told["stopped_on_purpose"],
        "ready": told["ready"],
        "ready_detail": told["ready_detail"],
        "has_tls": endpoint.scheme == "https",
        "has_key": bool(record.get("api_key_file")),
        "api_key_file": record.get("api_key_file"),
        "key_mode": _mode(record.get("api_key_file")),
        "argv": argv,
        "environ": _environ(pids),
        "limits": {
            "nofile": min((one["nofile"] for one in limits if one["nofile"] is not None), default=None),
            "memlock": min((one["memlock"] for one in limits if one["memlock"] is not None), default=None),
        }
        if limits
        else None,
        "model_bytes": size,
        # Ollama serves a copy of its own; one that was stopped on purpose serves none.
        "model_problem": None
        if record.get("store") or told["stopped_on_purpose"]
        else _model_problem(record.get("model_path")),
        "cuda": _torch_cuda(record["dirs"]),
    }
    return dict(found, certificate=_certificate(found), on_gpu=_on_gpu(record, found))


def _number(value: Any) -> Optional[int]:
    return value if is_whole(value) else None


def _mode(path: Any) -> Optional[int]:
    try:
        return stat.S_IMODE(os.stat(path).st_mode) if isinstance(path, str) else None
    except OSError:
        return None


def _pids(user: str, main: Optional[int]) -> List[int]:
    """The processes of a service: the main one, and all of its user."""
    account = users.account(user)
    found = [main] if main else []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if account and account.uid and os.stat("/proc/" + name).st_uid == account.uid:
                found.append(int(name))
        except OSError:
            continue  # it has ended
    return list(dict.fromkeys(found))


def _argv(pid: int) -> Optional[List[str]]:
    """Of a command line those flags that a check looks at; None where it cannot be read."""
    words = [word.decode("utf-8", "replace") for word in read("/proc/%d/cmdline" % pid).split(b"\0")]
    if len(words) < 2:
        return None
    kept: List[str] = []
    for word, following in zip(words, words[1:] + [""]):
        flag = flag_of_word(word)
        if flag in _FLAGS:
            kept += [word] + ([following[:200]] if _FLAGS[flag] and "=" not in word else [])
    return kept


def _environ(pids: List[int]) -> Optional[Dict[str, str]]:
    """Of the environments of its processes those variables that a check looks at; None where none can be read."""
    found: Optional[Dict[str, str]] = None
    for pid in pids:
        data = read("/proc/%d/environ" % pid)
        if data:
            found = {} if found is None else found
            for entry in data.split(b"\0"):
                name, _equal, value = entry.decode("utf-8", "replace").partition("=")
                if name in _VARIABLES:
                    found.setdefault(name, value[:100])
    return found


def _limits(text: bytes) -> Dict[str, Any]:
    """`{nofile, memlock, hard_nofile}` of /proc/PID/limits, None for unlimited; empty where it cannot be read."""
    values = {}
    for name, key in (("Max open files", "nofile"), ("Max locked memory", "memlock")):
        match = re.search(r"^%s\s+(\S+)\s+(\S+)" % name, text.decode("ascii", "replace"), re.M)
        if not match:
            return {}
        values[key] = None if match.group(1) == "unlimited" else int(match.group(1))
        values["hard_" + key] = None if match.group(2) == "unlimited" else int(match.group(2))
    return values


def _model_bytes(record: Dict[str, Any]) -> Optional[int]:
    """Bytes of the model by its manifest, or of its file; None where it is not told."""
    path = record.get("model_path")
    if not isinstance(path, str) or not path.startswith("/"):
        return None
    manifest = store.read_manifest(path) if os.path.isdir(path) else store.find_manifest(path)[1]
    if manifest:
        return sum(item["bytes"] for item in manifest["files"])
    try:
        return os.path.getsize(path) if os.path.isfile(path) else None
    except OSError:
        return None


def _model_problem(path: Any) -> Optional[str]:
    """What is wrong with the files of a model of the store, "" for nothing; None where it is none, or not readable."""
    if not isinstance(path, str) or not path.startswith("/"):
        return None
    if not os.access(path, os.R_OK):
        # What is gone is no model that nobody asked about. Behind a directory of others it may be there.
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return "%s is not there any more" % path
        except OSError:
            pass
        return None
    try:
        directory, manifest = (path, store.read_manifest(path)) if os.path.isdir(path) else store.find_manifest(path)
        if not manifest:
            problem = store.manifest_problem(path) if os.path.isdir(path) else store.wrong_weights(path)
            return problem or ("" if os.path.isfile(path) else None)
        problems, _touched = store.compare(directory, manifest)
        if not problems:
            problems = [store.wrong_weights(os.path.join(directory, item["path"])) for item in manifest["files"]]
        return next(filter(None, problems), "")
    except OSError as error:
        return "%s: %s" % (error.filename or path, error.strerror)


def _torch_cuda(dirs: List[str]) -> Optional[str]:
    """CUDA that the newest PyTorch below these directories was built for, such as 13.0; None for none."""
    for directory in dirs:
        for middle in ("current", "*", ""):
            pattern = os.path.join(glob.escape(directory), middle, "lib/python3*/site-packages/torch/version.py")
            for path in sorted(glob.glob(pattern)):
                found = re.search(rb"^cuda\b[^=\n]*=\s*['\"]([0-9.]+)", read(path), re.M)
                if found:
                    return found.group(1).decode()
    return None


def _certificate(found: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """`{days}` that its certificate is still valid for, or `{problem}`; None for an engine without one."""
    if not found["has_tls"]:
        return None
    words = [word for words in found["argv"] for word in words]
    flags = ("--ssl-certfile", "--ssl-cert-file")
    paths = [words[words.index(flag) + 1] for flag in flags if flag in words[:-1]]
    if found["engine"] == "gateway":
        paths = [places.GATEWAY + "/certificate.pem"]
    for path in paths:
        try:
            decoded = certificates.decode(path)
            return {"days": int((ssl.cert_time_to_seconds(decoded["notAfter"]) - time.time()) // 86400)}
        except (OSError, ValueError, KeyError, AttributeError, ssl.SSLError) as error:
            return {"problem": "%s: %s" % (path, one_line(error, 100))}
    return {"problem": "the command line of %s does not tell its certificate" % found["engine"]}


def _on_gpu(record: Dict[str, Any], found: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """`{share, bytes}`: how much of the loaded model is on GPUs, 0 to 1; {} for none loaded; None: not told."""
    if not found["running"] or found["device"] != "gpu":
        return None
    if found["engine"] == "ollama":
        return _ollama_share(record["endpoint"])
    words = [word for words in found["argv"] for word in words]
    for flag in ("-ngl", "--gpu-layers", "--n-gpu-layers"):
        if flag in words[:-1] and re.fullmatch(r"\d{1,6}", words[words.index(flag) + 1]):
            return _llama_cpp_share(record.get("model_path"), int(words[words.index(flag) + 1]))
    return None


def _llama_cpp_share(path: Any, asked: int) -> Optional[Dict[str, Any]]:
    try:
        model = summarise(str(path))
    except (GGUFError, OSError):
        return None
    layers, size = model.get("layers"), model["tensor_bytes"]
    if not is_whole(layers) or not layers or not is_whole(size):
        return None
    # The output layer counts as one.
    return {"share": min(1.0, asked / (layers + 1)), "bytes": size}  # type: ignore[operator]


def _ollama_share(endpoint: str) -> Optional[Dict[str, Any]]:
    try:
        loaded = Api(endpoint, HEALTH_TIMEOUT).ps()
    except (Failure, ValueError, OSError):
        return None
    sizes = [(model.get("size"), model.get("size_vram")) for model in loaded]
    whole = [(size, vram) for size, vram in sizes if is_whole(size) and is_whole(vram) and size > 0]
    if not whole:
        return {}
    size, vram = max(whole)
    return {"share": min(1.0, vram / size), "bytes": size}


def _core_dumps() -> Optional[List[str]]:
    """Names of the engines' core dumps, the newest last; None where there is no directory of them."""
    if not os.access(_DUMPS, os.R_OK):
        return None
    return sorted(name for name in os.listdir(_DUMPS) if _ENGINES.match(name))[-20:]
