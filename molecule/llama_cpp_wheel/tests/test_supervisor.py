"""What only the host with supervisor has to show, last of all: it is purged."""

from _llama_cpp import SERVICE, deploy

testinfra_hosts = ["ssh://llama-cpp-wheel-supervisor"]


def test_supervisor_goes_with_its_last_program(host):
    assert host.process.filter(comm="supervisord")
    assert "changed=0" not in deploy(host, "--check", "-e", "dsdeploy_purge=true", playbook="down")
    assert host.process.filter(comm="supervisord")
    assert "changed=0" not in deploy(host, "-e", "dsdeploy_purge=true", playbook="down")
    assert not host.process.filter(comm="supervisord")
    assert not host.process.filter(user=SERVICE)
    with host.sudo():
        assert not host.file("/opt/dsdeploy/supervisor").exists
        assert not host.file("/etc/dsdeploy/supervisor").exists
    assert "changed=0" in deploy(host, "-e", "dsdeploy_purge=true", playbook="down")
