#!/bin/bash
# lanes.sh: every step whose evidence is wanted first, side by side as far as the GPUs allow: with four GPUs the product
# at TP 2 on two of them and what is by hand on the others; then R1 whole, then SGLang.
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

# Whether all of a set of wheels is made.
made() { [ "$(ls $LAB/in/$1/*.json 2>/dev/null | wc -l)" = "$(ls $LAB/in/$1/*.built 2>/dev/null | wc -l)" ] && ls $LAB/in/$1/*.built >/dev/null 2>&1; }

($plan models; $plan fill) >$LAB/out/lane-models.log 2>&1 &
# One deployment of the product at a time; what is by hand has the other GPUs.
if ((count >= 4)); then
    (
        $plan hand seed
        touch $LAB/out/seeded
        $plan awq_vllm
        touch $LAB/out/beside.done
    ) >$LAB/out/lane-B.log 2>&1 &
    $plan command vllm_up compare said
    until_there 150 $LAB/out/seeded
    $plan vllm_again
    until_there 60 $LAB/out/beside.done
    $plan whole sglang_up sglang_awq deep
else
    # On two, what is by hand has a share of the same GPUs, and SGLang's environment is made while it starts.
    $plan hand >$LAB/out/lane-B.log 2>&1 &
    $plan command vllm_up
    for _ in $(seq 60); do made sglang && break; sleep 1; done
    made sglang && $plan sglang_installed
    $plan compare seed
    if ls -d /opt/dsdeploy/sglang/*/bin/python >/dev/null 2>&1; then SGLANG_SHARE=0.15 $plan sglang_awq >$LAB/out/lane-C.log 2>&1 & fi
    $plan vllm_again
    made sglang && until_there 60 $LAB/out/awqsgl.done
    $plan whole
    made sglang && $plan sglang_up
    $plan deep
fi
touch $LAB/out/all.done
