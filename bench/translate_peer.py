"""A Transformer of torch.nn that translates: the peer of the recipe `translate-en-zh`.

Sizes, tokenizer, pairs, steps, schedule, label smoothing and optimiser are those of a finished run, whose folder is read:
`python bench/translate_peer.py runs/translate-en-zh help-en-zh.jsonl` prints JSON. Needs torch, tokenizers and sacrebleu.
"""

import json
import math
import pathlib
import sys
import time

import sacrebleu
import torch
from tokenizers import Tokenizer
from torch import nn


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.width, self.pad = config["d_model"], config["pad_token_id"]
        self.tokens = nn.Embedding(config["vocab_size"], self.width, padding_idx=self.pad)
        nn.init.normal_(self.tokens.weight, 0, self.width**-0.5)
        places = torch.arange(config["max_position_embeddings"])[:, None]
        rates = torch.exp(torch.arange(0, self.width, 2) * (-math.log(10000.0) / self.width))
        table = torch.cat([torch.sin(places * rates), torch.cos(places * rates)], 1)
        self.register_buffer("places", table)
        self.body = nn.Transformer(
            self.width,
            config["encoder_attention_heads"],
            config["encoder_layers"],
            config["decoder_layers"],
            config["encoder_ffn_dim"],
            config["dropout"],
            batch_first=True,
        )
        for p in self.body.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)
        self.dropout = nn.Dropout(config["dropout"])

    def embed(self, ids):
        return self.dropout(self.tokens(ids) * math.sqrt(self.width) + self.places[: ids.shape[1]])

    def encode(self, source):
        return self.body.encoder(self.embed(source), src_key_padding_mask=source == self.pad)

    def decode(self, memory, source, target):
        causal = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        hidden = self.body.decoder(
            self.embed(target), memory, tgt_mask=causal, memory_key_padding_mask=source == self.pad, tgt_is_causal=True
        )
        return hidden @ self.tokens.weight.T


def padded(rows, pad):
    longest = max(map(len, rows))
    return torch.tensor([row + [pad] * (longest - len(row)) for row in rows])


def main():
    run, data = pathlib.Path(sys.argv[1]), sys.argv[2]
    manifest = json.loads((run / "model/model.json").read_text())
    config, train = manifest["preprocessing"]["config"], manifest["recipe"]["train"]
    tokenizer = Tokenizer.from_file(str(run / "model/tokenizer.json"))
    start, end, pad = (config[k] for k in ("decoder_start_token_id", "eos_token_id", "pad_token_id"))
    lines = [json.loads(line) for line in open(data, encoding="utf-8")]
    parts = {"train": [], "test": []}
    for entry in map(json.loads, open(run / "ledger.jsonl", encoding="utf-8")):
        if entry.get("action") == "used" and entry.get("split") in parts:
            for first, last in entry["lines"]:
                parts[entry["split"]] += [lines[i - 1] for i in range(first, last + 1)]

    def ids(text):
        return tokenizer.encode(text, add_special_tokens=False).ids + [end]

    pairs = [(ids(p["en"]), ids(p["zh"])) for p in parts["train"]]
    steps = json.loads((run / "manifest.json").read_text())["steps"]
    batch, rate = train["batch"], train["optimizer"]["learning_rate"]
    warmup, final = train["schedule"]["warmup"], train["schedule"]["final_share"]
    torch.manual_seed(train["seed"])
    torch.set_num_threads(2)
    model = Model(config)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=rate,
        betas=tuple(train["optimizer"]["betas"]),
        weight_decay=train["optimizer"]["weight_decay"],
        fused=True,
    )
    loss_of = nn.CrossEntropyLoss(ignore_index=pad, label_smoothing=train["loss"]["label_smoothing"])
    started, order = time.perf_counter(), []
    for step in range(steps):
        if len(order) == 0:
            order = torch.randperm(len(pairs)).tolist()
        rows, order = [pairs[i] for i in order[:batch]], order[batch:]
        done = (step - warmup) / max(1, steps - warmup)
        share = (step + 1) / warmup if step < warmup else final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate * share
        source, target = padded([r[0] for r in rows], pad), padded([r[1] for r in rows], pad)
        before = torch.cat([torch.full((len(rows), 1), start), target[:, :-1]], 1)
        logits = model.decode(model.encode(source), source, before)
        loss = loss_of(logits.flatten(0, 1), target.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), train["clip"])
        optimizer.step()
        if (step + 1) % 200 == 0:
            print(f"step {step + 1}  loss {loss.item():.4f}", file=sys.stderr)
    seconds = time.perf_counter() - started

    model.eval()
    written = []
    most = config["max_position_embeddings"]
    with torch.no_grad():
        for first in range(0, len(parts["test"]), 64):
            source = padded([ids(p["en"])[:most] for p in parts["test"][first : first + 64]], pad)
            memory, target = model.encode(source), torch.full((len(source), 1), start)
            ended = torch.zeros(len(source), dtype=torch.bool)
            for _ in range(most - 1):
                logits = model.decode(memory, source, target)[:, -1]
                logits[:, pad] = -math.inf
                best = logits.argmax(1)
                target = torch.cat([target, best[:, None]], 1)
                ended |= best == end
                if ended.all():
                    break
            for row in target[:, 1:].tolist():
                row = row[: row.index(end)] if end in row else row
                written.append(tokenizer.decode(row))
    references = [[p["zh"] for p in parts["test"]]]
    figures = {
        "bleu": sacrebleu.corpus_bleu(written, references, tokenize="zh").score,
        "chrf": sacrebleu.corpus_chrf(written, references).score,
        "pairs": len(written),
        "seconds": seconds,
        "steps": steps,
        "torch": torch.__version__,
    }
    print(json.dumps(figures))


main()
