"""Last of all: a gang that is taken down is down on all of its hosts."""

from _play import hosts, play


def test_down_stops_all_of_it():
    said = play(hosts()["gang-2"], "down")
    assert "it is one gang on gang-1, gang-2: gang-1 will stop, and wait for its other hosts" in " ".join(said.split())
    said = play(None, "down")
    assert "will stop, and wait" not in said
    for host in hosts().values():
        assert host.check_output("systemctl show -p ActiveState --value dsdeploy-vllm") == "inactive"
        assert not host.run("pgrep -u dsdeploy-vllm").stdout
