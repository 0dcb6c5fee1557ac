#!/bin/bash
# On the host, once: the package index as a service on loopback, the product from its checkout, facts on the GPUs.
# prepare.sh CHECKOUT.tar
. "$(dirname "$0")/env.sh"
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p $LAB/repo && tar -xf "$1" -C $LAB/repo
# Where a container gets its driver by a variable alone, a service would not find it.
if ! ldconfig -p | grep -q libcuda.so.1 && [ -d /usr/local/nvidia/lib64 ]; then
    echo /usr/local/nvidia/lib64 >/etc/ld.so.conf.d/gpu-lab.conf
    ldconfig
fi
# What builds llama.cpp may lie in an environment of the image, and apt has nothing to install it from.
for program in cmake ninja; do
    for place in /opt/*/.venv/bin/$program; do
        command -v $program >/dev/null || [ ! -e "$place" ] || ln -s "$place" /usr/local/bin/$program
    done
done
setsid python3 -m http.server 8099 --bind 127.0.0.1 --directory $LAB/index >$LAB/out/index.log 2>&1 </dev/null &
nvidia-smi -q -x >$LAB/out/nvidia-smi-q.xml
nvidia-smi topo -m >$LAB/out/nvidia-smi-topo.txt
nvidia-smi -q >$LAB/out/nvidia-smi-q.txt
(nvidia-smi nvlink -s; nvidia-smi --query-gpu=index,memory.total,memory.reserved,memory.used,memory.free --format=csv) >$LAB/out/nvidia-smi-more.txt 2>&1
say "host: $(nproc) cores, $(nvidia-smi --query-gpu=name --format=csv,noheader | sort | uniq -c | tr -s ' ')"
