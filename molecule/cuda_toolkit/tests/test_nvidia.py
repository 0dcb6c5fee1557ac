"""CUDA from a stand-in for NVIDIA's repository: its toolkits are small, the repository, its key and apt are real."""

HOSTS = {"cuda-toolkit-bookworm": ("12.4", "12.4.131"), "cuda-toolkit-trixie": ("13.0", "13.0.88")}
SOURCES = "/etc/apt/sources.list.d/dsdeploy-nvidia.sources"
MIRROR = "http://cuda-toolkit-repository:8080/compute/cuda/repos"

testinfra_hosts = [f"ssh://{name}" for name in HOSTS]


def wanted(host):
    return HOSTS[host.backend.get_hostname()]


def login(host, command):
    """What a command prints in a login shell of an ordinary user."""
    return host.check_output("bash -lc %s", command)


def test_a_login_shell_finds_the_version(host):
    version, nvcc = wanted(host)
    assert f"release {version}, V{nvcc}" in login(host, "nvcc --version")
    assert host.check_output("readlink -f /usr/local/cuda") == f"/usr/local/cuda-{version}"
    assert host.package(f"cuda-toolkit-{version.replace('.', '-')}").is_installed


def test_the_environment_has_each_entry_once(host):
    shown = login(host, '. /etc/profile; . /etc/profile; echo "$CUDA_HOME"; echo "$PATH"; echo "$LD_LIBRARY_PATH"')
    home, path, libraries = shown.splitlines()
    assert home == "/usr/local/cuda"
    assert path.split(":").count("/usr/local/cuda/bin") == 1
    assert libraries == "/usr/local/cuda/lib64"


def test_another_library_path_is_kept(host):
    shown = host.check_output("LD_LIBRARY_PATH=/opt/lib bash -lc %s", 'echo "$LD_LIBRARY_PATH"')
    assert shown == "/usr/local/cuda/lib64:/opt/lib"


def test_the_repository_is_signed_by_the_key_that_was_checked(host):
    fields = dict(line.split(": ", 1) for line in host.file(SOURCES).content_string.splitlines() if ": " in line)
    assert fields["URIs"].startswith(MIRROR)
    with host.sudo():
        assert host.file(fields["Signed-By"]).content_string.startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----")
        assert "InRelease" in host.check_output("apt-get update -o Dir::Etc::sourcelist=%s", SOURCES)
