"""What goes around the checks of address, key, TLS and model is refused in every form."""

from __future__ import annotations

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.guards import (
    GUARDS,
    address_problem,
    environment_problems,
    flag_of_word,
    problems,
    word_problems,
)


@pytest.mark.parametrize(
    "role, words, flag",
    [
        ("llama_cpp", ["--host", "0.0.0.0"], "--host: set llama_cpp_host"),
        ("llama_cpp", ["--port", "1"], "--port: set llama_cpp_port"),
        ("llama_cpp", ["--api_key_file", "f"], "--api-key-file: an API key must not be"),
        ("llama_cpp", ["-m", "/etc/passwd"], "-m: the model is chosen with dsdeploy_model"),
        ("llama_cpp", ["-hf", "org/model"], "-hf: the model is chosen"),
        ("llama_cpp", ["--ssl-key-file=x"], "--ssl-key-file: set llama_cpp_ssl_keyfile"),
        ("llama_cpp", ["--cors-origins", "*"], "--cors-origins: set llama_cpp_allowed_origins"),
        ("llama_cpp", ["--tools", "all"], "--tools: it lets clients run programs"),
        ("llama_cpp", ["--models-preset", "f"], "--models-preset: a configuration file"),
        ("llama_cpp", ["--fim-qwen-1.5b-default"], "--fim-qwen-1.5b-default: the model is chosen"),
        ("llama_cpp", ["--fim_qwen_7b_spec"], "--fim_qwen_7b_spec: the model is chosen"),
        ("llama_cpp", ["--gpt-oss-120b-default"], "--gpt-oss-120b-default: the model is chosen"),
        ("vllm_venv", ["--host=0.0.0.0"], "--host: set vllm_venv_host"),
        ("vllm_venv", ["--kv-events-config.endpoint=tcp://*:1"], "--kv-events-config: it opens a socket"),
        ("vllm_venv", ["--kv_ev", "{}"], "--kv-ev: it is short for --kv-events-config"),
        ("sglang", ["--kv-events-config", "{}"], "--kv-events-config: it opens a socket"),
        ("sglang", ["--disaggregation-mode", "prefill"], "--disaggregation-mode: it starts another server"),
        ("vllm_venv", ["--hos", "0.0.0.0"], "--hos: it is short for --host: set vllm_venv_host"),
        ("vllm_venv", ["--api_k", "x"], "--api-k: it is short for --api-key"),
        ("vllm_venv", ["--conf", "f"], "--conf: it is short for --config"),
        ("vllm_venv", ["--uds", "/run/x"], "--uds: set vllm_venv_host"),
        ("vllm_venv", ["--middleware", "x.y"], "--middleware: it would answer before"),
        ("vllm_venv", ["--grpc"], "--grpc: it starts another server"),
        ("vllm_venv", ["-tp", "8"], "-tp: write the long form"),
        ("vllm_venv", ["@words"], "@words: write the words themselves"),
        ("vllm_venv", ["--", "x"], "--: write the words themselves"),
        ("sglang", ["--model", "x"], "--model: the model is chosen"),
        ("sglang", ["--model-pa=x"], "--model-pa: it is short for --model-path"),
        ("sglang", ["--admin-api-key", "x"], "--admin-api-key: an API key must not be"),
        ("sglang", ["--config=f"], "--config: a configuration file"),
    ],
)
def test_a_word_is_refused_by_name(role, words, flag):
    (line,) = word_problems(role, words)
    assert line.startswith(f"{role}_extra_args: {flag}")


@pytest.mark.parametrize(
    "role, words",
    [
        ("llama_cpp", ["--batch-size", "512", "-fa", "on", "-b", "64", "--temp", "-1", "--spec-default"]),
        ("vllm_venv", ["--seed", "1", "--compilation-config.mode=3", "--kv-offloading-size", "4", "-1"]),
        ("sglang", ["--seed", "1", "--mem-cache", "--enable-mixed-chunk"]),
    ],
)
def test_other_words_pass(role, words):
    assert word_problems(role, words) == []


