"""From options to one run of ansible-playbook."""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from dsdeploy import collection, session
from dsdeploy.errors import DsdeployError
from dsdeploy.invocation import SSH_PROMPTS, Invocation, Options, build, read_user_config

NO_CONFIG = configparser.ConfigParser()


def invocation(
    checkout: Path, verb: str = "up", environ: dict[str, str] | None = None, **options: object
) -> Invocation:
    found = collection.find(checkout / "python" / "dsdeploy")
    return build(verb, Options(**options), {}, found, environ or {}, NO_CONFIG)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verb", "playbook"),
    [("up", "deepseek_r1"), *((verb, verb) for verb in ("status", "ask", "logs", "down", "rollback"))],
)
def test_each_verb_is_one_playbook(checkout: Path, verb: str, playbook: str) -> None:
    assert invocation(checkout, verb).playbook == checkout / "playbooks" / f"{playbook}.yml"


def test_default_inventory_is_the_embedded_local_one(checkout: Path) -> None:
    assert invocation(checkout).argv == ("--inventory", str(checkout / "inventories" / "local"))


def test_options_become_arguments(checkout: Path, tmp_path: Path) -> None:
    variables = tmp_path / "vars.yml"
    variables.write_text("a: 1\n")
    planned = invocation(
        checkout,
        inventory=("two", "host1,"),
        limit="one",
        extra_vars=("a=b", f"@{variables}", "{c: d}"),
        check=True,
        diff=True,
        verbose=2,
        user="ubuntu",
        private_key="/k",
        become=True,
        become_password_file="/p",
        vault_password_file=("/v1", "/v2"),
        vault_id=("prod@/v3",),
        tags=("install", "serve"),
        skip_tags=("verify",),
    )
    two = str(checkout / "inventories" / "two")
    assert planned.argv == (
        *("--inventory", two, "--inventory", "host1,"),
        *("--extra-vars", "a=b", "--extra-vars", f"@{variables}", "--extra-vars", "{c: d}"),
        *("--limit", "one", "--user", "ubuntu", "--private-key", "/k", "--become-password-file", "/p"),
        *("--tags", "install,serve", "--skip-tags", "verify", "--check", "--diff", "--become"),
        *("--vault-password-file", "/v1", "--vault-password-file", "/v2", "--vault-id", "prod@/v3", "-vv"),
    )
    assert planned.prompts == ()


def test_engine_model_and_the_verbs_own_variables_become_extra_vars(checkout: Path) -> None:
    found = collection.find(checkout / "python" / "dsdeploy")
    options = Options(engine="vllm", model="r1")
    planned = build("up", options, {"dsdeploy_question": "why?", "dsdeploy_expect": None}, found, {}, NO_CONFIG)
    assert planned.extra_vars == {"dsdeploy_engine": "vllm", "dsdeploy_model": "r1", "dsdeploy_question": "why?"}
    # Elsewhere --engine only chooses among what is deployed.
    assert invocation(checkout, "logs", engine="vllm").extra_vars == {"dsdeploy_only_engine": "vllm"}
    assert invocation(checkout).extra_vars == {}


def test_existing_path_wins_over_a_shipped_name(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("two").write_text("h\n")
    assert invocation(checkout, inventory=("two",)).argv == ("--inventory", "two")


def test_unknown_inventory_names_the_close_one(checkout: Path) -> None:
    with pytest.raises(DsdeployError) as caught:
        invocation(checkout, inventory=("lokal",))
    assert "'lokal'" in caught.value.message
    assert "Did you mean local?" in caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("word", "-e word: 'word' names no value"),
        ("=value", "-e =value: '=value' names no value"),
        ("1a=b", "'1a=b' names no value"),
        ("question=what is it", "'is' names no value"),
        ("/vars.yml", "names no value"),
        ("", "-e : it is empty"),
        ("a='b", "a quote or a brace is not closed"),
        ("a={{ b", "a quote or a brace is not closed"),
        ("@/does/not/exist", "-e @/does/not/exist: no such file"),
        ("{bad", "-e {bad: is not valid JSON or YAML: expected ',' or '}', but got '<stream end>' (line 1, column 5)"),
        ("[1, 2]", "holds no names with values"),
    ],
)
def test_bad_extra_vars_are_refused(checkout: Path, bad: str, said: str) -> None:
    with pytest.raises(DsdeployError) as caught:
        invocation(checkout, extra_vars=(bad,))
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint.startswith("Write -e name=value")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: [1\n", "not valid JSON or YAML"),
        (b"- 1\n", "holds no names"),
        (b"\xff", "not valid JSON or YAML"),
        (b"", "holds"),
    ],
)
def test_a_bad_file_of_extra_vars_is_refused(checkout: Path, tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "vars.yml").write_bytes(content)
    with pytest.raises(DsdeployError) as caught:
        invocation(checkout, extra_vars=(f"@{tmp_path}/vars.yml",))
    assert said in caught.value.message


