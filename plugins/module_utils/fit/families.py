# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Families of models whose config.json says too little: what they leave out, and which of them write no text. Pure.

Sources: configuration_*.py of transformers 5.19 (values of the classes), model_executor/models/registry.py of vLLM.
"""

from __future__ import annotations

import re

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure


class NoText(Failure):
    """The model writes no text, so that no engine here can serve it as one that answers."""


# Values of the classes, which hold where a config.json has no such key. Whole sizes only inside another model's
# config: LLaVA, PaliGemma and the small Gemma 3 leave out what is as in the class.
WHOLE = {
    "llama": {"num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "intermediate_size": 11008,
              "vocab_size": 32000, "max_position_embeddings": 2048},
    "mistral": {"num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "intermediate_size": 14336,
                "vocab_size": 32000, "max_position_embeddings": 131072},
    "gemma": {"num_hidden_layers": 28, "hidden_size": 3072, "num_attention_heads": 16, "intermediate_size": 24576,
              "vocab_size": 256000, "max_position_embeddings": 8192},
    "gemma2": {"num_hidden_layers": 26, "hidden_size": 2304, "num_attention_heads": 8, "intermediate_size": 9216,
               "vocab_size": 256000, "max_position_embeddings": 8192},
    "gemma3_text": {"num_hidden_layers": 26, "hidden_size": 2304, "num_attention_heads": 8, "intermediate_size": 9216,
                    "vocab_size": 262208, "max_position_embeddings": 131072},
    "qwen2": {"num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "intermediate_size": 22016,
              "vocab_size": 151936, "max_position_embeddings": 32768},
}  # fmt: skip
PARTS = {
    "mistral": {"num_key_value_heads": 8, "sliding_window": 4096},
    "mixtral": {"num_key_value_heads": 8},
    "gemma": {"num_key_value_heads": 16, "head_dim": 256},
    "gemma2": {"num_key_value_heads": 4, "head_dim": 256, "sliding_window": 4096},
    "gemma3_text": {"num_key_value_heads": 4, "head_dim": 256, "sliding_window": 4096},
    "qwen3": {"num_key_value_heads": 32, "head_dim": 128},
    "cohere2": {"sliding_window": 4096},
    "starcoder2": {"num_key_value_heads": 2},
    "gpt_oss": {"num_key_value_heads": 8, "head_dim": 64, "sliding_window": 128},
    "gpt_neo": {"attention_types": [[["global", "local"], 12]], "window_size": 256},
}

# Read a text, and write none: what they keep is no cache.
ENCODERS = frozenset(
    """
albert bert bert-generation big_bird bros camembert canine convbert data2vec-text deberta deberta-v2 distilbert electra
embedding_gemma2 ernie esm esmc eurobert flaubert fnet funnel gte ibert jina_embeddings_v3 layoutlm layoutlmv2
layoutlmv3 layoutxlm lilt longformer luke markuplm megatron-bert mobilebert modernbert modernvbert mpnet mra neomme new
nezha nomic_bert nystromformer openai_privacy_filter qdqbert rembert roberta roberta-prelayernorm roc_bert roformer
splinter squeezebert tapas xlm xlm-roberta xlm-roberta-xl xmod yoso
aimv2 align altclip bridgetower chinese_clip clap clip clipseg colmodernvbert colpali colqwen2 dac decision_transformer
dpr encodec flava grounding-dino groupvit hubert lightglue metaclip_2 mimi mm-grounding-dino omdet-turbo owlv2 owlvit
patchtst sam sam2 sam3 siglip siglip2 timesfm timesfm2_5 vilt visual_bert wav2vec2 wav2vec2-bert wavlm x_clip xclip
""".split()
)
# Read with one stack of layers and write with another, which keeps what the first has read besides its own.
TWO_STACKS = frozenset(
    """
