# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What hubs and mirrors answer, real ones and every kind of wrong: a list of files, or one line."""

import copy
import email.message
import json
import re
import tracemalloc
from pathlib import Path
from urllib.parse import urlsplit

import mutations
import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import catalog, hubs
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer import pypi
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.download import Remote
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.http_client import HttpError

CASES = Path(__file__).resolve().parents[3] / "fixtures" / "foreign" / "hub"
MIRROR = "https://hf-mirror.com"
COMMIT = "83ee97c66e841048bedc5c02c15ce2f3ed259feb"
INFO = {"_id": "1", "id": "o/m", "sha": COMMIT, "siblings": [{"rfilename": "config.json"}], "tags": None}
TREE = [
    {"type": "directory", "oid": "1" * 40, "size": 0, "path": "q4"},
    {"type": "file", "oid": "2" * 40, "size": 22, "path": "config.json"},
    {
        "type": "file", "oid": "3" * 40, "size": 86, "path": "q4/m.gguf",
        "lfs": {"oid": "a" * 64, "size": 86, "pointerSize": 134}, "xetHash": "b" * 64,
    },
]  # fmt: skip
MODELSCOPE = json.loads((CASES / "modelscope-short-id.json").read_text())
BATCH = {
    "transfer": "basic",
    "objects": [
        {"oid": "a" * 64, "size": 86, "actions": {"download": {"href": "https://x/1", "header": {"X-A": "B x"}}}}
    ],
}  # fmt: skip
INDEX = {
    "meta": {"api-version": "1.0"},
    "name": "a-b",
    "files": [{"filename": "a.whl", "url": "https://files.example/a.whl", "hashes": {"sha256": "a" * 64}}],
}


