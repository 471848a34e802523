#!/usr/bin/env bash
# A throw-away container registry: Debian's docker-registry on a loopback port of its own, with storage of
# its own. A registry that the system runs (Debian's service listens on port 5000) is neither used nor stopped.
#
# Sourced:  start_registry DIR   sets registry_addr and registry_pid
#           stop_registry DIR
# Run:      registry.sh start DIR   prints "ADDRESS PID"
#           registry.sh stop DIR
#
# Everything lies in DIR: config.yml, data/, registry.log, pid. The log stays for whoever looks into a failure.

start_registry() {
    local dir
    mkdir -p "$1/data"
    dir=$(realpath "$1")
    : >"$dir/registry.log"
    write_registry_config "$dir"
    # A session of its own: Ctrl-C reaches the script alone, which then stops the registry by its pid.
    PATH=$PATH:/usr/sbin:/sbin setsid docker-registry serve "$dir/config.yml" \
        >"$dir/registry.log" 2>&1 </dev/null &
    registry_pid=$!
    echo "$registry_pid" >"$dir/pid"
    if ! wait_for_registry "$dir"; then
        echo "the registry did not start; the end of $dir/registry.log:" >&2
        tail -n 20 "$dir/registry.log" >&2
        stop_registry "$dir"
        return 1
    fi
}

# Port 0 lets the kernel choose: no port is free for longer than it takes to ask for it.
write_registry_config() {
    local dir=$1
    cat >"$dir/config.yml" <<CONFIG
version: 0.1
log:
  level: info
storage:
  filesystem:
    rootdirectory: "$dir/data"
  delete:
    enabled: true
http:
  addr: 127.0.0.1:0
CONFIG
}

# The port is in the log; /v2/ answers when the registry is ready.
wait_for_registry() {
    local dir=$1 tries port
    for ((tries = 0; tries < 200; tries++)); do
        kill -0 "$registry_pid" 2>/dev/null || return 1
        port=$(sed -n 's/.*listening on 127\.0\.0\.1:\([0-9]*\).*/\1/p' "$dir/registry.log" | head -n 1)
        if [[ -n $port ]] && curl -fsS --noproxy '*' -o /dev/null "http://127.0.0.1:$port/v2/" 2>/dev/null; then
            registry_addr=127.0.0.1:$port
            return 0
        fi
        sleep 0.05
    done
    return 1
}

# Ends the one process that start_registry began, by its pid, and waits until it is gone.
stop_registry() {
    local dir=$1 pid tries
    [[ -f $dir/pid ]] || return 0
    pid=$(<"$dir/pid")
    rm -f "$dir/pid"
    kill "$pid" 2>/dev/null || return 0
    for ((tries = 0; tries < 100; tries++)); do
        is_running "$pid" || return 0
        sleep 0.05
    done
    kill -KILL "$pid" 2>/dev/null || true
}

# A zombie answers `kill -0`: where nobody reaps it, it would look alive for ever.
is_running() {
    local state
    state=$(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null) || return 1
    [[ $state != [ZX] ]]
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    set -euo pipefail
    case ${1:-} in
        start)
            start_registry "${2:?directory}"
            echo "$registry_addr $registry_pid"
            ;;
        stop) stop_registry "${2:?directory}" ;;
        *)
            echo "usage: registry.sh start|stop DIR" >&2
            exit 2
            ;;
    esac
fi