def test_a_flag_that_the_engine_has_is_no_beginning_of_another():
    assert word_problems("vllm_venv", ["--ssl"], known=["--ssl"]) == []
    assert word_problems("vllm_venv", ["--ssl"]) != []


@pytest.mark.parametrize(
    "role, name, said",
    [
        ("llama_cpp", "LLAMA_ARG_HOST", "set llama_cpp_host"),
        ("llama_cpp", "LLAMA_ARG_PORT", "set llama_cpp_port"),
        ("llama_cpp", "LLAMA_ARG_SSL_KEY_FILE", "set llama_cpp_ssl_keyfile"),
        ("llama_cpp", "LLAMA_ARG_CORS_ORIGINS", "set llama_cpp_allowed_origins"),
        ("llama_cpp", "LLAMA_ARG_MODEL", "the model is chosen"),
        ("llama_cpp", "LLAMA_ARG_HF_REPO", "the model is chosen"),
        ("llama_cpp", "LLAMA_ARG_STATIC_PATH", "no web page"),
        ("llama_cpp", "LLAMA_ARG_TOOLS", "run programs"),
        ("llama_cpp", "LLAMA_API_KEY", "the API key belongs in llama_cpp_api_key"),
        ("vllm_venv", "VLLM_NIXL_SIDE_CHANNEL_HOST", "over loopback"),
        ("vllm_venv", "VLLM_DP_MASTER_IP", "over loopback"),
        ("vllm_venv", "VLLM_API_KEY", "the API key belongs in vllm_venv_api_key"),
        ("vllm_venv", "VLLM_SERVER_DEV_MODE", "endpoints that run code for anyone"),
        ("vllm_venv", "VLLM_HOST_IP", "over loopback"),
        ("vllm_venv", "GLOO_SOCKET_IFNAME", "over loopback"),
        ("sglang", "SGLANG_API_KEY", "the API key belongs in sglang_api_key"),
        ("sglang", "NCCL_SOCKET_IFNAME", "over loopback"),
        ("ollama", "OLLAMA_HOST", "set ollama_host and ollama_port"),
        ("ollama", "OLLAMA_ORIGINS", "set ollama_origins"),
    ],
)
def test_an_environment_variable_is_refused_by_name(role, name, said):
    (line,) = environment_problems(role, ["OMP_NUM_THREADS", name])
    assert line.startswith(f"{role}_environment: {name}: ") and said in line


def test_an_engine_over_several_hosts_names_its_network():
    assert environment_problems("sglang", ["NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"], several_hosts=True) == []
    assert environment_problems("sglang", ["SGLANG_API_KEY"], several_hosts=True) != []


@pytest.mark.parametrize("role", ["vllm_venv", "sglang"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "gpu1.example.org"])
def test_an_engine_that_answers_without_its_key_is_exposed_never(role, host):
    problem = address_problem(role, host, True, True)
    assert f"{role}_host is {host}, which others can reach" in problem.msg
    assert "without its API key" in problem.msg and "gateway" in problem.hint
    assert problem.kind == "usage"


def test_llama_cpp_needs_a_key_and_tls_beyond_loopback():
    assert address_problem("llama_cpp", "0.0.0.0", True, True) is None
    assert "TLS is not set" in address_problem("llama_cpp", "0.0.0.0", True, False).msg
    assert "an API key is not set" in address_problem("llama_cpp", "::", False, True).msg.replace("An", "an")


@pytest.mark.parametrize("role", list(GUARDS))
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_nothing(role, host):
    assert address_problem(role, host, False, False) is None


def test_what_is_no_address_is_said_to_be_none():
    assert "neither an address nor a host name" in address_problem("vllm_venv", "foo_bar", False, False).msg


def test_all_is_said_at_once():
    wanted = {"extra_args": ["--host", "::"], "environment": {"VLLM_API_KEY": "x"}, "several_hosts": False}
    assert len(problems("vllm_venv", wanted)) == 2


def test_the_flag_of_a_word():
    words = ["--a_b=c", "--a.b=c", "--a", "-x=1", "-x", "word", "-1"]
    assert [flag_of_word(word) for word in words] == ["--a-b", "--a", "--a", "-x", "-x", "word", "-1"]