class Client:
    """Answers from a list, in order, the last one for ever: (body, headers)."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def read(self, url, headers=None, limit=0, body=None):
        self.asked.append(url)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        body, more = answer if isinstance(answer, tuple) else (answer, {})
        head = email.message.Message()
        for key, value in more.items():
            head[key] = value
        return body if isinstance(body, bytes) else json.dumps(body).encode(), head, url


def huggingface(*answers, revision="main", **more):
    return hubs.huggingface(Client(*answers), MIRROR, {"id": "o/m", "revision": revision}, None, None, **more)


def modelscope(answer, revision="master"):
    return hubs.modelscope(Client(answer), "https://ms", {"id": "o/m", "revision": revision}, None, None)


def batch(answer):
    return hubs._batch(Client(answer), "https://git/o/m", {"q4/m.gguf": ("a" * 64, 86)}, None)


def lfs(**more):
    return {"objects": [dict(more, oid="a" * 64)]}


def case(name):
    return json.loads((CASES / name).read_text())


def test_a_committer_that_is_null_says_nothing_of_the_commit():
    files, commit = modelscope(case("modelscope-committer-null.json"))
    assert ([remote.path for remote in files], commit) == (["config.json", "model.safetensors"], "master")


def test_a_commit_that_has_only_its_short_id_is_found_among_the_files():
    assert modelscope(case("modelscope-short-id.json"))[1] == COMMIT


@pytest.mark.parametrize(
    "committer", [{}, {"Id": None}, {"Id": "", "ShortId": ""}, {"ShortId": "8"}, {"ShortId": "zz"}]
)
def test_a_committer_that_says_nothing_is_no_error(committer):
    answer = case("modelscope-short-id.json")
    answer["Data"]["Files"][0]["Revision"] = "8" + "0" * 39
    answer["Data"]["Files"][1]["Revision"] = "8" + "1" * 39
    answer["Data"]["LatestCommitter"] = committer
    assert modelscope(answer)[1] == "master"


@pytest.mark.parametrize("files", [None, "gone"])
def test_a_revision_that_the_hub_does_not_have(files):
    answer = case("modelscope-unknown-revision.json")
    if files == "gone":
        del answer["Data"]["Files"]
    with pytest.raises(HttpError, match="no such revision: nope") as caught:
        modelscope(answer, revision="nope")
    assert "revision" in caught.value.hint and "network" not in caught.value.hint


def test_the_next_page_of_a_mirror_is_asked_at_the_mirror():
    text = (CASES / "mirror-next-page-at-huggingface.http").read_text()
    link = re.search("(?im)^link: (.*)$", text).group(1)
    client = Client(INFO, (TREE, {"Link": link}), [dict(TREE[1], path="second.json")])
    files, _commit = hubs.huggingface(client, MIRROR, {"id": "o/m"}, None, None)
    assert [remote.path for remote in files] == ["config.json", "q4/m.gguf", "second.json"]
    assert {urlsplit(url).netloc for url in client.asked} == {"hf-mirror.com"}
    assert "cursor=ZXlK%3D" in client.asked[2] and f"/tree/{COMMIT}?" in client.asked[2]


@pytest.mark.parametrize(
    ("link", "query"),
    [
        ('<https://other/api/models/x/y/tree/main?cursor=2>; rel="next"', "cursor=2"),
        ("<?cursor=2>; rel=next", "cursor=2"),
        ('</p>; rel="prev", <https://h/api?cursor=3>; rel="next"', "cursor=3"),
        ('<https://h/api?cursor=4>; REL="Next"', "cursor=4"),
        ('<https://h/api?cursor=5>; title="a, b"; rel="next"', "cursor=5"),
        ('<https://h/api?cursor=6>; rel="last next"', "cursor=6"),
        ('<https://h/style.css>; rel=preload; as=style, <https://h/api?cursor=7>; rel="next"', "cursor=7"),
        ('<https://h/api?cursor=8>; rel="nextish"', ""),
        ('<https://h/api?cursor=8>; rel="prev"', ""),
        ("nonsense", ""),
        (None, ""),
        ('<https://h/?a=\u00e9\x01b>; rel="next"', "a=%C3%A9%01b"),
    ],
)
def test_next_page_links(link, query):
    assert hubs._next_page(link, "x") == query


@pytest.mark.parametrize("link", ['<https://[::1?cursor=2>; rel="next"', '<https://h/api>; rel="next"'])
def test_a_listing_whose_next_page_cannot_be_found_is_not_taken_for_all(link):
    with pytest.raises(Failure, match="where its list of files goes on cannot be read"):
        huggingface(INFO, (TREE, {"Link": link}))


def test_a_next_page_beside_links_of_its_own_headers():
    """A network in front of the hub sends a header Link of its own."""

    class Twice(Client):
        def read(self, *arguments, **more):
            body, head, url = super().read(*arguments, **more)
            if "Link" in head:
                head["Link"] = '<https://h/api?cursor=2>; rel="next"'
            return body, head, url

    client = Twice(INFO, (TREE, {"Link": "<https://cdn/font>; rel=preload"}), [dict(TREE[1], path="second.json")])
    files, _commit = hubs.huggingface(client, MIRROR, {"id": "o/m"}, None, None)
    assert [remote.path for remote in files] == ["config.json", "q4/m.gguf", "second.json"]


def test_pages_without_end_are_refused():
    def page(number):
        items = [dict(TREE[1], path=f"{number}-{item}.json") for item in range(3)]
        return items, {"Link": f'<https://x/?cursor={number}>; rel="next"'}

    with pytest.raises(Failure, match="does not end"):
        huggingface(INFO, page(1), page(1))
    with pytest.raises(Failure, match=r"does not end \(100 pages\)"):
        huggingface(INFO, *[page(number) for number in range(537)])
    many = [dict(TREE[1], path=f"{number}.json") for number in range(20001)]
    with pytest.raises(Failure, match="lists more than 20000 files"):
        huggingface(INFO, many)


@pytest.mark.parametrize("told", ["b" * 40, None, "main"])
def test_another_commit_than_the_one_that_was_asked_for_is_refused(told):
    with pytest.raises(Failure, match=f"asked for commit {COMMIT}, it answers {told or 'none'}") as caught:
        huggingface(dict(INFO, sha=told), TREE, revision=COMMIT)
    assert "use another mirror" in caught.value.hint
    assert huggingface(INFO, TREE, revision=COMMIT)[1] == COMMIT


def test_a_commit_in_capitals_is_one():
    assert huggingface(INFO, TREE, revision=COMMIT.upper())[1] == COMMIT
    with pytest.raises(Failure, match="asked for commit 83EE97"):
        huggingface(dict(INFO, sha="b" * 40), TREE, revision=COMMIT.upper())


def test_another_commit_is_refused_from_modelscope_and_git():
    with pytest.raises(Failure, match="asked for commit b"):
        modelscope(case("modelscope-short-id.json"), revision="b" * 40)
    with pytest.raises(Failure, match="asked for commit b"):
        hubs._same_commit("git", "b" * 40, COMMIT)
    hubs._same_commit("git", "main", COMMIT)  # a branch moves


BAD_NAMES = [
    "../x", "/etc/x", "a/../b", "a//b", "./a", ".", "a\\b", "a\nb", "a\x1b[2Jb", "a\u202eb", "\ud800", "",
    ".dsdeploy-manifest.json", ".dsdeploy-merging", "q4/.dsdeploy-partial/x", ".DSDEPLOY-x", ".dsdeploy-clone/x",
    "m.gguf.journal", "q4/m.done", "m.done.new", "x" * 201, "杚" * 80, "/".join(["d" * 100] * 11),
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_names_that_a_file_of_a_model_cannot_have(name):
    answer = copy.deepcopy(MODELSCOPE)
    answer["Data"]["Files"][0]["Path"] = name
    for call, argument in (
        (huggingface, (INFO, [dict(TREE[1], path=name)])),
        (modelscope, (answer,)),
    ):
        with pytest.raises(Failure) as caught:
            call(*argument)
        mutations.assert_one_line(caught.value)
        assert "lists a file" in str(caught.value)
    assert not catalog.is_safe_path(name)


@pytest.mark.parametrize("name", ["m-00001-of-00002.gguf", "q4/m.gguf", "模型 1.gguf", "x" * 200, "a..b", "done", ".x"])
def test_names_that_a_file_of_a_model_can_have(name):
    assert catalog.path_problem(name) is None


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["a", "a"], "'a' is there twice"),
        (["Model.gguf", "model.gguf"], "would be one file"),
        (["\u00e9.gguf", "e\u0301.gguf"], "would be one file"),
        (["a", "a/b"], "'a' is a file, and the directory of 'a/b'"),
        (["A/b", "a"], "'a' is a file, and the directory of 'A/b'"),
    ],
)
def test_files_that_cannot_lie_in_one_directory(paths, words):
    with pytest.raises(Failure, match=re.escape(words)):
        huggingface(INFO, [dict(TREE[1], path=path) for path in paths])


@pytest.mark.parametrize(
    ("call", "answers", "line"),
    [
        (huggingface, ([],), "a mapping expected, found a list of 0"),
        (huggingface, (5,), "a mapping expected, found 5"),
        (huggingface, (INFO, {"error": "x"}), "a list expected, found a mapping with 'error'"),
        (huggingface, (INFO, [5]), "[0]: a mapping expected, found 5"),
        (huggingface, (INFO, [dict(TREE[1], path=5)]), "[0].path: a text expected, found 5"),
        (huggingface, (INFO, [dict(TREE[1], size=-1)]), "[0].size: a whole number from 0 to"),
        (huggingface, (INFO, [dict(TREE[1], size="22")]), "[0].size: a whole number expected, found '22'"),
        (huggingface, (INFO, [dict(TREE[1], size=True)]), "[0].size: a whole number expected, found True"),
        (huggingface, (INFO, [dict(TREE[1], type=None)]), "[0].type: a text expected, found nothing"),
        (huggingface, (INFO, [dict(TREE[1], size=None)]), "[0].size: a whole number expected, found nothing"),
        (huggingface, (INFO, [dict(TREE[2], lfs={"size": 1})]), "[0].lfs.oid: a text expected, found nothing"),
        (huggingface, (INFO, [dict(TREE[2], lfs=["x"])]), "[0].lfs: a mapping expected, found a list of 1"),
        (huggingface, (INFO, [dict(TREE[2], lfs={"oid": "../x", "size": 1})]), "[0].lfs.oid: a text like"),
        (huggingface, (dict(INFO, sha="../../x"),), "sha: a text like"),
        (huggingface, (b"<html>sign in</html>",), "not JSON: it starts with '<html>sign in</html>'"),
        (modelscope, ([],), "a mapping expected"),
        (modelscope, ({"Data": []},), "Data: a mapping expected, found a list of 0"),
        (modelscope, ({"Message": "no\x1b[2Jsuch", "Success": False},), "/o/m/repo/files: no [2Jsuch"),
        (modelscope, ({"Success": True},), "no file list"),
        (modelscope, ({"success": False, "message": "not there"},), "/o/m/repo/files: not there"),
        (modelscope, ({"Data": {"Files": {}}},), "Data.Files: a list expected, found a mapping with no keys"),
        (modelscope, ({"Data": {"Files": [{"Path": "a", "Size": 1, "Sha256": 5}]}},), "Sha256: a text expected"),
        (modelscope, ({"Data": {"Files": [{"Path": "a", "Size": 1, "Sha256": "z"}]}},), "Sha256: a text like"),
        (batch, ([],), "objects"),
        (batch, ({"objects": []},), "gives no address for q4/m.gguf"),
        (batch, (lfs(error={"message": "gone"}),), "object aaaaaaaaaaaa: gone"),
        (batch, (lfs(error="gone"),), "object aaaaaaaaaaaa: gone"),
        (batch, (lfs(),), "actions.download: a mapping expected, found nothing"),
        (batch, (lfs(actions={"download": {"href": "file:///etc/passwd"}}),), "no address"),
        (batch, (lfs(actions={"download": {"href": "http://x/1"}}),), "no address"),
        (batch, (lfs(actions={"download": {"href": "https://[::1"}}),), "no address"),
        (batch, (lfs(actions={"download": {"href": "https://x/1", "header": {"A": "b\r\nC: d"}}}),), "header.A"),
    ],
)  # fmt: skip
def test_a_wrong_shape_is_one_line(call, answers, line):
    with pytest.raises(Failure) as caught:
        call(*answers)
    mutations.assert_one_line(caught.value)
    assert line in str(caught.value)


def is_listing(found):
    files, commit = found
    assert isinstance(commit, str)
    for remote in files:
        assert isinstance(remote, Remote)
        assert catalog.path_problem(remote.path) is None
        assert type(remote.size) is int and 0 <= remote.size <= hubs.MOST_SIZE
        assert remote.sha256 is None or re.fullmatch("[0-9a-f]{64}", remote.sha256)
        assert remote.git_sha1 is None or re.fullmatch("[0-9a-f]{40}", remote.git_sha1)
        assert remote.url.isprintable() and remote.url.isascii()


READERS = {
    "huggingface-info": (INFO, lambda text: is_listing(huggingface(text, TREE))),
    "huggingface-tree": (TREE, lambda text: is_listing(huggingface(INFO, text))),
    "modelscope": (MODELSCOPE, lambda text: is_listing(modelscope(text))),
    "lfs-batch": (BATCH, lambda text: is_listing((batch(text), ""))),
    "pypi": (INDEX, lambda text: pypi.file_url(text, "application/json", "https://i/simple/a-b/", "a.whl")),
}


@pytest.mark.parametrize("name", READERS)
def test_any_damage_gives_a_listing_or_one_line(name):
    value, read = READERS[name]
    tracemalloc.start()
    good = 0
    for text in mutations.mutations(value, name):
        try:
            read(text)
            good += 1
        except Failure as error:
            mutations.assert_one_line(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0 < good < mutations.COUNT
    assert peak < 32 * 1024 * 1024
