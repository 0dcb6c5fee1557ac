"""A deployed Ollama."""

import json

SERVICE = "dsdeploy-ollama"
MODEL = "smollm2-135m-instruct"
CALL = (
    "import sys, urllib.request\n"
    "method, path, body = sys.argv[1:]\n"
    "request = urllib.request.Request('http://127.0.0.1:11434' + path, body.encode() or None, method=method)\n"
    "print(urllib.request.urlopen(request, timeout=60).read().decode())\n"
)


def call(host, method, path, payload=None):
    """What Ollama answers."""
    body = json.dumps(payload) if payload else ""
    said = host.check_output("python3 -c %s %s %s %s", CALL, method, path, body)
    return json.loads(said) if said.strip() else None


def show(host, model=MODEL):
    return call(host, "POST", "/api/show", {"model": model})


def loaded(host):
    """What /api/ps says of the one model."""
    (entry,) = call(host, "GET", "/api/ps")["models"]
    return entry


def pid_of(host, service=SERVICE):
    if host.backend.get_hostname().endswith("supervisor"):
        control = "sudo /opt/dsdeploy/supervisor/bin/supervisorctl -c /etc/dsdeploy/supervisor/supervisord.conf pid %s"
        return int(host.check_output(control, service))
    return int(host.check_output("systemctl show -p MainPID --value %s", service))
