"""The encoder of BERT with a mean over tokens, as in sentence-transformers/all-MiniLM-L6-v2."""

import torch
from torch import nn


class Layer(nn.Module):
    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.first, self.second = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)

    def forward(self, x, bias):
        def split(rows):
            return rows.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
        weights = torch.softmax(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + bias, dim=-1)
        x = self.first(x + self.out((weights @ value).transpose(1, 2).flatten(2)))
        return self.second(x + self.down(nn.functional.gelu(self.up(x))))


class Encoder(nn.Module):
    """Maps sentences to unit vectors, with the tensors of the published file."""

    def __init__(self, tensors: dict, heads: int = 12) -> None:
        super().__init__()
        words = tensors["embeddings.word_embeddings.weight"]
        inner = tensors["encoder.layer.0.intermediate.dense.weight"].shape[0]
        layers = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("encoder.layer."))
        self.words = nn.Embedding(*words.shape)
        self.places = nn.Embedding(*tensors["embeddings.position_embeddings.weight"].shape)
        self.kinds = nn.Embedding(*tensors["embeddings.token_type_embeddings.weight"].shape)
        self.norm = nn.LayerNorm(words.shape[1], eps=1e-12)
        self.layers = nn.ModuleList(Layer(words.shape[1], inner, heads) for _ in range(layers))
        parts = {"words": "word_embeddings", "places": "position_embeddings", "kinds": "token_type_embeddings"}
        names = {f"{ours}.weight": f"embeddings.{theirs}.weight" for ours, theirs in parts.items()}
        names |= {f"norm.{end}": f"embeddings.LayerNorm.{end}" for end in ("weight", "bias")}
        inside = {
            "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
            "out": "attention.output.dense", "first": "attention.output.LayerNorm", "up": "intermediate.dense",
            "down": "output.dense", "second": "output.LayerNorm",
        }  # fmt: skip
        for i in range(layers):
            for ours, theirs in inside.items():
                for end in ("weight", "bias"):
                    names[f"layers.{i}.{ours}.{end}"] = f"encoder.layer.{i}.{theirs}.{end}"
        self.load_state_dict({ours: torch.tensor(tensors[theirs]) for ours, theirs in names.items()})

    def forward(self, tokens, mask):
        x = self.norm(self.words(tokens) + self.places.weight[: tokens.shape[1]] + self.kinds.weight[0])
        bias = (1 - mask[:, None, None, :].float()) * -1e9
        for layer in self.layers:
            x = layer(x, bias)
        kept = mask[..., None].float()
        return nn.functional.normalize((x * kept).sum(1) / kept.sum(1), dim=-1)
