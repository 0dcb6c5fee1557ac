#!/bin/bash
# plan.sh STEP...: one step after the other; each begins when the wheels that it needs are there. lanes.sh runs them all,
# side by side as far as the GPUs allow.
. "$(dirname "$0")/jobs.sh"
COUNT=$(nvidia-smi -L | wc -l)
TP=$((COUNT >= 2 ? 2 : 1))
A=${A:-$([ $TP = 2 ] && echo 0,1 || echo 0)} B=2,3
((COUNT >= 4)) || B=$A
FP8_LAYERS=${FP8_LAYERS:-$((COUNT >= 4 ? 8 : 5))}
# What the product and what is by hand, side by side on the same GPUs, may take of the memory.
SHARE=${SHARE:-$([ $TP = 2 ] && echo 0.45 || echo 0.85)}
BESIDE=${BESIDE:-0.45}
SMALL=(--gpu-memory-utilization $BESIDE --max-model-len 8192 --max-num-seqs 128 --cudagraph-capture-sizes 1 2 4 8 16 32 64 128)

# complete SET: wait until all its wheels are made.
complete() {
    until [ -d $LAB/in/$1 ] && [ "$(ls $LAB/in/$1/*.json 2>/dev/null | wc -l)" = "$(ls $LAB/in/$1/*.built 2>/dev/null | wc -l)" ] &&
        ls $LAB/in/$1/*.built >/dev/null 2>&1; do sleep 0.5; done
    python3 $here/wheels.py unpack $LAB/in/$1 $LAB/index >/dev/null
    say "wheels of $1: there"
}

free_gpus() {
    for _ in $(seq 60); do
        [ "$(nvidia-smi -i "$1" --query-gpu=memory.used --format=csv,noheader,nounits | sort -n | tail -1)" -lt 1000 ] && return
        sleep 0.5
    done
    say "GPUs $1 are not free: $(nvidia-smi --query-compute-apps=pid,used_memory --format=csv,noheader | tr '\n' ';')"
}

kept() { cp -p /var/log/dsdeploy/$2.log $LAB/out/service-$1.log 2>/dev/null; }

step_command() {
    complete own
    (cd $LAB/repo && PATH=/usr/bin:$PATH ./dsdeploy --version) >>$LAB/out/command.log 2>&1
    say "command: $(tail -1 $LAB/out/command.log)"
}

step_models() {
    model fp8 r1-fp8 --layers $FP8_LAYERS --dense 1
    mkdir -p $LAB/m/r1-gguf
    [ -e $LAB/m/r1-gguf/r1.gguf ] || python3 $here/make_r1_gguf.py $LAB/m/r1-gguf/r1.gguf --layers ${GGUF_LAYERS:-16} >>$LAB/out/models.log 2>&1
    touch $LAB/out/gguf.made
    model awq r1-awq-3 --layers 3 --dense 1 --experts 16
    model w4afp8 r1-w4afp8-3 --layers 3 --dense 1 --experts 16
    model awq r1-awq --layers "${AWQ_LAYERS:-61}"
    model fp8 r1-fp8-mtp --layers 4 --dense 1 --mtp
    say "models: $(grep -c GiB $LAB/out/models.log) made"
}

# What the engines read soon, in the page cache: a machine's memory may be slow when it is touched for the first time.
step_fill() {
    until [ -e $LAB/m/r1-awq/config.json ]; do sleep 0.5; done
    printf '%s\0' $LAB/m/r1-fp8/*.safetensors $LAB/m/r1-w4afp8-3/*.safetensors $LAB/m/r1-awq/*.safetensors |
        xargs -0 -n 1 -P ${FILLERS:-8} cat >/dev/null
    say "page cache: $(awk '/^Cached/ {print int($2 / 1048576) " GiB"}' /proc/meminfo)"
}

# llama.cpp: every layer on the GPUs, then the share that the seed had there, 16 of 61.
step_llama() {
    until [ -e $LAB/out/gguf.made ]; do sleep 0.5; done
    gguf_inventory llama all
    product up llama && {
        question llama 8080
        bench llama all=http://127.0.0.1:8080 --streams 1 --rounds 3 --tokens 128
    }
    kept llama dsdeploy-llama-cpp
    product down llama
    nvidia-smi --query-gpu=index,memory.used --format=csv,noheader >$LAB/out/llama-after-down.txt
    touch $LAB/out/llama.done
}

step_llama_seed() {
    ls /opt/dsdeploy/llama_cpp/source-*/bin/llama-server && LIMIT=150 llama_hand llama-seed 8081 -ngl $((${GGUF_LAYERS:-16} * 16 / 61)) && {
        bench llama-seed seed=http://127.0.0.1:8081 --streams 1 --rounds 2 --tokens 32
        drop llama-seed
    }
}

