# What every step on the host sources: places, a plain PATH, and NVLink multicast switched off.
export LAB=${LAB:-/lab}
mkdir -p $LAB/in $LAB/out $LAB/m $LAB/index
export PATH=/usr/local/nvidia/bin:/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# The index that prepare.sh serves; nothing else is asked.
export PIP_INDEX_URL=http://127.0.0.1:8099
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1
unset VIRTUAL_ENV PYTHONDONTWRITEBYTECODE
# On a host whose NVSwitch others share, a program that makes a multicast object can take the GPUs from all of them.
export NCCL_NVLS_ENABLE=0 TORCH_SYMM_MEM_DISABLE_MULTICAST=1 NVSHMEM_DISABLE_NVLS=1
export VLLM_ALLREDUCE_USE_FLASHINFER=0 VLLM_ALLREDUCE_USE_SYMM_MEM=0
NO_MULTICAST_VLLM=(--compilation-config '{"pass_config": {"fuse_allreduce_rms": false}}')
NO_MULTICAST_SGLANG=(--enforce-disable-flashinfer-allreduce-fusion --disable-custom-all-reduce)

say() { printf '%s %s\n' "$(date +%T)" "$*" >>$LAB/out/timeline; }

# wait_ready URL PID SECONDS: until it answers; fails when the process ends or the time is over. Prints the seconds.
wait_ready() {
    local start=$SECONDS
    until curl -sf -o /dev/null -m 5 "$1"; do
        kill -0 "$2" 2>/dev/null || return 1
        ((SECONDS - start < $3)) || return 2
        sleep 0.5
    done
    echo $((SECONDS - start))
}

# hold NAME PORT COMMAND...: start a server in a session of its own; its pid is in out/NAME.pid, its log in out/NAME.log.
hold() {
    local name=$1 port=$2
    shift 2
    say "$name: start: $*"
    setsid "$@" >$LAB/out/$name.log 2>&1 </dev/null &
    echo $! >$LAB/out/$name.pid
    local took
    if took=$(wait_ready "http://127.0.0.1:$port/health" $! "${LIMIT:-420}"); then
        say "$name: ready after $took s"
        echo "$took" >$LAB/out/$name.ready
    else
        say "$name: NOT ready: $(grep -E 'Error|error' $LAB/out/$name.log | grep -v Warn | tail -1 | cut -c1-240)"
        drop $name
        return 1
    fi
}

# drop NAME: end the session of a server, all of it.
drop() {
    local pid
    pid=$(cat $LAB/out/$1.pid 2>/dev/null) || return 0
    kill -TERM -- -$pid 2>/dev/null
    for _ in $(seq 40); do pgrep -s $pid >/dev/null || break; sleep 0.5; done
    pkill -KILL -s $pid 2>/dev/null
    rm -f $LAB/out/$1.pid
    say "$1: ended"
}

# question NAME PORT: one chat, its answer's beginning in the timeline.
question() {
    local model answer
    model=$(curl -sf -m 20 http://127.0.0.1:$2/v1/models | python3 -c 'import json,sys; print(json.load(sys.stdin)["data"][0]["id"])')
    answer=$(curl -s -m 180 http://127.0.0.1:$2/v1/chat/completions -H 'Content-Type: application/json' -d \
        "{\"model\": \"$model\", \"messages\": [{\"role\": \"user\", \"content\": \"What is 2 + 2?\"}], \"max_tokens\": 12}")
    say "$1: answers: $(echo "$answer" | cut -c1-330)"
    nvidia-smi --query-gpu=index,memory.used --format=csv,noheader | tr '\n' ';' | sed "s/^/$(date +%T) $1: GPU memory /" >>$LAB/out/timeline
    echo >>$LAB/out/timeline
}
