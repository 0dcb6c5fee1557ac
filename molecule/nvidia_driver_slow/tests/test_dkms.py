"""The kernel module that DKMS has built is of the driver's version, and for that kernel."""


def kernel(host):
    return host.file("/srv/standin/proc/sys/kernel/osrelease").content_string.strip()


def test_the_module_is_of_the_driver_s_version_and_for_the_kernel(host):
    (module,) = host.check_output("find /lib/modules/%s -name 'nvidia-current.ko*'", kernel(host)).splitlines()
    version = host.package("nvidia-kernel-dkms").version.partition("-")[0]
    assert host.check_output("/sbin/modinfo -F version %s", module) == version
    assert host.check_output("/sbin/modinfo -F vermagic %s", module).split()[0] == kernel(host)
    assert host.check_output("/sbin/modinfo -F license %s", module) == "NVIDIA"


def test_all_packages_are_of_one_version_and_held(host):
    names = ("nvidia-kernel-dkms", "nvidia-smi", "libcuda1")
    assert len({host.package(name).version for name in names}) == 1
    assert set(names) <= set(host.check_output("apt-mark showhold").split())


def test_the_kernel_s_compiler_and_headers_are_there(host):
    assert host.package("gcc-14").is_installed
    assert host.file(f"/lib/modules/{kernel(host)}/build/Makefile").exists
    # Those of the next kernel come with it.
    assert host.package("linux-headers-amd64").is_installed


def test_nouveau_is_blocked(host):
    assert "blacklist nouveau" in host.check_output("/sbin/modprobe --showconfig").splitlines()