# What doctor, plan and the facts say of the host itself, before anything is deployed; then what loads its GPUs.
step_look() {
    complete own
    inventory look vllm r1-fp8 FP8 8 $FP8_LAYERS 1 256
    product doctor look
    product plan look
    cat >$LAB/inv/facts-playbook.yml <<EOF
- hosts: all
  gather_facts: false
  tasks:
    - dsdeploy.llm.nvidia_smi_facts:
      register: found
    - ansible.builtin.copy: {content: "{{ found | to_json }}", dest: $LAB/out/facts.json, mode: "0644"}
EOF
    (cd $LAB/repo && .venv/bin/ansible-playbook -i $LAB/inv/look.yml $LAB/inv/facts-playbook.yml) >$LAB/out/facts.log 2>&1
    nvidia-smi --query-gpu="$(python3 $here/facts_beside.py fields)" --format=csv >$LAB/out/query.csv
    say "facts: $(python3 $here/facts_beside.py $LAB/out/facts.json $LAB/out/query.csv | head -1)"
}

# The product at TP 2, or on the one GPU there is, cold.
step_vllm_up() {
    complete vllm032
    inventory vllm vllm r1-fp8 FP8 8 $FP8_LAYERS 1 256 "vllm_venv_tensor_parallel_size: $TP" "vllm_venv_max_model_len: 8192" \
        "vllm_venv_gpu_memory_utilization: $SHARE"
    product up vllm
    question product 8000
}

