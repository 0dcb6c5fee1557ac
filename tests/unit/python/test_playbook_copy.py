"""What Ansible copies again and again: texts and their origins are shared, what holds them is not."""

from __future__ import annotations

import copy
import multiprocessing
from typing import Any

import pytest

from dsdeploy import playbook


def work(out: Any) -> None:
    from ansible._internal._datatag._tags import Origin, TrustedAsTemplate

    def tagged(value: Any) -> Any:
        return TrustedAsTemplate().tag(Origin(path="/a", line_num=3).tag(value))

    playbook.copy_less()
    read = tagged({"one": tagged("{{ a }}"), "two": tagged([tagged("text"), tagged(1), tagged(1.5), True])})
    copied = copy.deepcopy(read)
    said = [copied == read, copied is not read, copied["two"] is not read["two"], copied["one"] is read["one"]]
    said += [Origin.get_tag(part) == Origin.get_tag(read) for part in (copied, copied["two"], copied["two"][1])]
    said += [TrustedAsTemplate.is_tagged_on(copied["one"]), type(copied) is type(read)]
    copied["two"].append(2)
    copied["three"] = 3
    said.append(len(read["two"]) == 4 and "three" not in read)
    out.send(said)


def test_texts_are_shared_and_lists_are_not() -> None:
    pytest.importorskip("ansible._internal._datatag._tags")
    there, here = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=work, args=(here,))
    process.start()
    here.close()
    assert there.recv() == [True] * 10
    process.join()
