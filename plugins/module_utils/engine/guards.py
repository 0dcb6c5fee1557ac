# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user's own words for an engine's command line and environment may not set: what goes around the checks of
address, port, API key, TLS, origins and model, and what runs code of whoever asks. Pure.

Engines are named by their roles. Sources: vLLM 0.32.0 (entrypoints/launchers/cli_args.py, envs.py), SGLang 0.5.23
(srt/server_args.py), llama.cpp b11549 (common/arg.cpp), Ollama 0.24.0 (envconfig/config.go).
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import is_loopback
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.preflight import Problem, host_problem

_KEY = "an API key must not be on the command line: set {0}_api_key"
_FILE = "a configuration file would not be checked: set the variables"
_MODEL = "the model is chosen with dsdeploy_model"
_SERVER = "it starts another server, which is not checked"
_CODE = "it lets clients run programs"
_EVENTS = "it opens a socket that shows everybody what is in the cache"
_LOOPBACK = "the processes of one host talk over loopback"
# Presets of llama.cpp: each fetches a model of its own, and takes a port of its own.
_PRESET = re.compile(r"--(?!spec-default\Z)[a-z0-9.-]+-(default|spec)\Z")


class Guard(NamedTuple):
    """Of one engine: `flags` and `environment` map what is refused to what to do instead.

    :ivar title: the engine's name.
    :ivar abbreviated: whether its parser takes the beginning of a flag for the flag (argparse).
    :ivar open_without_key: what it answers without its API key; empty: nothing that computes.
    """

    title: str
    flags: Dict[str, str]
    environment: Dict[str, str]
    abbreviated: bool
    open_without_key: str


def _set(*names: str) -> Dict[str, str]:
    """`flag=variable` each, the variable without the role's prefix."""
    return {flag: "set {0}_" + variable for flag, _equal, variable in (name.partition("=") for name in names)}


_TORCH = {
    "GLOO_SOCKET_IFNAME": _LOOPBACK,
    "NCCL_SOCKET_IFNAME": _LOOPBACK,
    "HOST_IP": _LOOPBACK,
}

_VLLM_ADDRESSES = (
    *("VLLM_HOST_IP", "VLLM_DP_MASTER_IP"),
    *("VLLM_NIXL_SIDE_CHANNEL_HOST", "VLLM_P2P_SIDE_CHANNEL_HOST", "VLLM_EC_SIDE_CHANNEL_HOST"),
)

GUARDS = {
    "vllm_venv": Guard(
        "vLLM",
        {
            **_set("--host=host", "--port=port", "--ssl-keyfile=ssl_keyfile", "--ssl-certfile=ssl_certfile"),
            **_set("--uds=host", "--served-model-name=served_model_name", "--allowed-origins=allowed_origins"),
            **dict.fromkeys(("--model", "--model-tag"), _MODEL),
            **dict.fromkeys(("--grpc", "--grpc-port", "--omni"), _SERVER),
            "--kv-events-config": _EVENTS,
            "--middleware": "it would answer before the API key is asked for",
            "--api-key": _KEY,
            "--config": _FILE,
        },
        {
            **_TORCH,
            **dict.fromkeys(_VLLM_ADDRESSES, _LOOPBACK),
            "VLLM_LOOPBACK_IP": "a host talks to itself over loopback",
            "VLLM_API_KEY": "the API key belongs in {0}_api_key",
            "VLLM_SERVER_DEV_MODE": "it opens endpoints that run code for anyone; it is never set",
            "VLLM_ALLOW_INSECURE_SERIALIZATION": _CODE,
            **dict.fromkeys(("VLLM_USE_RUST_FRONTEND", "VLLM_RUST_FRONTEND_PATH"), _SERVER),
        },
        True,
        "/invocations, /tokenize, /pooling and more",
    ),
    "sglang": Guard(
        "SGLang",
        {
            **_set("--host=host", "--port=port", "--ssl-keyfile=ssl_keyfile", "--ssl-certfile=ssl_certfile"),
            **_set("--served-model-name=served_model_name"),
            **dict.fromkeys(("--model-path", "--model"), _MODEL),
            **dict.fromkeys(("--grpc-mode", "--encoder-only", "--disaggregation-mode"), _SERVER),
            "--kv-events-config": _EVENTS,
            **dict.fromkeys(("--api-key", "--admin-api-key"), _KEY),
            "--ssl-keyfile-password": "a password must not be on the command line: use a key without one",
            "--config": _FILE,
        },
        {
            **_TORCH,
            "SGLANG_HOST_IP": _LOOPBACK,
            **dict.fromkeys(("SGLANG_API_KEY", "SGLANG_ADMIN_API_KEY"), "the API key belongs in {0}_api_key"),
        },
        True,
        "/health_generate, /v1/realtime and more",
    ),
    "llama_cpp": Guard(
        "llama.cpp",
        {
            **_set("--host=host", "--port=port", "--ssl-cert-file=ssl_certfile", "--ssl-key-file=ssl_keyfile"),
            **_set("-a=served_model_name", "--alias=served_model_name", "-c=context", "--ctx-size=context"),
            **_set("-np=parallel", "--parallel=parallel", "-t=threads", "--threads=threads"),
            **_set("-ngl=gpu_layers", "--gpu-layers=gpu_layers", "--n-gpu-layers=gpu_layers"),
            **_set("--cors-origins=allowed_origins"),
            **dict.fromkeys(("-m", "--model", "-mu", "--model-url", "-dr", "--docker-repo"), _MODEL),
            **dict.fromkeys(("-hf", "-hfr", "--hf-repo", "-hff", "--hf-file"), _MODEL),
            **dict.fromkeys(("--models-dir", "--models-max", "--models-autoload"), _MODEL),
            **dict.fromkeys(("--models-preset", "--mcp-servers-config"), _FILE),
            **dict.fromkeys(("-hft", "--hf-token"), "a token must not be on the command line: set model_tokens"),
            **dict.fromkeys(("--api-key", "--api-key-file"), _KEY),
            **dict.fromkeys(("--tools", "--tools-runtime", "--agent", "--mcp-servers-json"), _CODE),
            **dict.fromkeys(("--ui-mcp-proxy", "--webui-mcp-proxy"), "it sends requests elsewhere for its clients"),
            **dict.fromkeys(("--ui", "--webui", "--path"), "no web page is served"),
            "--api-prefix": "the paths of the API must stay as they are",
            "--cors-credentials": "pages of other origins get no credentials",
            "--reuse-port": "another program could take its port",
        },
        {},
        False,
        "",
    ),
    "ollama": Guard(
        "Ollama",
        {},
        {
            "OLLAMA_HOST": "set {0}_host and {0}_port",
            "OLLAMA_ORIGINS": "set {0}_origins",
            "OLLAMA_MODELS": "set {0}_models_dir",
        },
        False,
        "everything: it has no API keys",
    ),
}


