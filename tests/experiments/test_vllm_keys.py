"""What vLLM calls things: every name has an answer, and every answer is a key."""

import pytest
from study_files import SMALL

from experiments.study import vllm_keys
from experiments.study.document import Study
from experiments.study.schema import all_keys, unknown_key
from experiments.study.yaml_source import parse_yaml

RAW = parse_yaml(SMALL, "small.yaml").data


def test_what_is_meant_exists() -> None:
    keys = all_keys(Study, RAW)
    assert {key for keys in vllm_keys.meant().values() for key in keys} <= set(keys)


def test_nothing_that_a_study_has_is_in_the_table() -> None:
    own = {key.split(".")[-1] for key in all_keys(Study, RAW)}
    assert not own & set(vllm_keys.names())


def test_no_name_has_two_answers() -> None:
    assert len(set(vllm_keys.names())) == len(vllm_keys.names())
    assert not set(vllm_keys.meant()) & set(vllm_keys.not_modelled())


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (("engine", "pp"), "unknown key; here it is cluster.pipeline_parallel_size"),
        (("cluster", "dp_size"), "unknown key; here it is cluster.data_parallel_size"),
        (("engine", "data_parallel_size"), "unknown key; did you mean cluster.data_parallel_size?"),
        (("engine", "tp"), "unknown key; here it is cluster.tensor_parallel_size"),
        (
            ("engine", "speculative_config"),
            "here it is engine.speculative, with the same keys, and how many drafts are accepted; "
            "drafts whose acceptance nobody states are not modelled",
        ),
        (("engine", "--enable-sleep-mode"), "unknown key; it is vLLM's and is not modelled"),
        (("engine", "no_enable_lora"), "unknown key; it is vLLM's and is not modelled"),
        (("engine", "served_model_name"), "changes nothing that is simulated: leave it out"),
        (("engine", "enable_sleep_mde"), "if enable_sleep_mode is meant, it is vLLM's"),
        (("engine", "enforce_eagr"), "unknown key; did you mean enforce_eager?"),
        (
            ("engine", "tensor_parallel_size"),
            "unknown key; did you mean cluster.tensor_parallel_size? Expected one of version, ",
        ),
        (("engine", "max_seqs"), "unknown key; did you mean max_num_seqs? Expected one of"),
        (("gpus",), "here it is cluster.tensor_parallel_size or cluster.replicas"),
        (("engine", "zzz"), "unknown key, expected one of version, scheduler, "),
    ],
)
def test_an_unknown_key_is_told_what_it_is(path: tuple[str, ...], message: str) -> None:
    assert message in unknown_key(Study, path, RAW)
