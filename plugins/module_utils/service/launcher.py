# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What supervisor starts in place of a service: it ends what the start before has left, sets limits, gives up root's
rights and becomes the service.

It is installed on hosts as a program of its own, so it needs nothing but Python's own library (3.8). Module `service`
reads the same notes with the same functions.

usage: launcher.py --name N --user U --run DIR --environment FILE --revision R --nofile N --memlock N|infinity [--gpu]
           [--tmp DIR] -- EXEC…
       launcher.py --gpu-devices   (what systemd starts, as root, before a service that computes on GPUs)
"""

from __future__ import annotations

import argparse
import ctypes
import glob
import os
import pwd
import re
import resource
import shutil
import signal
import subprocess
import sys

# prctl(2), linux/prctl.h
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
MAKING = 60.0  # s; a driver that hangs must not keep the service from starting, and from saying why in its log


def machine():
    """Name of this kernel's run and PID namespace: process numbers mean something within one only."""
    with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as handle:
        return handle.read().strip() + " " + os.readlink("/proc/self/ns/pid")


def note_path(run, name, kind):
    """File of what a service notes at its start; `kind` is group or revision."""
    return os.path.join(run, "%s.%s" % (name, kind))


def write_note(path, text):
    """A note that root alone reads and writes."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="utf-8") as handle:
        handle.write(text + "\n")
    os.replace(path + ".new", path)


def read_note(path):
    """What a note says, "" where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, encoding="utf-8", errors="replace") as handle:
            return handle.read(4096).strip()
    except OSError:
        return ""


def own_group():
    """This process's group and session, with the machine: "71 12 BOOT PIDNS"."""
    return "%d %d %s" % (os.getpgrp(), os.getsid(0), machine())


def members(group, uid):
    """Process ids of user `uid` in the process group of a note, zombies left out; none where it is of another boot."""
    number, _space, rest = group.partition(" ")
    session, _space, where = rest.partition(" ")
    if not where or where != machine():
        return []
    found = []
    for directory in glob.glob("/proc/[0-9]*"):
        try:
            with open(directory + "/stat", encoding="utf-8", errors="replace") as handle:
                match = re.match(r"(\d+) \((.*)\) (.*)", handle.read(), re.S)
            if match is None or os.stat(directory).st_uid != uid:
                continue
        except OSError:
            continue  # it has ended
        state, _parent, its_group, its_session = match.group(3).split()[:4]
        if state != "Z" and (its_group, its_session) == (number, session):
            found.append(int(match.group(1)))
    return found


def kill(group, uid):
    for pid in members(group, uid):
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass  # it has ended


def environment_of(text):
    """The variables of an environment file as module `service` writes it: NAME="value", with \\ before " \\ $ and `."""
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(r'([A-Za-z_][A-Za-z0-9_]*)="(.*)"', line)
        if match:
            found[match.group(1)] = re.sub(r'\\(["\\$`])', r"\1", match.group(2))
    return found


# What a service takes of the environment that it is started in, as systemd gives it next to none: what a container says
# of its libraries and GPUs, and the language.
_INHERITED = re.compile(
    r"PATH|LANG|LANGUAGE|LC_[A-Z]+|TZ|TERM|container|LD_LIBRARY_PATH|LIBRARY_PATH|SSL_CERT_(FILE|DIR)"
    r"|(CUDA|NVIDIA|NCCL|NVSHMEM|UCX|GLOO|OMP|MKL)_\w+"
)
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS", re.IGNORECASE)


def inherited(environment):
    """The part of an environment that goes on to a service. The rest is of whoever ran `up` or started the container,
    such as keys of a cloud, or a PYTHONPATH from which root would import at each start."""
    return {
        name: value for name, value in environment.items() if _INHERITED.fullmatch(name) and not _SECRET.search(name)
    }


def make_tmp(path):
    """A directory for temporary files of its own, empty at each start: in /tmp others could have put what it looks for
    there, such as PyTorch's headers below a name that it always has. As the service's user; where it cannot be made,
    /tmp is what there is."""
    try:
        if os.path.islink(path):
            os.unlink(path)
        shutil.rmtree(path, ignore_errors=True)
        os.mkdir(path, 0o700)
    except OSError as error:
        say("no directory of its own for temporary files: %s" % error)
        return {}
    return {"TMPDIR": path}


