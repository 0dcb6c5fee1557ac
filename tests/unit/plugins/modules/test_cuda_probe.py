# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cuda_probe says of an nvcc that does not do. A real nvcc is used by molecule/cuda_toolkit_slow."""

import pytest
from ansible_collections.dsdeploy.llm.plugins.modules import cuda_probe


@pytest.fixture
def nvcc(tmp_path):
    """A program in nvcc's place that says it is 12.4.131, and otherwise does as told."""

    def make(script):
        path = tmp_path / "nvcc"
        path.write_text(
            f'#!/bin/sh\nif [ "$1" = --version ]; then echo "release 12.4, V12.4.131"; exit; fi\n{script}\n'
        )
        path.chmod(0o755)
        return str(path)

    return make


def test_no_nvcc(run_module, tmp_path):
    result = run_module("cuda_probe", nvcc=str(tmp_path / "nvcc"))
    assert result["failed"] and result["error_kind"] == "verify"
    assert "Install the CUDA toolkit" in result["hint"]


def test_another_version(run_module, nvcc):
    result = run_module("cuda_probe", nvcc=nvcc("exit 0"), version="12.8")
    assert result["failed"] and result["msg"].endswith("is version 12.4.131, expected 12.8")


def test_a_longer_number_is_another_version(run_module, nvcc):
    assert run_module("cuda_probe", nvcc=nvcc("exit 0"), version="12.4.13")["failed"]


def test_a_compiler_that_is_too_new(run_module, nvcc):
    said = (
        "host_config.h:143:2: error: #error -- unsupported GNU version! gcc versions later than 13 are not supported!"
    )
    result = run_module("cuda_probe", nvcc=nvcc(f"echo '{said}' >&2; exit 1"), version="12.4")
    assert result["failed"] and "unsupported GNU version" in result["msg"]
    assert "cuda_toolkit_host_compiler" in result["hint"]
    assert result["log_tail"] == [said]


def test_the_program_and_its_place_are_given(run_module, nvcc, tmp_path):
    seen = tmp_path / "seen"
    compiler = nvcc(f'cp "$3" {seen}.cu; echo "$@" > {seen}; printf "#!/bin/sh\\nexit 0\\n" > "$2"; chmod +x "$2"')
    result = run_module("cuda_probe", nvcc=compiler, host_compiler="g++-13")
    assert result["version"] == "12.4.131" and "output" not in result
    assert "-ccbin g++-13" in seen.read_text()
    assert "__global__" in (tmp_path / "seen.cu").read_text()


def test_a_compiler_that_does_not_know_the_native_architecture(run_module, tmp_path):
    """As that of Ubuntu 22.04's own package."""
    path = tmp_path / "nvcc"
    path.write_text(
        '#!/bin/sh\nif [ "$1" = --version ]; then echo "release 11.5, V11.5.119"; exit; fi\n'
        'case "$*" in *native*) echo "nvcc fatal : Value \'native\' is not defined" >&2; exit 1;; esac\n'
        'printf "#!/bin/sh\\necho GPU 0\\n" > "$2"; chmod +x "$2"\n'
    )
    path.chmod(0o755)
    result = run_module("cuda_probe", nvcc=str(path), version="11.5", run=True)
    assert result.get("output") == ["GPU 0"], result
    # A newer one is asked for it: the default's code may be newer than the driver.
    path.write_text(path.read_text().replace("11.5", "11.6"))
    assert "'native' is not defined" in run_module("cuda_probe", nvcc=str(path), version="11.6", run=True)["msg"]


@pytest.mark.parametrize(("code", "word"), [(802, "fabric manager"), (35, "newer one")])
def test_a_program_that_fails_is_diagnosed(run_module, nvcc, code, word):
    # What the probe's own program prints.
    program = f'#!/bin/sh\\necho "cudaError {code} in cudaGetDeviceCount: why"\\nexit 1\\n'
    result = run_module("cuda_probe", nvcc=nvcc(f'printf \'{program}\' > "$2"; chmod +x "$2"'), run=True)
    assert result["failed"] and f"cudaError {code}" in result["msg"]
    assert word in result["hint"]


def test_a_program_that_hangs_is_ended(monkeypatch, tmp_path):
    """As on a GPU that hangs: nothing of CUDA comes back."""
    program = tmp_path / "probe"
    program.write_text("#!/bin/sh\nsleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(cuda_probe, "RUN_S", 0.1)

    class Module:
        def fail_json(self, **told):
            raise SystemExit(told["msg"] + "; " + told["hint"])

    with pytest.raises(SystemExit, match=r"does not end within .* doctor"):
        cuda_probe.run_it(Module(), str(program))