def _llama_cpp_environment() -> Dict[str, str]:
    """Each long flag of llama.cpp is an environment variable, too: `--ssl-key-file` is LLAMA_ARG_SSL_KEY_FILE."""
    flags = GUARDS["llama_cpp"].flags
    names = {
        "LLAMA_ARG_" + flag[2:].upper().replace("-", "_"): why for flag, why in flags.items() if flag.startswith("--")
    }
    names["LLAMA_ARG_STATIC_PATH"] = flags["--path"]
    names["LLAMA_ARG_N_PARALLEL"] = flags["--parallel"]
    names["LLAMA_API_KEY"] = "the API key belongs in {0}_api_key"
    return names


GUARDS["llama_cpp"].environment.update(_llama_cpp_environment())


def flag_of_word(word: str) -> str:
    """The flag that a word of the command line gives: `--ssl_keyfile=x` and `--hf-overrides.a` are --ssl-keyfile and
    --hf-overrides; a word that gives none as it is."""
    if not word.startswith("--"):
        return word.partition("=")[0] if word.startswith("-") else word
    return "--" + word[2:].partition("=")[0].partition(".")[0].replace("_", "-")


def flag_value(words: Sequence[str], flag: str) -> Optional[str]:
    """The value of a flag among the words of a command line: `--flag value` or `--flag=value`; None without it."""
    for number, word in enumerate(words):
        name, equal, value = str(word).partition("=")
        if name.replace("_", "-") == flag:
            return value if equal else str(words[number + 1]) if number + 1 < len(words) else ""
    return None


def word_problems(role: str, extra: Sequence[str], known: Sequence[str] = ()) -> List[str]:
    """What is wrong with the user's own words for the command line; one line each.

    :param known: flags that the engine is known to have: not taken for the beginning of another.
    """
    guard = GUARDS[role]
    problems = []
    for word in extra:
        flag = flag_of_word(str(word))
        why = guard.flags.get(flag, "")
        if role == "llama_cpp" and _PRESET.match(str(word).replace("_", "-")):
            flag, why = str(word), _MODEL
        if not why and guard.abbreviated and len(flag) > 2 and flag.startswith("--") and flag not in known:
            longer = [name for name in guard.flags if name.startswith(flag)]
            why = "it is short for %s: %s" % (longer[0], guard.flags[longer[0]]) if longer else ""
        if not why and guard.abbreviated and re.match(r"-[A-Za-z]", flag):
            why = "write the long form of the flag"
        if not why and (flag.startswith("@") or flag == "--"):
            why = "write the words themselves"
        if why:
            problems.append("%s_extra_args: %s: %s" % (role, flag, why.format(role)))
    return problems


def environment_problems(role: str, names: Sequence[str], several_hosts: bool = False) -> List[str]:
    """What is wrong with the names of the user's own environment variables; one line each.

    :param several_hosts: whether one engine spans hosts, whose processes cannot talk over loopback.
    """
    refused = GUARDS[role].environment
    return [
        "%s_environment: %s: %s" % (role, name, refused[name].format(role))
        for name in names
        if name in refused and not (several_hosts and refused[name] == _LOOPBACK)
    ]


def address_problem(role: str, host: str, has_key: bool, has_tls: bool) -> Optional[Problem]:
    """What is wrong with the address that an engine listens on."""
    guard = GUARDS[role]
    wrong = host_problem(host, True, True, role)
    if wrong or is_loopback(host) or not guard.open_without_key:
        return wrong or host_problem(host, has_key, has_tls, role)
    return Problem(
        "%s_host is %s, which others can reach, and %s answers %s without its API key"
        % (role, host, guard.title, guard.open_without_key),
        "Keep {0}_host at 127.0.0.1, and reach it through an SSH tunnel or through the gateway, which asks for a key "
        "and passes the requests for answers alone (dsdeploy_expose).".format(role),
        "usage",
    )


def problems(role: str, wanted: Dict[str, Any]) -> List[str]:
    """Everything that is wrong, one line each. `wanted`: extra_args, environment and several_hosts, as the
    module engine_guards takes them."""
    found = word_problems(role, wanted["extra_args"])
    found += environment_problems(role, list(wanted["environment"]), wanted["several_hosts"])
    return found
