# shellcheck shell=bash
# What every script here needs: where the checkout is, how to speak, and how to get a missing tool.
# Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# Colours only for a person: a log file stays plain.
# shellcheck disable=SC2034  # read by the scripts that source this
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' reset=$'\e[0m'
else
    bold='' green='' red='' reset=''
fi

say() { printf '\n%s==> %s%s\n' "$bold" "$*" "$reset"; }
note() { printf '    %s\n' "$*"; }
die() {
    printf '%serror:%s %s\n' "$red" "$reset" "$*" >&2
    exit 1
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "needs root for: $* (run as root, or install sudo)"
    fi
}

# ensure_tools COMMAND=PACKAGE...: installs the packages of the commands that are not there, and asks
# nothing of apt when all are. Services that come with them are neither started nor enabled.
ensure_tools() {
    local pair packages=()
    for pair in "$@"; do
        has_command "${pair%%=*}" || packages+=("${pair#*=}")
    done
    ((${#packages[@]})) || return 0
    say "Installing: ${packages[*]}"
    command -v apt-get >/dev/null || die "no apt-get here; install these yourself: ${packages[*]}"
    as_root "$root/scripts/lib/install.sh" "${packages[@]}"
}

# A daemon may lie in sbin, which is not in a plain user's PATH.
has_command() {
    command -v "$1" >/dev/null || [[ -x /usr/sbin/$1 || -x /sbin/$1 ]]
}

need_cargo() {
    command -v cargo >/dev/null || die "cargo is not in PATH; install Rust 1.88 or newer first"
    ensure_tools cc=build-essential
}

# build_crossdock: sets `crossdock` to a release binary, built from this checkout unless CROSSDOCK names one.
build_crossdock() {
    if [[ -n ${CROSSDOCK:-} ]]; then
        [[ -x $CROSSDOCK ]] || die "CROSSDOCK=$CROSSDOCK is not a program"
        crossdock=$(realpath "$CROSSDOCK")
        return
    fi
    need_cargo
    say "Building crossdock (release)"
    (cd "$root" && cargo build --release --locked --bin crossdock)
    crossdock=${CARGO_TARGET_DIR:-$root/target}/release/crossdock
    [[ -x $crossdock ]] || die "the build left no program at $crossdock"
    crossdock=$(realpath "$crossdock")
}

human_bytes() { numfmt --to=iec-i --suffix=B --format=%.1f "$1"; }
