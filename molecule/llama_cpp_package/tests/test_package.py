"""llama.cpp as the distribution packages it."""

from _play import changes


def test_the_package_serves(host):
    assert host.package("llama.cpp-tools").is_installed
    service = host.service("dsdeploy-llama-cpp")
    assert service.is_running
    assert service.is_enabled
    assert host.process.get(user="dsdeploy-llama-cpp").comm == "llama-server"
    assert host.socket("tcp://127.0.0.1:8080").is_listening


def test_its_version_is_the_package_s(host):
    record = host.file("/etc/dsdeploy/deployments/llama_cpp.json").content_string
    assert f'"version": "{host.package("llama.cpp-tools").version}' in record


def test_gguf_split_came_with_it(host):
    assert host.exists("llama-gguf-split")


def test_preparing_and_deploying_are_one_run(host):
    """Each takes the host's lock and gives it back; without a GPU there is nothing to prepare."""
    assert changes(host, dsdeploy_prepare_host=True) == 0
    assert not host.file("/run/dsdeploy.lock").exists