# As on a host that has compiled nothing yet.
step_forget_compiled() {
    rm -rf /var/lib/dsdeploy/*/compiled
}

# measured LOG SECONDS: until the server of this log has measured its memory; no other may take any in the meantime.
measured() {
    local end=$((SECONDS + $2))
    until grep -qs "GPU KV cache size" "$1"; do
        ((SECONDS < end)) || return 1
        sleep 0.5
    done
}

# The same by hand with the best flags known: on GPUs of its own, or beside it on the same.
step_hand() {
    if [ $B = $A ]; then measured /var/log/dsdeploy/dsdeploy-vllm.log 1200
    else until [ -e /opt/dsdeploy/vllm/current/bin/vllm ]; do sleep 0.5; done; fi
    vllm_hand $B hand 8100 r1-fp8 --tensor-parallel-size $TP "${SMALL[@]}"
}

# The seed's flags, beside what is by hand.
step_seed() {
    measured $LAB/out/hand.log 1500 || return
    vllm_hand $B seed 8110 r1-fp8 --tensor-parallel-size $TP --enforce-eager --dtype float16 --max-model-len 8192 \
        --gpu-memory-utilization $BESIDE
}

# All three in turns.
step_compare() {
    local servers=(product=http://127.0.0.1:8000)
    for _ in $(seq 240); do
        [ -e $LAB/out/hand.ready ] && [ -e $LAB/out/seed.ready ] && break
        sleep 1
    done
    [ -e $LAB/out/hand.ready ] && servers+=(hand=http://127.0.0.1:8100)
    [ -e $LAB/out/seed.ready ] && servers+=(seed=http://127.0.0.1:8110)
    bench compare "${servers[@]}" --tokens 128
    drop hand
    drop seed
    touch $LAB/out/compared
}

step_vllm_again() {
    product up vllm
    kept vllm-cold dsdeploy-vllm
    product down vllm
    free_gpus $A
    nvidia-smi --query-gpu=index,memory.used --format=csv,noheader >$LAB/out/after-down.txt
    product up vllm
    kept vllm-warm dsdeploy-vllm
    # With four GPUs that is asked of R1 whole.
    ((COUNT >= 4)) || { step_said vllm; step_proven vllm; }
    product down vllm
    free_gpus $A
}

# What the product itself measures and says, while it serves.
step_said() {
    local name=${1:-vllm}
    product status $name --json
    product doctor $name --json
    product plan $name --explain
}

# Its own measurements, of which a report is made.
step_proven() {
    local name=${1:-vllm}
    product bench $name --profile quick --results $LAB/out/bench-product
    product bench $name --profile chat --budget ${CHAT_MINUTES:-0.7} --results $LAB/out/bench-product
}

# What takes minutes and loads the GPUs, on free ones.
step_deep() {
    product doctor vllm --deep --json
}

# AWQ in R1's names and packing, and speculative decoding, by hand on one GPU each: the last, and the first.
step_awq_vllm() {
    free_gpus ${B#*,}
    vllm_hand ${B#*,} awq 8200 r1-awq-3 --tensor-parallel-size 1 "${SMALL[@]}" && {
        question awq 8200
        bench awq awq=http://127.0.0.1:8200 --rounds 2
        drop awq
    }
}

# The same by the product, on one GPU.
step_mtp_up() {
    complete vllm032
    inventory mtp vllm r1-fp8-mtp FP8 8 4 1 256 "vllm_venv_tensor_parallel_size: 1" "vllm_venv_max_model_len: 8192" \
        "vllm_venv_gpu_memory_utilization: ${MTP_SHARE:-0.85}" \
        "vllm_venv_extra_args: [--speculative-config, '{\"method\": \"mtp\", \"num_speculative_tokens\": 1}']"
    product up mtp
    question mtp 8000
    bench mtp mtp=http://127.0.0.1:8000 --streams 1,32 --rounds 2
    kept mtp dsdeploy-vllm
    product down mtp
    free_gpus 0
}

step_mtp() {
    free_gpus ${B%,*}
    vllm_hand ${B%,*} mtp 8300 r1-fp8-mtp "${SMALL[@]}" --gpu-memory-utilization 0.9 \
        --speculative-config '{"method": "mtp", "num_speculative_tokens": 1}' && {
        question mtp 8300
        drop mtp
    }
    free_gpus ${B%,*}
    vllm_hand ${B%,*} nomtp 8300 r1-fp8-mtp "${SMALL[@]}" --gpu-memory-utilization 0.9 && drop nomtp
}

# R1 in AWQ through the product, as many layers as there are.
step_whole() {
    complete vllm032
    local layers=${AWQ_LAYERS:-61}
    inventory whole vllm r1-awq AWQ 4.35 $layers 3 256 "vllm_venv_tensor_parallel_size: $COUNT" "vllm_venv_max_model_len: 8192"
    product up whole
    question whole 8000
    bench whole whole=http://127.0.0.1:8000 --streams 1,32 --rounds 2
    step_said whole
    step_proven whole
    product up whole
    kept whole dsdeploy-vllm
    product down whole
    free_gpus 0
    nvidia-smi --query-gpu=index,memory.used --format=csv,noheader >$LAB/out/whole-after-down.txt
}

# Only its environment, while something else serves.
step_sglang_installed() {
    complete sglang
    inventory sglang1 sglang r1-w4afp8-3 W4AFP8 4.35 3 1 16 "sglang_tensor_parallel_size: $TP" "sglang_context_length: 8192" \
        "sglang_mem_fraction_static: 0.1" # what the others leave; preflight asks for room
    product up sglang1 --tags install
}

# SGLang through the product, W4AFP8, which is what inventories/ctyun serves; then FP8.
step_sglang_up() {
    complete sglang
    local words=("sglang_tensor_parallel_size: $TP" "sglang_context_length: 8192")
    inventory sglang1 sglang r1-w4afp8-3 W4AFP8 4.35 3 1 16 "${words[@]}" "sglang_start_timeout: ${SGLANG_LIMIT:-240}" ${SGLANG_WORDS:+"$SGLANG_WORDS"}
    product up sglang1 || {
        kept sglang1-first dsdeploy-sglang
        inventory sglang1 sglang r1-w4afp8-3 W4AFP8 4.35 3 1 16 "${words[@]}" "sglang_environment: {SGLANG_ENABLE_JIT_DEEPGEMM: '0'}"
        product up sglang1
    }
    question sglang1 30000
    bench sglang1 sglang1=http://127.0.0.1:30000 --streams 1,32 --rounds 2
    product up sglang1
    [ -z "${SGLANG_SAID:-}" ] || step_said sglang1
    kept sglang1 dsdeploy-sglang
    product down sglang1
    free_gpus $A
}

step_sglang_fp8() {
    inventory sglang sglang r1-fp8 FP8 8 $FP8_LAYERS 1 256 "sglang_tensor_parallel_size: $TP" "sglang_context_length: 8192" \
        "sglang_start_timeout: ${LIMIT:-240}"
    product up sglang
    question sglang 30000
    bench sglang sglang=http://127.0.0.1:30000 --rounds 2
    [ -z "${SGLANG_PROVEN:-}" ] || { step_said sglang; step_proven sglang; }
    kept sglang dsdeploy-sglang
    product down sglang
    free_gpus $A
}

# Marlin's kernels, which AWQ needs there, all at once, into the cache of the next step.
step_sglang_marlin() {
    local python
    python=$(ls -d /opt/dsdeploy/sglang/*/bin/python | tail -1)
    SGLANG_JIT_CACHE_DIR=$LAB/cache-awqsgl/jit PATH=$(dirname $python):$PATH $python $here/host/marlin_compile.py \
        bfloat16 --experts >$LAB/out/marlin.log 2>&1
    say "marlin: $(tail -1 $LAB/out/marlin.log | cut -c1-300)"
}