def limit(what, wanted):
    """A soft limit, no higher than the hard one: only a container's owner can raise that."""
    _soft, hard = resource.getrlimit(what)
    value = (
        wanted if hard == resource.RLIM_INFINITY else hard if wanted == resource.RLIM_INFINITY else min(wanted, hard)
    )
    resource.setrlimit(what, (value, hard))


def drop_rights(account):
    """Become that user for good: no capability and no setuid program gives anything back."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for capability in range(64):
        if prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
            break  # the kernel knows no more of them, or a container does not let us: then it has taken them itself
    os.initgroups(account.pw_name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def told(*argv):
    """Run a program of the driver's, for what it does alone, or for what it prints. It need not be there, and need not
    end."""
    try:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, close_fds=True
        )
        return child.communicate(timeout=MAKING)[0].decode("utf-8", "replace")
    except OSError:
        pass
    except subprocess.TimeoutExpired:
        child.kill()  # not waited for: one that hangs in the kernel ends with the machine
    return ""


def known_to_kernel(proc):
    """Names of NVIDIA's devices that have a number, by /proc/devices: those of the modules that are loaded."""
    try:
        with open(proc + "/devices", encoding="utf-8", errors="replace") as handle:
            return set(re.findall(r"^ *[0-9]+ (nvidia\S*)$", handle.read(), re.M))
    except OSError:
        return set()


