#!/usr/bin/env bash
# The floor of the benchmark: plain curl sends files whose digests are already known, side by side. Nothing
# is hashed, packed or remembered on this side, so no builder can be faster against the same registry.
#
# floor.sh ADDRESS REPOSITORY JOBS <LIST     with one "sha256:DIGEST PATH" a line
set -euo pipefail

# send_one ADDRESS REPOSITORY DIGEST PATH: one upload session, one monolithic PUT.
send_one() {
    local url=http://$1 location
    location=$(curl -fsS -o /dev/null -D - -X POST "$url/v2/$2/blobs/uploads/" |
        tr -d '\r' | awk 'tolower($1) == "location:" { print $2 }')
    [[ $location == http* ]] || location=$url$location
    curl -fsS -o /dev/null -H 'Content-Type: application/octet-stream' -T "$4" "$location&digest=$3"
}
export -f send_one

xargs -P "$3" -L 1 bash -c 'set -euo pipefail; send_one "$@"' floor "$1" "$2"