@pytest.mark.parametrize(
    "good",
    [
        "a=",
        "a='two words' b=2",
        'a={{ x["y"] }}',
        'a={"k":1}',
        "a=it\\'s",
        "{a: b, c: !unsafe d}",
        '{"a": "{{ b }}"}',
        "a=木",
        "a=1\nb=2",
    ],
)
def test_good_extra_vars_are_taken(checkout: Path, good: str) -> None:
    assert good in invocation(checkout, extra_vars=(good,)).argv


def test_a_vault_file_is_for_ansible_to_read(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "vars.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    assert f"@{tmp_path}/vars.yml" in invocation(checkout, extra_vars=(f"@{tmp_path}/vars.yml",)).argv


def test_an_empty_inventory_is_not_the_working_directory(checkout: Path) -> None:
    with pytest.raises(DsdeployError) as caught:
        invocation(checkout, inventory=("",))
    assert caught.value.message == "inventory '': no such file, directory or shipped inventory"


@pytest.mark.parametrize("limit", ["", " "])
def test_a_limit_without_a_host_is_not_all_hosts(checkout: Path, limit: str) -> None:
    with pytest.raises(DsdeployError) as caught:
        invocation(checkout, limit=limit)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("options", [{"tags": ("verfy",)}, {"skip_tags": ("install,verfy",)}])
def test_stage_that_is_none_is_refused(checkout: Path, options: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(DsdeployError) as caught:
        invocation(checkout, **options)
    assert caught.value.message == "there is no stage 'verfy'; did you mean verify?"
    assert caught.value.hint == "The stages are install, serve, verify."
    assert caught.value.exit_code == 2


def test_stages_of_the_playbook_are_those_of_the_readme() -> None:
    here = collection.find()
    told = re.search(r"^Stages are tags: (.*)\.$", (here.root / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    told_there = re.findall(r"`(\w+)`", told.group(1)) if told else []
    assert sorted(told_there) == sorted(here.stages("deepseek_r1"))
    # In this order the playbook's first step knows them: what leaves one out leaves out those before it.
    (play,) = yaml.safe_load((here.root / "playbooks/deepseek_r1.yml").read_text(encoding="utf-8"))
    assert play["vars"]["_dsdeploy_stages"] == told_there


def test_environment_has_the_defaults_and_the_collection_first(checkout: Path) -> None:
    environment = invocation(checkout).environment
    assert environment["ANSIBLE_PIPELINING"] == "True"
    assert environment["ANSIBLE_FORKS"] == "25"
    assert environment["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    for option in ("ControlPersist", "ServerAliveInterval", "ServerAliveCountMax"):
        assert f"-o {option}=" in environment["ANSIBLE_SSH_ARGS"]
    assert environment["DSDEPLOY_PROGRESS"] == "json"
    assert environment["ANSIBLE_COLLECTIONS_PATH"].split(":") == [
        str(checkout / ".collections"),
        "~/.ansible/collections",
        "/usr/share/ansible/collections",
    ]


def test_what_the_user_set_in_the_environment_stays(checkout: Path) -> None:
    user = {"ANSIBLE_FORKS": "3", "ANSIBLE_HOST_KEY_CHECKING": "False", "ANSIBLE_COLLECTIONS_PATH": "/mine"}
    environment = invocation(checkout, environ=user).environment
    assert "ANSIBLE_FORKS" not in environment
    assert "ANSIBLE_HOST_KEY_CHECKING" not in environment
    assert environment["ANSIBLE_COLLECTIONS_PATH"] == f"{checkout / '.collections'}:/mine"


def test_what_the_user_set_in_ansible_cfg_stays(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").write_text(
        "[defaults]\nforks = 3 ; few\nhost_key_checking = False\ncollections_path = mine:/abs\n"
        "[ssh_connection]\nssh_args = -C %h\n"
    )
    config = read_user_config({}, tmp_path, Path("/nonexistent"))
    found = collection.find(checkout / "python" / "dsdeploy")
    environment = build("up", Options(), {}, found, {}, config).environment
    assert "ANSIBLE_FORKS" not in environment
    assert "ANSIBLE_SSH_ARGS" not in environment
    # ansible-runner switches it off unless told; so the user's own value is handed on.
    assert environment["ANSIBLE_HOST_KEY_CHECKING"] == "False"
    assert environment["ANSIBLE_PIPELINING"] == "True"
    assert environment["ANSIBLE_COLLECTIONS_PATH"] == f"{checkout / '.collections'}:{tmp_path / 'mine'}:/abs"


def test_ansible_cfg_is_looked_for_in_ansibles_order(tmp_path: Path) -> None:
    home, cwd, named = tmp_path / "home", tmp_path / "cwd", tmp_path / "named.cfg"
    home.mkdir()
    cwd.mkdir()
    named.write_text("[defaults]\nforks=1\n")
    (cwd / "ansible.cfg").write_text("[defaults]\nforks=2\n")
    (home / ".ansible.cfg").write_text("[defaults]\nforks=3\n")
    forks = [
        read_user_config({"ANSIBLE_CONFIG": str(named)}, cwd, home).get("defaults", "forks"),
        read_user_config({}, cwd, home).get("defaults", "forks"),
        read_user_config({}, tmp_path, home).get("defaults", "forks"),
    ]
    assert forks == ["1", "2", "3"]


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A directory that a user who is not root may not enter, as root's home is to others, with files in it."""
    directory = tmp_path / "closed"
    directory.mkdir()
    for name in ("hosts.yml", "secrets.yml", "ansible.cfg", ".ansible.cfg"):
        (directory / name).write_text("")
    directory.chmod(0)
    yield directory
    directory.chmod(0o700)


def as_a_user(call: Callable[[], object]) -> str:
    """What `call` says to a user who is not root: in a process of its own, as the tests may be root's."""
    read, write = os.pipe()
    if child := os.fork():
        os.close(write)
        with open(read, encoding="utf-8") as told:
            said = told.read()
        os.waitpid(child, 0)
        return said
    try:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        try:
            said = f"done: {call()}"
        except DsdeployError as error:
            said = f"{error.message} | {error.hint}"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
    finally:
        os._exit(0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"inventory": ("{}/hosts.yml",)}, "inventory '{}/hosts.yml': Permission denied | Let this user read it"),
        ({"inventory": ("~no-such-user/hosts.yml",)}, "inventory '~no-such-user/hosts.yml': no such file"),
        ({"extra_vars": ("@{}/secrets.yml",)}, "-e @{}/secrets.yml: Permission denied | Let this user read it"),
        ({"extra_vars": ("@~no-such-user/secrets.yml",)}, "-e @~no-such-user/secrets.yml: no such file | Write -e"),
        ({"extra_vars": ("@/dev/null",)}, "-e @/dev/null: not a file | Write -e"),
    ],
)
def test_what_the_user_may_not_read_is_named(closed: Path, options: dict[str, tuple[str, ...]], said: str) -> None:
    here = str(closed)
    filled = {name: tuple(value.replace("{}", here) for value in values) for name, values in options.items()}
    found = collection.Collection(Path("/nonexistent"), Path("/nonexistent"))
    given = Options(**{"inventory": ("host,",), **filled})  # type: ignore[arg-type]
    told = as_a_user(lambda: build("up", given, {}, found, {}, NO_CONFIG))
    assert told.startswith(said.replace("{}", here)), told


def test_a_working_directory_that_may_not_be_entered_is_named(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed.chmod(0o700)
    monkeypatch.chdir(closed)
    closed.chmod(0)
    assert as_a_user(lambda: session.plan("status", Options(), {})) == (
        f"this user may not enter the working directory {closed} | Go to another one (cd), then run it again."
    )


def test_an_ansible_cfg_that_the_user_may_not_read_is_none_as_for_ansible(closed: Path) -> None:
    def read() -> list[str]:
        return read_user_config({"ANSIBLE_CONFIG": f"{closed}/ansible.cfg"}, closed, closed).sections()

    assert as_a_user(read).startswith("done: [")
    assert as_a_user(lambda: session._writable(closed)) == "done: False"


def test_broken_ansible_cfg_is_left_to_ansible(tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").write_text("no section\n")
    assert read_user_config({}, tmp_path, tmp_path / "home").sections() == []


def test_passwords_are_asked_and_matched_to_ansibles_prompts(checkout: Path) -> None:
    import re

    planned = invocation(
        checkout,
        ask_pass=True,
        ask_become_pass=True,
        ask_vault_pass=True,
        vault_id=("prod(1)@prompt", "file@/x", "@prompt"),
    )
    asked = [
        "SSH password: ",
        "BECOME password[defaults to SSH password]: ",
        "Vault password: ",
        "Vault password (prod(1)): ",
        "Vault password (default): ",
    ]
    assert len(planned.prompts) == len(asked)
    for prompt, text in zip(planned.prompts, asked, strict=True):
        matching = [other for other in asked if re.search(prompt.pattern, other, re.M)]
        assert matching == [text]


@pytest.mark.parametrize(
    ("environ", "config", "asked"),
    [
        ({"ANSIBLE_BECOME_ASK_PASS": "1"}, "", ["BECOME password: "]),
        ({}, "[privilege_escalation]\nbecome_ask_pass = yes\n", ["BECOME password: "]),
        # The environment counts more than the file.
        ({"ANSIBLE_BECOME_ASK_PASS": "no"}, "[privilege_escalation]\nbecome_ask_pass = yes\n", []),
        ({"ANSIBLE_ASK_PASS": "True"}, "", ["SSH password: "]),
        ({}, "[defaults]\nask_pass = on\n", ["SSH password: "]),
        ({"ANSIBLE_ASK_VAULT_PASS": "true"}, "", ["Vault password: "]),
        ({}, "[defaults]\nask_vault_pass = true\n", ["Vault password: "]),
        ({"ANSIBLE_VAULT_IDENTITY_LIST": "a@/file, prod@prompt"}, "", ["Vault password (prod): "]),
        ({}, "[defaults]\nvault_identity_list = prod@prompt\n", ["Vault password (prod): "]),
    ],
)
def test_passwords_that_the_users_settings_ask_for(
    checkout: Path, tmp_path: Path, environ: dict[str, str], config: str, asked: list[str]
) -> None:
    (tmp_path / "ansible.cfg").write_text(config)
    found = collection.find(checkout / "python" / "dsdeploy")
    user = read_user_config(environ, tmp_path, Path("/nonexistent"))
    prompts = build("up", Options(), {}, found, environ, user).prompts
    assert len(prompts) == len(asked)
    assert all(re.search(prompt.pattern, text, re.M) for prompt, text in zip(prompts, asked, strict=True))
    # The same by option and by setting is asked once.
    both = Options(ask_pass=True, ask_become_pass=True, ask_vault_pass=True, vault_id=("prod@prompt",))
    assert len(build("up", both, {}, found, environ, user).prompts) == 4


def test_a_password_that_nobody_can_type_is_wrong_usage(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("click.termui.hidden_prompt_func", ended)
    with pytest.raises(DsdeployError, match="nobody to type it") as error:
        session.typed_passwords(invocation(checkout, ask_become_pass=True))
    assert error.value.exit_code == 2 and "--become-password-file" in error.value.hint


def test_no_setting_of_the_user_lets_ansible_ask_what_nobody_sees(checkout: Path) -> None:
    environment = invocation(checkout, environ={"ANSIBLE_STRATEGY": "ansible.builtin.debug"}).environment
    assert environment["ANSIBLE_ENABLE_TASK_DEBUGGER"] == "False"
    assert environment["ANSIBLE_STRATEGY"] == "linear"
    assert environment["ANSIBLE_AGNOSTIC_BECOME_PROMPT"] == "True"
    assert "ANSIBLE_STRATEGY" not in invocation(checkout, environ={"ANSIBLE_STRATEGY": "free"}).environment


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("Are you sure you want to continue connecting (yes/no/[fingerprint])? ", "no"),
        ("Are you sure you want to continue connecting (yes/no)? ", "no"),
        ("Enter passphrase for key '/home/a b/.ssh/id_ed25519': ", ""),
    ],
)
def test_what_ssh_asks_is_answered_so_that_it_fails_with_a_reason(asked: str, told: str) -> None:
    assert [answer for pattern, answer in SSH_PROMPTS if re.search(pattern, asked, re.M)] == [told]


def test_ansible_cfg_of_a_directory_that_all_may_write_to_does_not_count(tmp_path: Path) -> None:
    public = tmp_path / "public"
    public.mkdir()
    (public / "ansible.cfg").write_text("[defaults]\nhost_key_checking = False\n")
    public.chmod(0o777)
    assert read_user_config({}, public, tmp_path).sections() == []
    # Named, it is meant; as a directory, too.
    for named in (public, public / "ansible.cfg"):
        assert read_user_config({"ANSIBLE_CONFIG": str(named)}, tmp_path, tmp_path).has_section("defaults")
    public.chmod(0o755)
    assert read_user_config({}, public, tmp_path).has_section("defaults")


@pytest.mark.parametrize(
    ("verb", "environ", "config", "said"),
    [
        ("up", {"ANSIBLE_RUN_TAGS": "x"}, "", "ANSIBLE_RUN_TAGS=x would leave out"),
        ("status", {"ANSIBLE_RUN_TAGS": "x"}, "", "env -u ANSIBLE_RUN_TAGS dsdeploy status"),
        ("up", {}, "[tags]\nrun = web,db\n", "[tags] run in ansible.cfg"),
        ("up", {"ANSIBLE_SKIP_TAGS": "always"}, "", "ANSIBLE_SKIP_TAGS=always"),
        ("up", {"ANSIBLE_RUN_TAGS": "verify", "ANSIBLE_SKIP_TAGS": "web"}, "", ""),
        ("status", {"ANSIBLE_RUN_TAGS": "all"}, "", ""),
        ("status", {"ANSIBLE_NO_LOG": "True"}, "", "ANSIBLE_NO_LOG hides from 'status' what it has to read"),
        ("up", {}, "[defaults]\nno_log = yes\n", "ANSIBLE_NO_LOG=false dsdeploy up"),
        ("up", {"ANSIBLE_NO_LOG": "false"}, "[defaults]\nno_log = yes\n", ""),
    ],
)
def test_settings_of_the_user_that_leave_something_out_are_said(
    checkout: Path, tmp_path: Path, verb: str, environ: dict[str, str], config: str, said: str
) -> None:
    (tmp_path / "ansible.cfg").write_text(config)
    user = read_user_config({}, tmp_path, Path("/nonexistent"))
    found = collection.find(checkout / "python" / "dsdeploy")
    if not said:
        build(verb, Options(), {}, found, environ, user)
        return
    with pytest.raises(DsdeployError) as caught:
        build(verb, Options(), {}, found, environ, user)
    assert said in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "given",
    [
        "dsdeploy_api_key=sesame-4711",
        "a=1 llama_cpp_api_key='sesame-4711'",
        "ansible_become_password=sesame-4711",
        "ansible_ssh_pass=sesame-4711",
        "hf_token=sesame-4711",
        '{"a": {"dsdeploy_api_key": "sesame-4711"}}',
        "{model_tokens: {https://hub: sesame-4711}}",
        '{"vllm_venv_environment": {"HF_HOME": "/data", "HF_TOKEN": "sesame-4711"}}',
    ],
)
def test_a_secret_on_the_command_line_is_refused_without_showing_it(checkout: Path, given: str) -> None:
    with pytest.raises(DsdeployError) as caught:
        invocation(checkout, extra_vars=(given,))
    assert "ps" in caught.value.message and "@secrets.yml" in caught.value.hint
    assert "sesame" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    "given",
    [
        "dsdeploy_api_key_file=/etc/key",
        "dsdeploy_answer_max_tokens=64",
        "dsdeploy_api_key=",
        "dsdeploy_api_key={{ lookup('env', 'KEY') }}",
        "model_require_pinned=true",
    ],
)
def test_what_is_no_secret_is_taken(checkout: Path, given: str) -> None:
    assert given in invocation(checkout, extra_vars=(given,)).argv


def test_collection_of_a_wheel_lies_beside_the_package(tmp_path: Path) -> None:
    root = tmp_path / "ansible_collections" / "dsdeploy" / "llm"
    root.mkdir(parents=True)
    (root / "galaxy.yml").write_text("namespace: dsdeploy\nname: llm\nversion: 4.5.6\n")
    found = collection.find(tmp_path / "dsdeploy")
    assert (found.root, found.search_path, found.version) == (root, tmp_path, "4.5.6")


def test_another_collection_around_the_package_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "galaxy.yml").write_text("namespace: dsdeploy\nname: other\n")
    with pytest.raises(DsdeployError) as caught:
        collection.find(tmp_path / "python" / "dsdeploy")
    assert "install dsdeploy again" in caught.value.hint


def test_shipped_inventories_are_listed(checkout: Path) -> None:
    assert collection.find(checkout / "python" / "dsdeploy").shipped_inventories() == ["local", "two"]
    assert os.path.isdir(checkout / "inventories" / "two")
