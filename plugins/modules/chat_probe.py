#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: chat_probe
short_description: Wait for a served model and verify that it answers a question
version_added: 1.0.0
author:
  - The dsdeploy developers (@dsdeploy)
description:
  - Waits until the server is healthy, asks one question over its streaming chat API and returns the answer, the
    reasoning apart from it, and how fast it came.
  - Speaks the OpenAI API (vLLM, SGLang, llama.cpp and others) and the API of Ollama.
  - The proxy variables of the environment are not used.
  - A failure says what was wrong in one line, what to do next in RV(hint), and carries the last log lines of
    O(service).
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.progress
  - dsdeploy.llm.supervisor
attributes:
  check_mode:
    support: partial
    details:
      - Nothing is asked or noted in check mode, because nothing may be served yet. RV(verified) is then V(false).
  diff_mode:
    support: N/A
    details:
      - This action does not modify state, but for a note in a deployment record (O(figures_of)).
  idempotent:
    support: full
    details:
      - This action does not modify state.
options:
  url:
    description: Base URL of the server, such as V(http://127.0.0.1:8000). A final V(/v1) is understood and dropped.
    type: str
    required: true
  api:
    description: The API that the server speaks.
    type: str
    choices: [openai, ollama]
    default: openai
  model:
    description: Name of the model to ask. Without it the first that the server lists.
    type: str
  question:
    description: The question.
    type: str
    default: 一个汉字具有左右结构，左边是木，右边是乞。这个字是什么？只需回答这个字即可。
  system:
    description: A system message before the question. DeepSeek advises against one for its R1 models.
    type: str
  max_tokens:
    description: Longest answer in tokens, its reasoning included.
    type: int
    default: 2048
  temperature:
    description: Sampling temperature. Without it the engine's own default.
    type: float
  health_path:
    description: Path that answers 2xx once the model is served. By default V(/health), for Ollama V(/api/version).
    type: str
  health_timeout:
    description:
      - How long to wait for O(health_path), in seconds.
      - With O(service) the time in which it does nothing. As long as it works (its processes take CPU time or read, its
        log grows) it is waited for, at most four times as long or two hours, whichever is longer.
    type: int
    default: 600
  wait:
    description:
      - Whether to wait for the server. Without it one that is not healthy yet is answered with RV(waiting).
      - The action plugin asks so first, because a server that is up needs no job in the background.
    type: bool
    default: true
  reasoning_tags:
    description:
      - How the model marks its thinking, where the engine does not separate it from the answer. The expectation is
        compared with the answer alone.
      - With V(auto) any of these marks counts. V(none) takes the whole text for the answer.
    type: str
    choices:
      [auto, none, harmony, think, magistral, thinking, thought, seed, kimi, kimi_k3, cohere, exaone, gemma, minimax,
       k2, apertus, plamo, reka, inkling, muse, solar, granite]
    default: auto
  metrics_path:
    description:
      - Path of the server's own metrics, in the Prometheus format, such as V(/metrics) of vLLM and SGLang. With it
        RV(tokens_per_s) is what the server measured.
    type: str
  figures_of:
    description:
      - The engine, V(vllm), V(sglang), V(llama_cpp) or V(ollama), whose own figures (bytes of weights, tokens of its
        cache) are read from the log of O(service), or from O(metrics_path), after it has answered, and kept in its
        deployment record. Of one start they are read once.
    type: str
  answer_timeout:
    description:
      - How long the whole answer may take, in seconds. A stream which stalls ends here too.
      - Ollama loads the model when it is first asked, within this time.
    type: int
    default: 300
  expect:
    description: Regular expression (Python) searched in the answer. Without it any answer that is not empty is good.
    type: str
  api_key:
    description: API key, sent as a bearer token.
    type: str
  api_key_file:
    description: File on the target that holds the API key.
    type: path
  ca_path:
    description: File on the target with the certificates of the CAs to trust besides the system's.
    type: path
  validate_certs:
    description: Whether to verify the server's certificate.
    type: bool
    default: true
  service:
    description:
      - The service behind the URL. With it the module does not wait for one that has failed, is stopped or keeps
        dying, does not take another program on the port for it, and returns its log on failure.
    type: dict
    suboptions:
      name:
        description: Name of the systemd unit or of the supervisor program.
        type: str
        required: true
      manager:
        description: What runs the service.
        type: str
        choices: [systemd, supervisor]
        default: systemd
      log:
        description: File that the service writes. For systemd the journal is read when none is given.
        type: path
seealso:
  - module: dsdeploy.llm.service_log
  - module: dsdeploy.llm.deployment_facts
"""

EXAMPLES = r"""
- name: Verify the engine under systemd
  dsdeploy.llm.chat_probe:
    url: http://127.0.0.1:8000
    api_key_file: /etc/dsdeploy/vllm.key
    expect: 杚
    health_timeout: 1800
    service:
      name: dsdeploy-vllm
  register: vllm_probe

- name: Ask Ollama
  dsdeploy.llm.chat_probe:
    url: http://127.0.0.1:11434
    api: ollama
    model: deepseek-r1
    question: Which number comes after 41?
    max_tokens: 512
"""

RETURN = r"""
verified:
  description: Whether a good answer was received.
  returned: always
  type: bool
as_expected:
  description: Whether the answer matches O(expect).
  returned: when a question was answered and O(expect) is given
  type: bool
msg:
  description: The outcome in one line.
  returned: always
  type: str
hint:
  description: What to do next.
  returned: failure
  type: str
error_kind:
  description: V(verify), or V(usage) where an option of the module is wrong.
  returned: failure
  type: str
answer:
  description: The answer without its reasoning. After a failure what had arrived of it.
  returned: when a question was asked
  type: str
  sample: 杚
reasoning:
  description: The reasoning, empty where the model does not reason.
  returned: when a question was asked
  type: str
model:
  description: Name of the model as the server gives it.
  returned: when a question was asked
  type: str
finish_reason:
  description: Why the answer ended, V(stop) or V(length); V(null) for one that was cut.
  returned: when a question was asked
  type: str
usage:
  description: C(prompt_tokens), C(completion_tokens), C(total_tokens); V(null) where the server does not count.
  returned: when a question was asked
  type: dict
waiting:
  description: Whether the server is not healthy yet, and nothing was asked.
  returned: when O(wait=false) and the server is not healthy
  type: bool
health_wait_s:
  description: Seconds until the server was healthy.
  returned: when the server was healthy
  type: float
ready_s:
  description: Seconds from the start of the process of O(service) until the server was healthy.
  returned: when it was seen to become healthy
  type: int
ttft_s:
  description: Seconds from the question to the first token, of the reasoning or the answer.
  returned: when a question was asked
  type: float
tokens_per_s:
  description: Generated tokens per second, V(null) where it cannot be known.
  returned: when a question was asked
  type: float
tokens_per_s_source:
  description:
    - Who measured. V(timings) is llama.cpp, V(eval_duration) is Ollama.
    - V(metrics) is the server at O(metrics_path), the time between two tokens.
    - V(usage) is this module. The tokens that the server counted, less the first, over the time from the first to
      the last.
  returned: when a question was asked
  type: str
measured:
  description:
    - With O(figures_of), what the engine said of its own memory. C(weights) and C(kv) (bytes), C(kv_tokens), C(source),
      C(since), the start that it is of.
    - C(ready_s), the seconds of the last start that was seen.
  returned: when the engine said something
  type: dict
changes:
  description: What was changed, one line each.
  returned: changed
  type: list
  elements: str
service_state:
  description: State of O(service), in the shape that M(dsdeploy.llm.service_log) describes.
  returned: when O(service) is given and its manager answers
  type: dict
log_tail:
  description: The last log lines of O(service).
  returned: failure
  type: list
  elements: str
"""

import re
from typing import Any, Callable, Dict, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import api_key as api_keys
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import figures
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import metrics as engine_metrics
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import (
    HEALTH_PATHS,
    HTTP_TIMEOUT,
    MAX_BODY,
    QUESTION,
    Endpoint,
    EngineFailure,
    ask,
    judge,
    wait_healthy,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.thinking import TAGS
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import one_line
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import processes
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import deployments
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.watched import WatchedService

FIGURES_LINES = 5000  # of the log: an engine says what it takes when it starts


def read_key(params: Dict[str, Any]) -> Optional[str]:
    """The API key. ValueError, on one line, where its file gives none."""
    if not params["api_key_file"]:
        return params["api_key"] or None
    try:
        return api_keys.read(params["api_key_file"])
    except Failure as failure:
        raise ValueError(str(failure)) from None


def check_options(params: Dict[str, Any]) -> None:
    """ValueError, on one line, for an option that can be seen to be wrong without a server."""
    for name in ("health_timeout", "answer_timeout", "max_tokens"):
        if params[name] < 1:
            raise ValueError(f"{name}: must be at least 1, not {params[name]}")
    for name in ("health_path", "metrics_path"):
        if params[name] and not re.match(r"/[\x21-\x7e]*\Z", params[name]):
            raise ValueError(f"{name}: '{one_line(params[name])}' is not a path that starts with /")
    try:
        re.compile(params["expect"] or "")
    except re.error as exc:
        raise ValueError(f"expect: not a regular expression: {exc}") from exc
    Endpoint(params["url"])


class NotYet(Exception):
    """The server is not healthy yet, and is not to be waited for."""


def metrics_text(endpoint: Endpoint, path: Optional[str]) -> str:
    """The text of the server's own metrics; empty where it has none."""
    if not path:
        return ""
    try:
        status, _type, body = endpoint.get(path, HTTP_TIMEOUT)
    except EngineFailure:
        return ""
    text = body.decode("utf-8", "replace")
    if len(body) >= MAX_BODY:
        text = text.rpartition("\n")[0]  # the rest was cut off, perhaps inside a number
    return text if status == 200 else ""


def metrics(endpoint: Endpoint, path: Optional[str]) -> Dict[str, float]:
    """The server's own metrics; none where it has none."""
    return engine_metrics.parse(metrics_text(endpoint, path))


def teller(
    progress: Progress, wait: bool, service: Optional[WatchedService] = None
) -> Callable[[float, float, str], None]:
    """What `wait_healthy` reports, as progress in seconds. Raises NotYet instead where waiting is not wanted."""

    def on_wait(elapsed: float, _deadline: float, state: str) -> None:
        if not wait:
            raise NotYet()
        progress.what = "waiting for the engine (%s)" % (
            (service.doing if service else "") or state.rpartition(": ")[2]
        )
        progress.update(int(elapsed))

    return on_wait


def probe(
    params: Dict[str, Any],
    endpoint: Endpoint,
    service: Optional[WatchedService],
    result: Dict[str, Any],
    on_wait: Optional[Callable[[float, float, str], None]] = None,
) -> None:
    """Wait, ask and judge; fills `result`. Raises EngineFailure."""
    path, timeout = params["health_path"] or HEALTH_PATHS[params["api"]], params["health_timeout"]
    check_service = service.check if service else None
    give_up = (lambda: service.give_up(timeout)) if service else None
    waited = []

    def waits(elapsed: float, deadline: float, state: str) -> None:
        waited.append(state)
        if on_wait:
            on_wait(elapsed, deadline, state)

    result["health_wait_s"] = round(wait_healthy(endpoint, path, timeout, check_service, waits, give_up), 3)
    # Of one that was healthy before nobody knows for how long.
    ready_s = seconds_to_ready(service) if waited and service else None
    if ready_s is not None:
        result["ready_s"] = ready_s
    before = metrics(endpoint, params["metrics_path"])
    wanted = ("model", "system", "max_tokens", "temperature")
    try:
        answer = ask(
            endpoint,
            params["api"],
            params["question"],
            params["answer_timeout"],
            tags=params["reasoning_tags"],
            **{name: params[name] for name in wanted},
        )
    except EngineFailure as exc:
        result.update(exc.result)
        raise
    result.update(answer)
    speed = engine_metrics.tokens_per_s(before, metrics(endpoint, params["metrics_path"]))
    if speed:
        result.update(tokens_per_s=speed, tokens_per_s_source="metrics")
    if params["expect"] is not None:
        result["as_expected"] = re.search(params["expect"], answer["answer"]) is not None
    wrong = judge(answer, params["expect"])
    if wrong:
        raise EngineFailure(*wrong)
    if check_service:
        check_service()  # an engine that dies of its first question is not verified


def seconds_to_ready(service: WatchedService) -> Optional[int]:
    """How old the service's process is, which has just become healthy."""
    pid = (service.state or {}).get("pid")
    age = processes.age_of(pid) if pid else None
    return None if age is None else max(1, round(age))


def note_figures(
    params: Dict[str, Any], endpoint: Endpoint, service: WatchedService, ready_s: Optional[int] = None
) -> Dict[str, Any]:
    """What the engine said of its memory, and how long its start took, kept in its record: a part of the result. A log
    that cannot be read, or says nothing, is no failure: the engine answers.

    :param ready_s: seconds of the start, where it was seen.
    """
    engine = params["figures_of"]
    records, _problems = deployments.read_records()
    record = next((one for one in records if one["engine"] == engine), {})
    before = record.get("measured")
    since = (service.state or {}).get("since")
    if before and since and before.get("since") == since and ready_s is None:
        return {"measured": before}
    lines = service.log_tail(FIGURES_LINES)
    models = metrics_text(endpoint, "/v1/models") if engine == "llama_cpp" else ""
    text = metrics_text(endpoint, params["metrics_path"])
    found = figures.measured(engine, lines, text, since, before, models, ready_s)
    if not found:
        return {"measured": before} if before else {}
    result: Dict[str, Any] = {"measured": found}
    if record and deployments.note_measured(engine, found):
        result.update(changed=True, changes=["note what %s takes of memory, and to start" % engine])
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            url=dict(type="str", required=True),
            api=dict(type="str", choices=["openai", "ollama"], default="openai"),
            model=dict(type="str"),
            question=dict(type="str", default=QUESTION),
            system=dict(type="str"),
            max_tokens=dict(type="int", default=2048, no_log=False),
            temperature=dict(type="float"),
            health_path=dict(type="str"),
            metrics_path=dict(type="str"),
            reasoning_tags=dict(type="str", choices=list(TAGS), default="auto"),
            wait=dict(type="bool", default=True),
            health_timeout=dict(type="int", default=600),
            figures_of=dict(type="str"),
            answer_timeout=dict(type="int", default=300),
            expect=dict(type="str"),
            api_key=dict(type="str", no_log=True),
            api_key_file=dict(type="path", no_log=False),
            ca_path=dict(type="path"),
            validate_certs=dict(type="bool", default=True),
            service=dict(
                type="dict",
                options=dict(
                    name=dict(type="str", required=True),
                    manager=dict(type="str", choices=["systemd", "supervisor"], default="systemd"),
                    log=dict(type="path"),
                ),
            ),
            supervisor_config=dict(type="path", default=places.SUPERVISOR_CONFIG),
        ),
        mutually_exclusive=[("api_key", "api_key_file")],
        supports_check_mode=True,
    )
    params = module.params
    result: Dict[str, Any] = dict(changed=False, verified=False, url=params["url"])
    try:
        check_options(params)
        if module.check_mode:
            module.exit_json(msg="check mode: no question was asked", **result)
        key = read_key(params)
        if key:
            # Whatever the server or its log repeats of the key is masked in the result.
            module.no_log_values.add(key)
        endpoint = Endpoint(params["url"], key, params["ca_path"], params["validate_certs"])
    except OSError as exc:  # ssl.SSLError is one
        reason = exc.strerror or "holds no certificate"
        module.fail_json(msg=f"ca_path: {params['ca_path']}: {reason}", error_kind="usage", **result)
    except ValueError as exc:
        module.fail_json(msg=str(exc), error_kind="usage", **result)

    service = None
    if params["service"]:
        service = WatchedService(params["service"], params["supervisor_config"], module.warn)
        endpoint.trust = service.trust
    failure = None
    try:
        with Progress("waiting for the engine", unit="s") as progress:
            probe(params, endpoint, service, result, teller(progress, params["wait"], service))
    except NotYet:
        module.exit_json(msg="the server is not healthy yet", waiting=True, **result)
    except EngineFailure as exc:
        failure = exc
    if service and service.state:
        result["service_state"] = service.state
    if failure:
        module.fail_json(
            msg=str(failure),
            hint=failure.hint,
            error_kind="verify",
            log_tail=service.log_tail() if service else [],
            **result,
        )
    if params["figures_of"] and service:
        result.update(note_figures(params, endpoint, service, result.get("ready_s")))
    speed = f", {result['tokens_per_s']} tokens/s" if result["tokens_per_s"] else ""
    cut = ", cut at max_tokens" if result["finish_reason"] == "length" else ""
    result.update(verified=True, msg=f"{result['model']} answered{speed}{cut}: {one_line(result['answer'], 120)}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
