#!/bin/sh
# A server against its own OpenAPI document, by schemathesis. By hand:
#
#     pip install schemathesis
#     jishi serve RUN… &
#     crates/jishi-serve/tests/schemathesis.sh http://127.0.0.1:8000 [KEY]
set -eu
address=$1
key=${2:-}
if [ -n "$key" ]; then
    set -- --header "Authorization: Bearer $key"
else
    set --
fi
check() {
    schemathesis run "$address/openapi.json" --checks all --phases examples,coverage,fuzzing \
        --max-examples 50 --seed 1 --continue-on-failure "$@"
}
text='completions$'
check --exclude-path-regex "$text" "$@"
# What a schema can't say of requests for text: a prompt fits into the model's context, and `n` answers to all prompts
# together have a bound. A request beyond these is refused, although its schema fits.
check --include-path-regex "$text" --exclude-checks positive_data_acceptance "$@"
