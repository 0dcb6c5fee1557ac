"""llama.cpp, compiled on one host and carried to the other."""

import hashlib
import os
from pathlib import Path

import testinfra

SERVER = "bash -lc 'command -v llama-server'"


def said(host, command):
    """What a program says in a login shell, on stdout and stderr."""
    result = host.run("bash -lc %s", command)
    assert result.rc == 0
    return result.stdout + result.stderr


def builder_and_other():
    config = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "ssh_config"
    names = ("llama-cpp-source-one", "llama-cpp-source-two")
    return [testinfra.get_host(f"ssh://{name}?ssh_config={config}") for name in names]


def test_it_serves(host):
    service = host.service("dsdeploy-llama-cpp")
    assert service.is_running
    assert service.is_enabled
    assert host.process.get(user="dsdeploy-llama-cpp").comm == "llama-server"
    assert host.socket("tcp://127.0.0.1:8080").is_listening


def test_its_version_is_the_source_s(host):
    assert "(build 11434, " in said(host, "llama-server --version")
    assert '"version": "11434"' in host.file("/etc/dsdeploy/deployments/llama_cpp.json").content_string


def test_the_other_programs_came_with_it(host):
    model = host.check_output("sudo find /var/lib/dsdeploy/models -name '*.gguf'")
    split = f"llama-gguf-split --split --split-max-size 50M {model} /tmp/part"
    assert "gguf_split: 2 gguf split written" in said(host, split)
    host.check_output("rm /tmp/part-00001-of-00002.gguf /tmp/part-00002-of-00002.gguf")
    assert "(build 11434, " in said(host, "llama-cli --version")
    assert "build: unknown (11434)" in said(host, f"llama-bench -m {model} -t 1 -p 8 -n 8 -r 1")


def test_nothing_is_left_but_the_programs(host):
    prefix = Path(host.check_output(SERVER)).parents[1]
    assert host.file(str(prefix.parent)).listdir() == [prefix.name]
    programs = ["llama-bench", "llama-cli", "llama-gguf-split", "llama-server"]
    assert sorted(host.file(str(prefix / "bin")).listdir()) == programs


def test_it_was_compiled_once():
    builder, other = builder_and_other()
    assert builder.package("g++").is_installed
    assert not other.package("g++").is_installed
    assert not other.package("cmake").is_installed
    server = builder.check_output(SERVER)
    assert other.check_output(SERVER) == server
    assert builder.file(server).sha256sum == other.file(server).sha256sum


def test_it_is_kept_on_the_controller():
    cache = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "cache" / "builds"
    archive, checksum = sorted(cache.iterdir())
    assert checksum.read_text() == f"{hashlib.sha256(archive.read_bytes()).hexdigest()}  {archive.name}\n"
