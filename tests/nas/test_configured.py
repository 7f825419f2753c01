"""Networks of transformers come back as models that their library reads; see also docs/pruning.md."""

import os

import pytest
import torch

from cggd_nas import Costs, configured, extract, measure, prunable

os.environ["HF_HUB_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore:example has")  # batches of 2 are meant here

IDS = torch.arange(14).reshape(2, 7)
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 50}


def llama():
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL, num_key_value_heads=2))


def bert():
    return transformers.BertModel(transformers.BertConfig(**SMALL))


def gpt2():
    config = transformers.GPT2Config(n_embd=32, n_layer=3, n_head=4, vocab_size=50, bos_token_id=0, eos_token_id=0)
    return transformers.GPT2LMHeadModel(config)


def small(make, **options):
    torch.manual_seed(0)
    model = make().eval()
    return model, prunable(model, IDS, round_to=4, **options)


def narrowest(supernet, *parts):
    """The least option of decisions whose names hold one of the parts, the largest of the others."""
    space = supernet.space
    least = {d: any(part in d for part in parts) for d in space.decisions}
    return {d: space.option_labels(d)[0 if least[d] else -1] for d in space.decisions}


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (llama, ("embed", "mlp", "self_attn", "layers.1.depth")),
        (bert, ("intermediate", "layer.2.depth")),
        (gpt2, ("mlp", "h.0.depth")),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_cut_model_is_written_and_read(make, parts, tmp_path):
    model, supernet = small(make, alike=True)
    selection = narrowest(supernet, *parts)
    network = extract(supernet, selection).eval()
    made = configured(network, IDS)
    assert type(made) is type(model)
    assert sum(p.numel() for p in made.parameters()) == Costs(supernet, IDS).parameters()(selection)
    made.save_pretrained(tmp_path)
    read = type(model).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        for a, b in zip(network(IDS).to_tuple(), read(IDS).to_tuple(), strict=False):
            if isinstance(a, torch.Tensor):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def distilbert():
    sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 50, "num_labels": 3}
    return transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig(**sizes))


def bert_classifier():
    return transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL, num_labels=3))


@pytest.mark.parametrize("make", [distilbert, bert_classifier])
def test_costs_of_models_that_read_slices_of_buffers(make):
    _, supernet = small(make)
    costs = Costs(supernet, IDS)
    for row in (0 * supernet.space.sizes, supernet.space.sizes - 1):
        network = extract(supernet, row)
        assert costs.macs()(row) == pytest.approx(measure.macs(network, IDS) / 1e6, rel=1e-12)
        assert costs.peak_memory()(row) == measure.peak_memory(network, IDS)


@pytest.mark.slow
def test_one_decision_for_all_layers():
    _, supernet = small(llama, alike=True)
    _, apart = small(llama)
    widths, separate = supernet.report.widths, apart.report.widths
    assert len(widths) == 3
    assert len(separate) == 7
    costs, others = Costs(supernet, IDS), Costs(apart, IDS)
    selection = narrowest(supernet, "mlp")
    assert costs.macs()(selection) == others.macs()(narrowest(apart, "mlp"))
    assert type(costs.macs()).__name__ == "Interactions"


def test_what_no_configuration_knows():
    _, supernet = small(bert, alike=True)
    with pytest.raises(ValueError, match="no configuration of BertConfig has the weights"):
        configured(extract(supernet, narrowest(supernet, "query")), IDS)
    with pytest.raises(TypeError, match="config"):
        configured(torch.nn.Linear(2, 2), IDS)
