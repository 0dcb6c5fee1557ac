"""A key is taken away while a connection of its owner is open: under supervisor; test_streams does it under systemd."""

from _gateway import address, bearer, connected, key_command, raw, request, status

testinfra_hosts = ["ssh://gateway-supervisor"]


def test_a_revoked_key_is_refused_on_a_connection_that_is_open(host, key):
    where = address(host)
    done = key_command(host, "add", "leaver", "--replace")
    assert done.returncode == 0, done.stderr
    leaver = done.stdout.strip()
    question = request("GET", "/v1/models", bearer(leaver)).replace(b"Connection: close\r\n", b"")
    with connected(where) as channel:
        # An idle connection is closed after a minute.
        channel.sendall(question)
        assert channel.recv(65536).startswith(b"HTTP/1.1 200")
        done = key_command(host, "revoke", "leaver")
        assert done.returncode == 0, done.stderr
        try:
            channel.sendall(question)
            assert not channel.recv(65536).startswith(b"HTTP/1.1 200")
        except OSError:
            pass
    assert status(raw(where, request("GET", "/v1/models", bearer(leaver)))) == 401
    assert status(raw(where, request("GET", "/v1/models", bearer(key)))) == 200
    again = key_command(host, "revoke", "leaver")
    assert again.returncode == 2, again.stderr
