"""What is refused before anything is done; it is the controller that refuses, so one host is enough."""

import json

from _llama_cpp import pid_of
from _play import play, refusals

testinfra_hosts = ["ssh://llama-cpp-wheel-systemd"]


def test_what_goes_around_the_guards_is_refused(host):
    before = pid_of(host)
    said = refusals(
        host,
        "deepseek_r1",
        {
            "words": {
                "llama_cpp_extra_args": ["--host", "0.0.0.0"],
                "llama_cpp_environment": {"LLAMA_ARG_PORT": "9"},
            },
            "tls": {"llama_cpp_ssl_certfile": "/etc/hosts", "llama_cpp_ssl_keyfile": "/etc/hosts"},
        },
    )
    assert "llama_cpp_extra_args: --host: set llama_cpp_host" in said["words"]
    assert "llama_cpp_environment: LLAMA_ARG_PORT: set llama_cpp_port" in said["words"]
    assert "the llama.cpp wheel is built without TLS" in said["tls"]
    said = play(host, "deepseek_r1", "--tags", "service", "-e", json.dumps({"llama_cpp_host": "0.0.0.0"}), fails=True)
    assert "llama_cpp_host is 0.0.0.0, which others can reach" in said
    assert pid_of(host) == before
