#!/usr/bin/env bash
# Installs Debian packages and leaves nothing running or enabled that was not so before. Run as root: install.sh PACKAGE...
#
# Debian starts and enables the service of a package that has one: docker-registry would listen on port 5000 of all
# interfaces, now and after every boot. A policy-rc.d (Debian's way to forbid it) keeps new services from being started, and
# what the packages enabled is disabled again. Services that were there are left as they are.
set -euo pipefail

policy=/usr/sbin/policy-rc.d
saved=
mine=

main() {
    local before after link
    forbid_starting
    trap allow_starting EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    before=$(enabled)
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 \
        -o DPkg::Lock::Timeout=300 "$@" </dev/null >/dev/null
    after=$(enabled)
    while read -r link; do
        if [[ -n $link ]]; then disable "$link"; fi
    done < <(comm -13 <(echo "$before") <(echo "$after"))
}

# Puts a policy in place that lets nothing start; one that is there comes back afterwards.
forbid_starting() {
    if [[ -e $policy || -L $policy ]]; then
        saved=$(mktemp -u "$policy.XXXXXX")
        mv "$policy" "$saved"
    fi
    mine=1
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

allow_starting() {
    if [[ -n $mine ]]; then rm -f "$policy"; fi
    if [[ -n $saved ]]; then mv "$saved" "$policy"; fi
}

# The links by which systemd and sysvinit start services at boot.
enabled() {
    {
        find /etc/systemd/system /etc/systemd/user -type l -path '*/*.wants/*' 2>/dev/null || true
        find /etc/systemd/system /etc/systemd/user -type l -path '*/*.requires/*' 2>/dev/null || true
        find /etc/rc[S2345].d -name 'S*' 2>/dev/null || true
    } | sort
}

# disable LINK: a later upgrade does not enable it again. Debian's scripts take a missing link of systemd for the administrator's
# word (deb-systemd-helper, "was-enabled"); sysvinit keeps that word as a link with another name.
disable() {
    local name=${1##*/}
    if [[ $1 == /etc/rc* ]]; then update-rc.d "${name#S[0-9][0-9]}" disable >/dev/null 2>&1 || true; fi
    rm -f "$1"
}

main "$@"
