#!/bin/bash
# lanes.sh: every step whose evidence is wanted first, side by side as far as the GPUs allow: with four GPUs first R1
# whole on all of them, then the product at TP 2 on two and what is by hand on the others, then SGLang.
. "$(dirname "$0")/jobs.sh"
plan=$here/host/plan.sh
read -r count total < <(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits |
    awk '{count++; total = $1} END {print count, total}')
# R1's layers in AWQ, 5.8 GiB each, in what the GPUs hold less overhead and embeddings.
export AWQ_LAYERS=${AWQ_LAYERS:-$(awk "BEGIN {fit = int(($count * ($total / 1024 * 0.92 - 9) - 4) / 5.8); print fit < 61 ? fit : 61}")}
export FP8_LAYERS=${FP8_LAYERS:-5}
say "lanes: $count GPUs, AWQ with $AWQ_LAYERS layers"

# until_there SECONDS FILE: wait for a file, not for ever.
until_there() {
    local end=$((SECONDS + $1))
    until [ -e "$2" ]; do
        ((SECONDS < end)) || { say "not waited for any longer: $2"; return; }
        sleep 0.5
    done
}

($plan models; $plan fill) >$LAB/out/lane-models.log 2>&1 &
# One deployment of the product at a time; what is by hand has the other GPUs.
if ((count >= 4)); then
    export SHARE=${SHARE:-0.7} # leaves what preflight asks of them for SGLang's environment
    $plan command whole
    (
        $plan nnodes
        $plan awq_vllm &
        $plan mtp
        wait
        touch $LAB/out/beside.done
    ) >$LAB/out/lane-B.log 2>&1 &
    $plan forget_compiled vllm_up sglang_installed
    until_there 240 $LAB/out/nnodes.done
    $plan vllm_again
    until_there 240 $LAB/out/beside.done
    $plan sglang_awq dp_attention >$LAB/out/lane-C.log 2>&1 &
    $plan sglang_up deep
    wait $!
elif ((count >= 2)); then
    # On two, the product, the same by hand and the seed's flags have a share of the same GPUs, each of them measured before
    # the next begins; SGLang's environment is made while they start.
    export SHARE=${SHARE:-0.33} BESIDE=${BESIDE:-0.28}
    $plan hand >$LAB/out/lane-B.log 2>&1 &
    $plan seed >$LAB/out/lane-C.log 2>&1 &
    $plan command vllm_up sglang_installed
    (
        $plan sglang_marlin # on the cores alone
        until_there 300 $LAB/out/nnodes0.measured
        SGLANG_SHARE=0.3 LIMIT=600 $plan sglang_awq
    ) >$LAB/out/lane-E.log 2>&1 &
    $plan compare
    $plan nnodes >$LAB/out/lane-D.log 2>&1 &
    until_there 240 $LAB/out/nnodes.done
    $plan vllm_again
    until_there 420 $LAB/out/awqsgl.done
    $plan sglang_up mtp_up whole deep
else
    # On one, SGLang first; AWQ on SGLang beside the others, because its kernels are compiled for minutes, each on one core.
    # R1 in AWQ, as deep as fits, has the whole GPU after it.
    export SGLANG_SHARE=0.2 SGLANG_SAID=yes SGLANG_LIMIT=300 CHAT_MINUTES=${CHAT_MINUTES:-0.5}
    $plan command sglang_installed
    # One run of the product at a time: what builds llama.cpp for minutes comes last.
    LIMIT=600 $plan sglang_marlin sglang_awq >$LAB/out/lane-E.log 2>&1 &
    SGLANG_WORDS="sglang_mem_fraction_static: 0.4" $plan sglang_up
    MTP_SHARE=0.6 $plan mtp_up
    until_there 420 $LAB/out/awqsgl.done
    $plan whole llama llama_seed deep
fi
touch $LAB/out/all.done
