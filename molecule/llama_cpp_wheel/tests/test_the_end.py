"""The last, of both hosts: purged, there is nothing of dsdeploy left but the model."""

from _llama_cpp import KEY, SERVICE, deploy
from _play import leftovers

PURGE = ("-e", "dsdeploy_purge=true")


def test_nothing_is_left_but_the_model(host):
    deploy(host)
    before = leftovers(host)
    assert "/opt/dsdeploy" in before and "/etc/dsdeploy" in before
    assert "changed=0" not in deploy(host, "--check", *PURGE, playbook="down")
    assert leftovers(host) == before
    deploy(host, *PURGE, playbook="down")
    assert leftovers(host) == ["/var/lib/dsdeploy"]
    assert host.check_output("sudo ls -A /var/lib/dsdeploy") == "models"
    assert host.check_output("sudo find /var/lib/dsdeploy/models -name '*.gguf'")
    assert not host.user(SERVICE).exists
    # The backups of passwd and group tell of the user that was.
    assert host.run("sudo grep -rsl --exclude='*-' -e dsdeploy -e %s /etc /usr/local /root", KEY).stdout == ""
    assert "changed=0" in deploy(host, *PURGE, playbook="down")


def test_the_model_goes_too_when_it_is_named(host):
    deploy(host, "-e", '{"dsdeploy_purge_models": ["smollm2-135m-instruct"]}', *PURGE, playbook="down")
    assert leftovers(host) == []