bart bigbird_pegasus blenderbot blenderbot-small canary encoder-decoder fsmt led longt5 m2m_100 marian mbart moonshine
mt5 mvp nllb-moe pegasus pegasus_x pix2struct plbart prophetnet seamless_m4t seamless_m4t_v2 speech_to_text speecht5
switch_transformers t5 t5gemma t5gemma2 trocr udop umt5 vision-encoder-decoder whisper
""".split()
)
# Write all places of a text at once, again and again.
DIFFUSION = frozenset(("diffusion_gemma", "dream", "Dream", "llada", "llada_moe", "sdar", "sdar_moe"))
# Heads of models that judge, sort or measure a text (the end of the class's name).
_NO_TEXT = re.compile(
    r"For(MaskedLM|SequenceClassification|TokenClassification|QuestionAnswering|MultipleChoice|RewardModel|"
    r"ProcessRewardModel|Retrieval|Ranking|JointSchema|ImageClassification|AudioClassification|ObjectDetection|"
    r"NextSentencePrediction|CTC|Embedding|TextEncoding)$|EmbeddingModel$|EmbedModel$|BidirectionalModel$|RewardModel$|"
    r"^(Bert|Roberta|XLMRoberta|ModernBert|Gte|GteNew|NomicBert|New|CLIP|Siglip|Qwen[23]|Llama|Mistral|Gemma[23]?|"
    r"Gemma3Text|Phi3|JinaBert)Model$"
)
_PICTURES = ("image_size", "num_mel_bins", "num_channels", "conv_stride", "patch_size")


def no_text(config, around=False):
    """Why a model writes no text, in a few words; empty where it does, or where nothing says that it does not.

    :param around: whether the language model's own part is inside of this config.
    """
    if not isinstance(config, dict):
        return ""
    kind = config.get("model_type")
    kind = kind if isinstance(kind, str) else ""
    classes = config.get("architectures")
    classes = [one for one in classes if isinstance(one, str)] if isinstance(classes, list) else []
    if kind in TWO_STACKS or config.get("is_encoder_decoder") is True:
        return "an encoder with a decoder (%s)" % (kind or "is_encoder_decoder")
    if kind in ENCODERS:
        return "an encoder (%s), which writes no text" % kind
    if kind in DIFFUSION:
        return "a diffusion model (%s)" % kind
    if classes and all(_NO_TEXT.search(one) for one in classes):
        return "a reward or embedding model (%s)" % classes[0][:60]
    if (
        not around
        and not any(name in config for name in ("vocab_size", "padded_vocab_size"))
        and any(isinstance(config.get(name), (int, list)) for name in _PICTURES)
    ):
        return "an image or audio model (%s), which has no vocab_size" % (kind or "no model_type")
    return ""


# Names of llama.cpp (src/llama-arch.cpp) for the same.
_GGUF_ENCODERS = frozenset(
    """
bert clip eurobert gemma-embedding jina-bert-v2 jina-bert-v3 modern-bert neo-bert nomic-bert nomic-bert-moe
wavtokenizer-dec
""".split()
)
_GGUF_OTHERS = {
    "t5": "an encoder with a decoder (t5)",
    "t5encoder": "an encoder (t5encoder), which writes no text",
    "dream": "a diffusion model (dream)",
    "llada": "a diffusion model (llada)",
    "llada-moe": "a diffusion model (llada-moe)",
    "rnd1": "a diffusion model (rnd1)",
}


def no_text_gguf(architecture, value):
    """The same of a GGUF header; ``value``: key -> value or None."""
    if architecture in _GGUF_ENCODERS:
        return "an encoder (%s), which writes no text" % architecture
    if architecture in _GGUF_OTHERS:
        return _GGUF_OTHERS[architecture]
    if value(architecture + ".attention.causal") is False:
        return "an encoder (%s without attention.causal)" % architecture[:60]
    pooling = value(architecture + ".pooling_type")
    if isinstance(pooling, int) and not isinstance(pooling, bool) and pooling > 0:  # 0: none (llama.h)
        return "an embedding model (%s with pooling_type %d)" % (architecture[:60], pooling)
    return ""


def completed(config, nested):
    """A config with the values of its class, where they decide on the cache and the file does not hold them."""
    kind = config.get("model_type")
    if not isinstance(kind, str):
        return config
    values = dict(PARTS.get(kind, ()))
    if nested:
        values.update(WHOLE.get(kind, ()))
    return dict(values, **config) if values else config
