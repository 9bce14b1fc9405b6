"""Every model of several kinds of input that is read: class, language model, encoders."""

from collections.abc import Callable

from model.config_keys import Config, nested
from model.encoders import images, joined, joined_sounds, peak
from model.families.wrapper import Beside, Wrapper


def _vision(count: Callable[[Config], int]) -> Beside:
    """What stands in ``vision_config`` is all."""
    return lambda config, text: count(nested(config, "vision_config"))


WRAPPERS: dict[str, Wrapper] = {
    "llava": Wrapper(
        class_names=("LlavaForConditionalGeneration",), beside=joined.llava, text_type="llama"
    ),
    "llava_next": Wrapper(
        class_names=("LlavaNextForConditionalGeneration",),
        beside=joined.llava_next,
        text_type="llama",
    ),
    "mistral3": Wrapper(
        class_names=("Mistral3ForConditionalGeneration",),
        beside=joined.mistral3,
        text_type="mistral",
    ),
    "llama4": Wrapper(
        class_names=("Llama4ForConditionalGeneration",),
        beside=joined.llama4,
        text_type="llama4_text",
    ),
    "gemma3": Wrapper(
        class_names=("Gemma3ForConditionalGeneration",),
        beside=joined.gemma3,
        text_type="gemma3_text",
    ),
    "gemma4": Wrapper(
        class_names=("Gemma4ForConditionalGeneration",),
        beside=joined.gemma4,
        text_type="gemma4_text",
    ),
    "gemma4_unified": Wrapper(
        class_names=("Gemma4UnifiedForConditionalGeneration",),
        beside=joined.gemma4_unified,
        text_type="gemma4_unified_text",
    ),
    "lighton_ocr": Wrapper(
        class_names=("LightOnOCRForConditionalGeneration", "LightOnOcrForConditionalGeneration"),
        beside=joined.lighton_ocr,
        text_type="qwen3",
    ),
    "cohere2_vision": Wrapper(
        class_names=("Cohere2VisionForConditionalGeneration",),
        beside=joined.cohere_vision,
        text_type="cohere2",
    ),
    "aya_vision": Wrapper(
        class_names=("AyaVisionForConditionalGeneration",),
        beside=joined.cohere_vision,
        text_type="cohere2",
    ),
    "minicpmv4_6": Wrapper(
        class_names=("MiniCPMV4_6ForConditionalGeneration",),
        beside=joined.minicpm_v,
        text_type="qwen3_5_text",
    ),
    "lfm2_vl": Wrapper(
        class_names=("Lfm2VlForConditionalGeneration",), beside=joined.lfm2_vl, text_type="lfm2"
    ),
    "internvl": Wrapper(
        class_names=("InternVLForConditionalGeneration",), beside=joined.internvl, text_type="qwen2"
    ),
    "internvl_chat": Wrapper(
        class_names=("InternVLChatModel",), beside=joined.internvl, text_type="qwen2"
    ),
    "NemotronH_Nano_VL_V2": Wrapper(
        class_names=("NemotronH_Nano_VL_V2",), beside=joined.nemotron_vl, text_type="nemotron_h"
    ),
    "NemotronH_Nano_Omni_Reasoning_V3": Wrapper(
        class_names=("NemotronH_Nano_Omni_Reasoning_V3",),
        beside=joined.nemotron_vl,
        text_type="nemotron_h",
    ),
    "kimi_k25": Wrapper(
        class_names=("KimiK25ForConditionalGeneration", "Kimi_K25ForConditionalGeneration"),
        beside=joined.kimi,
        text_type="deepseek_v3",
    ),
    "kimi_vl": Wrapper(
        class_names=("KimiVLForConditionalGeneration",),
        beside=joined.kimi,
        text_type="deepseek_v3",
    ),
    "kimi_k3": Wrapper(
        class_names=("KimiK3ForConditionalGeneration",),
        beside=joined.kimi_k3,
        text_type="kimi_linear",
    ),
    "minimax_m3_vl": Wrapper(
        class_names=(
            "MiniMaxM3SparseForConditionalGeneration",
            "MiniMaxM3VLForConditionalGeneration",
            "MiniMaxM3SparseForCausalLM",
        ),
        beside=joined.minimax_m3,
        text_type="minimax_m3_vl_text",
    ),
    "qwen2_vl": Wrapper(
        class_names=("Qwen2VLForConditionalGeneration",),
        beside=_vision(images.qwen2_vl),
        text_type="qwen2_vl_text",
    ),
    "qwen2_5_vl": Wrapper(
        class_names=("Qwen2_5_VLForConditionalGeneration",),
        beside=_vision(images.qwen2_5_vl),
        text_type="qwen2_5_vl_text",
    ),
    "exaone4_5": Wrapper(
        class_names=("Exaone4_5_ForConditionalGeneration",),
        beside=_vision(images.exaone),
        text_type="exaone4",
    ),
    "qwen3_vl": Wrapper(
        class_names=("Qwen3VLForConditionalGeneration",),
        beside=_vision(images.qwen3_vl),
        peak=peak.qwen3,
        text_type="qwen3_vl_text",
    ),
    "qwen3_vl_moe": Wrapper(
        class_names=("Qwen3VLMoeForConditionalGeneration",),
        beside=_vision(images.qwen3_vl),
        peak=peak.qwen3,
        text_type="qwen3_vl_moe_text",
    ),
    "qwen3_5": Wrapper(
        class_names=("Qwen3_5ForConditionalGeneration",),
        beside=_vision(images.qwen3_5),
        peak=peak.qwen3_5,
        text_type="qwen3_5_text",
    ),
    "qwen3_5_moe": Wrapper(
        class_names=("Qwen3_5MoeForConditionalGeneration",),
        beside=_vision(images.qwen3_5),
        peak=peak.qwen3_5,
        text_type="qwen3_5_moe_text",
    ),
    "glm4v": Wrapper(
        class_names=("Glm4vForConditionalGeneration",),
        beside=_vision(images.glm4v),
        text_type="glm4v_text",
    ),
    "llava_onevision": Wrapper(
        class_names=("LlavaOnevisionForConditionalGeneration",),
        beside=joined.llava_onevision,
        text_type="qwen2",
    ),
    "idefics3": Wrapper(
        class_names=("Idefics3ForConditionalGeneration",), beside=joined.idefics3, text_type="llama"
    ),
    "smolvlm": Wrapper(
        class_names=("SmolVLMForConditionalGeneration",), beside=joined.idefics3, text_type="llama"
    ),
    "paligemma": Wrapper(
        class_names=("PaliGemmaForConditionalGeneration",),
        beside=joined.paligemma,
        text_type="gemma",
    ),
    "hunyuan_vl": Wrapper(
        class_names=("HunYuanVLForConditionalGeneration",),
        beside=joined.hunyuan_vl,
        text_type="hunyuan_vl_text",
    ),
    "paddleocr_vl": Wrapper(
        class_names=("PaddleOCRVLForConditionalGeneration",),
        beside=joined.paddleocr,
        text_type="paddleocr_vl_text",
    ),
    "ernie4_5_vl_moe": Wrapper(
        class_names=("Ernie4_5_VLMoeForConditionalGeneration",),
        beside=joined.ernie_vl,
        text_type="ernie4_5_vl_moe_text",
    ),
    "qwen3_asr": Wrapper(
        class_names=("Qwen3ASRForConditionalGeneration",),
        beside=joined_sounds.qwen3_asr,
        text_type="qwen3",
    ),
    "qwen2_5_omni": Wrapper(
        class_names=("Qwen2_5OmniForConditionalGeneration", "Qwen2_5OmniModel"),
        beside=joined_sounds.qwen2_5_omni,
        text_type="qwen2_5_omni_text",
    ),
    "qwen2_5_omni_thinker": Wrapper(
        class_names=("Qwen2_5OmniThinkerForConditionalGeneration",),
        beside=joined_sounds.qwen2_5_omni,
        text_type="qwen2_5_omni_text",
    ),
    "qwen3_omni_moe": Wrapper(
        class_names=("Qwen3OmniMoeForConditionalGeneration",),
        beside=joined_sounds.qwen3_omni,
        text_type="qwen3_omni_moe_text",
    ),
    "qwen3_omni_moe_thinker": Wrapper(
        class_names=("Qwen3OmniMoeThinkerForConditionalGeneration",),
        beside=joined_sounds.qwen3_omni,
        text_type="qwen3_omni_moe_text",
    ),
    "glmasr": Wrapper(
        class_names=("GlmAsrForConditionalGeneration",),
        beside=joined_sounds.glmasr,
        text_type="llama",
    ),
    "moss_transcribe_diarize": Wrapper(
        class_names=("MossTranscribeDiarizeForConditionalGeneration",),
        beside=joined_sounds.moss,
        text_type="qwen3",
    ),
    "qwen2_audio": Wrapper(
        class_names=("Qwen2AudioForConditionalGeneration",),
        beside=joined_sounds.qwen2_audio,
        text_type="qwen2",
    ),
    "voxtral": Wrapper(
        class_names=("VoxtralForConditionalGeneration",),
        beside=joined_sounds.voxtral,
        text_type="llama",
    ),
    "muse_glimmer": Wrapper(
        class_names=("MuseGlimmerForConditionalGeneration",),
        beside=joined.muse,
        text_type="muse_glimmer_text",
    ),
    "deepseek_vl_v2": Wrapper(
        class_names=("DeepseekOCRForCausalLM", "DeepseekOCR2ForCausalLM"),
        beside=joined.deepseek_ocr,
        text_type="deepseek_v2",
    ),
    "phi4mm": Wrapper(class_names=("Phi4MMForCausalLM",), beside=joined.phi4mm, text_type="phi3"),
    "glm46v": Wrapper(
        class_names=("Glm46VForConditionalGeneration",),
        beside=_vision(images.glm4v),
        text_type="glm4v_text",
    ),
    "glmga": Wrapper(
        class_names=("GlmGaForConditionalGeneration",),
        beside=_vision(images.glm4v),
        text_type="glm4v_text",
    ),
    "glm_ocr": Wrapper(
        class_names=("GlmOcrForConditionalGeneration",),
        beside=_vision(images.glm_ocr),
        text_type="glm_ocr_text",
    ),
    "glm4v_moe": Wrapper(
        class_names=("Glm4vMoeForConditionalGeneration",),
        beside=_vision(images.glm4v),
        text_type="glm4v_moe_text",
    ),
}
