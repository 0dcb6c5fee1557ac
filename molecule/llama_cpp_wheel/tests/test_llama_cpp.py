"""What both hosts must show, one under systemd and one under supervisor."""

from _llama_cpp import KEY, SERVICE, answers_within, ask, pid_of
from _sockets import nothing_listens_by_surprise


def test_it_answers_on_loopback_only(host):
    assert ask(host)
    nothing_listens_by_surprise(host, "llama_cpp", alone=True)


def test_a_web_page_of_another_origin_may_not_ask_it(host):
    code = (
        "import urllib.request\n"
        "request = urllib.request.Request('http://127.0.0.1:8080/health', headers={'Origin': 'https://evil.example'})\n"
        "print(urllib.request.urlopen(request, timeout=60).headers.get('Access-Control-Allow-Origin'))\n"
    )
    assert host.check_output("python3 -c %s", code) == "http://localhost"


def test_it_asks_for_the_key(host):
    assert ask(host, "wrong") == "401"


def test_the_key_is_in_no_readable_place(host):
    assert KEY not in host.check_output("ps -eo args")
    with host.sudo():
        for name in ("dsdeploy-llama-cpp.env", "keys/dsdeploy-llama-cpp"):
            found = host.file(f"/etc/dsdeploy/{name}")
            assert (found.mode, found.user in ("root", SERVICE)) == (0o600, True)
            assert KEY in found.content_string.replace("\\", "")
        assert KEY not in host.file("/etc/dsdeploy/deployments/llama_cpp.json").content_string


def test_the_record_tells_how_long_an_answer_may_be(host):
    assert '"answer_max_tokens": 32' in host.file("/etc/dsdeploy/deployments/llama_cpp.json").content_string


def test_it_has_a_user_of_its_own(host):
    owner = host.check_output("stat -c %%U /proc/%s", str(pid_of(host)))
    assert owner == SERVICE
    assert host.user(SERVICE).shell == "/usr/sbin/nologin"


def test_login_shells_find_it(host):
    assert "version: 11549" in host.check_output("bash -lc 'llama-server --version'")


def test_it_comes_back_after_sigkill(host):
    before = pid_of(host)
    with host.sudo():
        host.check_output("kill -9 %s", str(before))
    assert answers_within(host, 30)
    assert pid_of(host) != before
