"""What listens on a host for a deployed engine: every TCP and UDP socket of its user, by the kernel's own tables."""

import json

from _play import CHECKOUT

_SOCKETS = (CHECKOUT / "plugins/module_utils/host/sockets.py").read_text(encoding="utf-8")
# The user of a service is its own: what is listening for it is the service's, whichever of its processes holds it.
_FIND = """
import json, pwd
uid = pwd.getpwnam(sys.argv[1]).pw_uid
print(json.dumps([[found.protocol, found.address, found.port] for found in listeners(read()) if found.uid == uid]))
"""


def record(host, engine):
    return json.loads(host.file(f"/etc/dsdeploy/deployments/{engine}.json").content_string)


def listening(host, user):
    """`[protocol, address, port]` of each socket that listens for a user."""
    return json.loads(host.check_output("python3 -c %s %s", _SOCKETS + _FIND, user))


def nothing_listens_by_surprise(host, engine, alone=False):
    """The endpoint of the record does, and besides it nothing that others can reach; `alone`: nothing at all."""
    deployed = record(host, engine)
    address, _colon, port = deployed["endpoint"].partition("://")[2].rpartition(":")
    endpoint = [address.strip("[]"), int(port)]
    found = listening(host, deployed["user"])
    assert endpoint in [socket[1:] for socket in found], found
    beyond = [socket for socket in found if not (socket[1].startswith("127.") or socket[1] == "::1")]
    assert beyond == [], found
    if alone:
        assert [socket[1:] for socket in found] == [endpoint], found
