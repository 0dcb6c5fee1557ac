"""The deployed llama.cpp, whatever runs it."""

import json
import time

SERVICE = "dsdeploy-llama-cpp"
KEY = 'key-for-tests-100%-"quoted"'
CHAT = json.dumps({"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8})
ASK = (
    "import json, sys, urllib.request\n"
    "request = urllib.request.Request('http://127.0.0.1:8080/v1/chat/completions', data=sys.argv[1].encode(),\n"
    "    headers={'Content-Type': 'application/json', 'Authorization': 'Bearer ' + sys.argv[2]})\n"
    "try:\n"
    "    print(json.load(urllib.request.urlopen(request, timeout=60))['choices'][0]['message']['content'])\n"
    "except urllib.error.HTTPError as error:\n"
    "    print(error.code)\n"
)


def is_systemd(host):
    return host.backend.get_hostname().endswith("systemd")


def pid_of(host):
    if is_systemd(host):
        return int(host.check_output("systemctl show -p MainPID --value %s", SERVICE))
    control = "sudo /opt/dsdeploy/supervisor/bin/supervisorctl -c /etc/dsdeploy/supervisor/supervisord.conf pid %s"
    return int(host.check_output(control, SERVICE))


def ask(host, key=KEY):
    return host.check_output("python3 -c %s %s %s", ASK, CHAT, key).strip()


def answers_within(host, seconds):
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask(host)
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
