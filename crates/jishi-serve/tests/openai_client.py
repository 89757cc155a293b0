"""The official `openai` client against a server of Jishi. By hand:

    pip install openai
    jishi serve talk=SOME-MODEL-THAT-WRITES [vectors=SOME-MODEL-OF-EMBEDDINGS]
    python crates/jishi-serve/tests/openai_client.py http://127.0.0.1:8000 talk [vectors]
"""

import sys

from openai import BadRequestError, NotFoundError, OpenAI

address, talk = sys.argv[1], sys.argv[2]
vectors = sys.argv[3] if len(sys.argv) > 3 else None
client = OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)

names = [model.id for model in client.models.list()]
assert talk in names, names
assert client.models.retrieve(talk).id == talk

ask = dict(model=talk, prompt="call 7:", seed=3, temperature=0.9, top_p=0.9, max_tokens=16)
whole = client.completions.create(**ask, logprobs=2)
assert whole.choices[0].finish_reason in ("stop", "length")
assert len(whole.choices[0].logprobs.tokens) == whole.usage.completion_tokens
parts = list(client.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
assert "".join(c.text for p in parts for c in p.choices) == whole.choices[0].text
assert parts[-1].usage == whole.usage, (parts[-1].usage, whole.usage)
several = client.completions.create(**ask, n=3)
assert several.choices[0].text == whole.choices[0].text and len(several.choices) == 3
stopped = client.completions.create(**ask, stop=["e"])
assert "e" not in stopped.choices[0].text

try:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "send it"}]
    ask = dict(model=talk, messages=messages, seed=3, temperature=0.9, max_tokens=16)
    whole = client.chat.completions.create(**ask, logprobs=True, top_logprobs=2)
    assert whole.choices[0].message.role == "assistant"
    assert len(whole.choices[0].logprobs.content) == whole.usage.completion_tokens
    stream = client.chat.completions.create(**ask, stream=True)
    text = "".join(c.delta.content or "" for p in stream for c in p.choices)
    assert text == whole.choices[0].message.content
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["n"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    print(client.chat.completions.create(**ask, response_format=form).choices[0].message.content)
    # A client that leaves.
    stream = client.chat.completions.create(**ask, stream=True)
    next(iter(stream))
    stream.close()
except BadRequestError as error:
    assert "no template of conversations" in str(error), error
    print("no conversations:", error)

for wrong, kind in [(dict(model="none"), NotFoundError), (dict(temperature=9), BadRequestError)]:
    try:
        client.completions.create(**{**dict(model=talk, prompt="x"), **wrong})
    except kind as error:
        print("refused:", error)
    else:
        raise AssertionError(wrong)

if vectors:
    texts = ["the goal was left at home", "an invoice"]
    found = client.embeddings.create(model=vectors, input=texts)
    plain = client.embeddings.create(model=vectors, input=texts, encoding_format="float")
    for a, b in zip(found.data, plain.data, strict=True):
        assert len(a.embedding) == len(b.embedding)
        assert all(abs(x - y) < 1e-6 for x, y in zip(a.embedding, b.embedding))
    assert abs(sum(x * x for x in plain.data[0].embedding) - 1) < 1e-5
print("all is well")
