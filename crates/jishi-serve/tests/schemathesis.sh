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
exec schemathesis run "$address/openapi.json" --checks all --phases examples,coverage,fuzzing \
    --max-examples 100 --seed 1 --continue-on-failure "$@"
