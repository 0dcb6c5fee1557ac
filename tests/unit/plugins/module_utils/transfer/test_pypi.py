# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer import pypi
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.http_client import HttpError

FILES = {
    "/etc/pip.conf": "[global]\nindex-url = https://etc.example/simple\ncert = /etc/ca.pem\n",
    "/home/u/.config/pip/pip.conf": "[global]\nindex-url = https://user.example/simple\n",
}


def config(environ):
    return pypi.pip_config(dict({"HOME": "/home/u"}, **environ), FILES.get)


def test_pip_config_precedence():
    assert config({}) == {"index-url": "https://user.example/simple", "cert": "/etc/ca.pem"}
    assert config({"PIP_INDEX_URL": "https://env.example/simple"})["index-url"] == "https://env.example/simple"
    assert config({"PIP_CONFIG_FILE": "/dev/null"}) == {}


def test_index_order():
    assert pypi.index_urls("https://m/simple", config({}), "https://default/simple") == ["https://m/simple"]
    assert pypi.index_urls("", {}, "https://default/simple") == ["https://default/simple"]
    extra = {"index-url": "https://a/simple", "extra-index-url": "file:///x https://b/simple"}
    assert pypi.index_urls("", extra, "https://default/simple") == ["https://a/simple", "https://b/simple"]


HTML = b"""<html><body><a href="../../packages/a-1.0.tar.gz#sha256=1">s</a>
<a href="../../packages/a_b-1.0%2Bx.whl#sha256=2">w</a>"""
JSON = b'{"files": [{"url": "https://files.example/a_b-1.0%2Bx.whl"}]}'


def test_file_url_html_and_json():
    base = "https://i.example/simple/a-b/"
    assert pypi.file_url(HTML, "text/html", base, "a_b-1.0+x.whl") == "https://i.example/packages/a_b-1.0%2Bx.whl"
    json_type = "application/vnd.pypi.simple.v1+json"
    assert pypi.file_url(JSON, json_type, base, "a_b-1.0+x.whl") == "https://files.example/a_b-1.0%2Bx.whl"
    assert pypi.file_url(HTML, "text/html", base, "a_b-2.0.whl") is None


class Client:
    def __init__(self, pages):
        self.pages, self.seen = pages, []

    def read(self, url, headers):
        self.seen.append((url, headers.get("Authorization")))
        if url not in self.pages:
            raise HttpError(f"{url} answered 404", 404)
        return self.pages[url], {"Content-Type": "text/html"}, url


def test_next_index_is_tried_and_secret_stays_with_its_index():
    client = Client({"https://b/simple/a-b/": b'<a href="https://files.example/a_b-1.0.whl">x</a>'})
    url, headers = pypi.find_file(client, ["https://u:p@a/simple", "https://b/simple"], "A_B", "a_b-1.0.whl")
    assert (url, headers) == ("https://files.example/a_b-1.0.whl", {})
    assert client.seen == [("https://a/simple/a-b/", "Basic dTpw"), ("https://b/simple/a-b/", None)]


def test_no_index_has_it_names_each_and_no_secret():
    with pytest.raises(HttpError) as error:
        pypi.find_file(Client({}), ["https://u:p@a/simple"], "A_B", "a_b-1.0.whl")
    assert "https://a/simple/a-b/ answered 404" in str(error.value)
    assert "u:p" not in str(error.value)


@pytest.mark.parametrize(
    ("answers", "config", "problem"),
    [
        ({"https://a/simple/a-b/": 200}, {}, None),
        ({"https://a/simple/a-b/": 404}, {}, None),  # it answers; the package may be in another one
        ({"https://b/simple/a-b/": 200}, {"extra-index-url": "https://b/simple"}, None),
        ({"https://more/simple/a-b/": 200}, {}, None),
        ({}, {"find-links": "/wheels"}, None),
        ({}, {}, "https://a/simple/a-b/ broke; https://more/simple/a-b/ broke"),
        ({"https://a/simple/a-b/": 403, "https://more/simple/a-b/": 503}, {}, "403; https://more/simple/a-b/ 503"),
    ],
)
def test_an_index_that_answers_is_found_before_anything_is_installed(answers, config, problem, monkeypatch):
    class Client:
        def __init__(self, *_arguments, **_more):
            pass

        def read(self, url, _headers):
            status = answers.get(url)
            if status != 200:
                raise HttpError(f"{url} {status or 'broke'}", status)

    monkeypatch.setattr(pypi.http_client, "Client", Client)
    ask = lambda: pypi.require_answer(config, "A_b", "", "https://a/simple", ["https://more/simple"])  # noqa: E731
    if problem is None:
        return ask()
    with pytest.raises(HttpError, match="no package index answers for A_b") as found:
        ask()
    assert problem in str(found.value) and found.value.hint