def read(path):
    """The text of one of the driver's files; "" of one that is gone."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read(4096)
    except OSError:
        return ""


def gpu_minors(proc):
    """Numbers N of /dev/nvidiaN, one for each GPU that the driver has."""
    texts = [read(path) for path in glob.glob(proc + "/driver/nvidia/gpus/*/information")]
    return {number for text in texts for number in re.findall(r"^Device Minor:\s*([0-9]+)$", text, re.M)}


def mig_instances(proc):
    """The instances into which MIG divides GPUs: ``[(number of the GPU, [the driver's two files])]``.

    A CUDA process must be able to read the device files of its compute instance and of the GPU instance around it; the
    driver's files tell which they are (NVIDIA, MIG User Guide, "Device Nodes and Capabilities").
    """
    found = []
    for own in sorted(glob.glob(proc + "/driver/nvidia/capabilities/gpu[0-9]*/mig/gi[0-9]*/ci[0-9]*/access")):
        parts = own.split("/")
        found.append((parts[-5][len("gpu") :], ["/".join(parts[:-2] + parts[-1:]), own]))
    return found


def cap_device(path, dev="/dev"):
    """The device file of one of the driver's files of capabilities. One that tells of none has none, "": its instance
    is gone, or an old driver lets in by the file itself."""
    minor = re.search(r"^DeviceFileMinor: ([0-9]+)$", read(path), re.M)
    return "%s/nvidia-caps/nvidia-cap%s" % (dev, minor.group(1)) if minor else ""


def lacking(files, dev):
    """Those of the driver's files whose device files are not there."""
    devices = [(path, cap_device(path, dev)) for path in files]
    return [path for path, device in devices if device and not os.path.exists(device)]


def make_mig_devices(dev, proc):
    """Make the device files of MIG's instances; what is wrong where no GPU is left that CUDA finds, or "".

    Instances come and go while the driver runs, which makes no device files itself: nvidia-modprobe does, with the mode
    that the driver tells, and leaves alone what an administrator keeps (DeviceFileModify: 0).
    """
    top = proc + "/driver/nvidia/capabilities"
    instances = mig_instances(proc)
    if not instances:
        # Instances are gone after a boot, the mode of an A100 is not.
        if not glob.glob(top + "/gpu[0-9]*/mig"):
            return ""
        modes = told("nvidia-smi", "--query-gpu=mig.mode.current", "--format=csv,noheader").split()
        if not modes or set(modes) != {"Enabled"}:
            return ""
        return (
            "MIG is on and has no instance, so that CUDA finds no GPU, although nvidia-smi shows them: as root on the "
            "machine, nvidia-smi mig -cgi PROFILE -C makes one, nvidia-smi -mig 0 turns it off"
        )
    # Who watches all of them reads the first one.
    every = lacking(dict.fromkeys([top + "/mig/monitor", *[path for _gpu, both in instances for path in both]]), dev)
    if every:
        told("nvidia-modprobe", *[word for path in every for word in ("-f", path)])
    left = [lacking(both, dev) for _gpu, both in instances]
    gpus = gpu_minors(proc)
    # In a container /proc may show instances that are not its own; and a GPU that is not divided can be used.
    if not all(left) or not gpus or gpus - {number for number, _both in instances}:
        return ""
    return (
        "the device files of MIG's instances are not in /dev/nvidia-caps, so that CUDA finds none, although nvidia-smi "
        "shows them: as root on the machine, nvidia-modprobe -f %s -f %s; a container gets the files from the machine "
        "when it is started" % tuple(instances[0][1])
    )


def make_gpu_devices(dev="/dev", proc="/proc"):
    """Make the device files that CUDA needs, where nobody has; what is wrong in the end, one line, or "".

    Where no rule of udev makes them (Ubuntu's driver has one), the driver leaves /dev/nvidia-uvm to the first CUDA
    program after a boot, with nvidia-modprobe, which is setuid root: a service has given that up. nvidia-smi works
    without the file, and some engines compute on the CPU then without a word.
    """

    def there(name):
        return os.path.exists(os.path.join(dev, name))

    def gpus():
        return glob.glob(dev + "/nvidia[0-9]*")

    if there("dxg") or there("nvmap"):
        return ""  # WSL and Jetson: CUDA has other ways there
    if not there("nvidiactl") or not gpus() or not all(there("nvidia" + number) for number in gpu_minors(proc)):
        told("nvidia-smi", "-L")  # as root it loads the driver, and makes its own file and one for each GPU
    if not there("nvidiactl"):
        return (
            "there is no /dev/nvidiactl, so that CUDA will not start: NVIDIA's driver is not loaded, or this container "
            "was started without GPUs"
        )
    if not gpus():
        return (
            "there is no /dev/nvidia0, nor another GPU's file, so that CUDA finds no GPU: the driver has none, or this "
            "container was started without GPUs"
        )
    if not there("nvidia-uvm"):
        told("nvidia-modprobe", "-u", "-c=0")
    if not there("nvidia-uvm"):
        return (
            "there is no /dev/nvidia-uvm, so that CUDA will not start, although nvidia-smi works: as root on the "
            "machine, nvidia-modprobe -u -c=0; a container gets the file from the machine when it is started"
        )
    return make_mig_devices(dev, proc)


def say(line):
    """A line for the service's log."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def gpu_devices(dev="/dev", proc="/proc"):
    """Before a unit's service: the exit status. It is not started without GPUs, but tried again until they are there:
    llama.cpp and Ollama would serve from the CPU without a word.

    systemd has resolved by now which devices the unit may make and use, by the numbers that the kernel gave them, and
    knows none of a module that was loaded just now: the next start does.
    """
    before = known_to_kernel(proc)
    problem = make_gpu_devices(dev, proc)
    if known_to_kernel(proc) - before:
        say("the driver's modules were not all loaded until now: starting again with them")
        return 1
    if problem:
        say(problem)
    return int(bool(problem))


def main(argv):
    if argv == ["--gpu-devices"]:
        return gpu_devices()
    parser = argparse.ArgumentParser()
    for option in ("name", "user", "run", "environment", "revision", "nofile", "memlock"):
        parser.add_argument("--" + option, required=True)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--tmp", default="")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(argv)
    account = pwd.getpwnam(options.user)
    # An engine's main process that dies on its own (killed for memory, crashed) leaves its workers, which hold the
    # GPUs' memory and would keep the next start from it. systemd ends a unit's control group; here a start ends the
    # process group of the start before.
    group = note_path(options.run, options.name, "group")
    before = read_note(group)
    if before != own_group():
        kill(before, account.pw_uid)
    write_note(group, own_group())
    write_note(note_path(options.run, options.name, "revision"), options.revision)
    with open(options.environment, encoding="utf-8") as handle:
        given = environment_of(handle.read())
    environment = dict(inherited(os.environ), USER=options.user, LOGNAME=options.user)
    if options.gpu:
        problem = make_gpu_devices()
        if problem:  # as `gpu_devices`; supervisor tries again, too
            say(problem)
            return 1
    infinity = resource.RLIM_INFINITY
    limit(resource.RLIMIT_NOFILE, int(options.nofile))
    limit(resource.RLIMIT_MEMLOCK, infinity if options.memlock == "infinity" else int(options.memlock))
    # A dump of its memory would hold the API key and the users' questions.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    drop_rights(account)
    if options.tmp and "TMPDIR" not in given:
        environment.update(make_tmp(options.tmp))
    environment.update(given)
    os.execvpe(options.command[0], options.command, environment)


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except OSError as error:  # a full disk, a program that is gone: one line for the service's log
        raise SystemExit("the service cannot start: %s" % error) from None