step_sglang_awq() {
    # Its environment may be made and not yet switched to.
    SGLANG=$(ls -d /opt/dsdeploy/sglang/*/bin/python | tail -1)
    export SGLANG_JIT_CACHE_DIR=$LAB/cache-awqsgl/jit
    # In float16, which its files say, a kernel for all heads on one GPU does not start.
    local small=(--dtype bfloat16 --context-length 8192 --cuda-graph-max-bs-decode 32
        ${SGLANG_SHARE:+--mem-fraction-static $SGLANG_SHARE})
    [ -n "${SGLANG_SHARE:-}" ] || free_gpus ${B#*,}
    sglang_hand ${B#*,} awqsgl 30200 r1-awq-3 "${small[@]}" && {
        question awqsgl 30200
        bench awqsgl a=http://127.0.0.1:30200 --streams 1,32 --rounds 2
        drop awqsgl
    }
    [ -n "${SGLANG_SHARE:-}" ] || free_gpus ${B#*,}
    # The catalog's recipe.
    sglang_hand ${B#*,} awqmoe 30200 r1-awq-3 "${small[@]}" --quantization moe_wna16 && { question awqmoe 30200; drop awqmoe; }
    touch $LAB/out/awqsgl.done
}

# AWQ with the lock of CUDA 12.
step_vllm_0191() {
    complete vllm0191
    inventory old vllm r1-awq-3 AWQ 4.35 3 1 16 "vllm_venv_tensor_parallel_size: 1" "vllm_venv_max_model_len: 8192" "vllm_venv_version: 0.19.1"
    product up old
    question old 8000
    kept old dsdeploy-vllm
    product down old
}

# Two "hosts" of one GPU each, in turns with the product on two GPUs of one host where that serves.
step_nnodes() {
    # Both have one name here, so vLLM takes them for one host, and each sees one GPU: its custom all-reduce asks for the other's.
    local both=(--tensor-parallel-size $TP --nnodes 2 --master-addr 127.0.0.1 --master-port 29501 --disable-custom-all-reduce
        "${SMALL[@]}" "${NO_MULTICAST_VLLM[@]}")
    local servers=(two_nodes=http://127.0.0.1:8400)
    until [ -e $VLLM ]; do sleep 0.5; done
    curl -sf -o /dev/null http://127.0.0.1:8000/health || free_gpus $B
    CUDA_VISIBLE_DEVICES=${B#*,} VLLM_USE_DEEP_GEMM=0 VLLM_PORT=9500 VLLM_CACHE_ROOT=$LAB/cache-nnodes1 TRITON_CACHE_DIR=$LAB/cache-nnodes1/triton \
        PATH=$(dirname $VLLM):$PATH setsid $(dirname $VLLM)/vllm serve $LAB/m/r1-fp8 --node-rank 1 --headless "${both[@]}" \
        >$LAB/out/nnodes1.log 2>&1 </dev/null &
    echo $! >$LAB/out/nnodes1.pid
    (measured $LAB/out/nnodes0.log 240; touch $LAB/out/nnodes0.measured) &
    LIMIT=240 vllm_hand ${B%,*} nnodes0 8400 r1-fp8 --node-rank 0 "${both[@]}" && {
        question nnodes0 8400
        # With four GPUs it starts beside it.
        ((COUNT < 4)) || wait_ready http://127.0.0.1:8000/health $$ 120 >/dev/null
        ! curl -sf -o /dev/null http://127.0.0.1:8000/health || servers+=(one_node=http://127.0.0.1:8000)
        bench nnodes "${servers[@]}" --streams 1,32 --rounds 3 --tokens 128
    }
    drop nnodes0
    drop nnodes1
    touch $LAB/out/nnodes.done
}

step_dp_attention() {
    free_gpus $B
    sglang_hand $B dpattn 30300 r1-fp8 --tp 2 --dp 2 --enable-dp-attention --context-length 8192 --cuda-graph-max-bs-decode 32 && {
        question dpattn 30300
        bench dpattn d=http://127.0.0.1:30300 --streams 1,32 --rounds 2
        drop dpattn
    }
}

for step in "$@"; do
    say "step $step"
    step_$step 2>>$LAB/out/steps.log
done
say "end of: $*"
