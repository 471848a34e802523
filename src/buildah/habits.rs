//! Flags that docker and podman have and buildah has not, for those who type them from habit: as in `flags`.

use super::flags::Kind::{Bool, List, Value};
use super::flags::{CACHE, Flag, ignored, refused};

/// The flags of a command that is carried out here.
pub(crate) fn habits(command: &str) -> &'static [Flag] {
    HABITS.iter().find(|(name, _)| *name == command).map_or(&[], |(_, flags)| flags)
}

/// Whether a flag that is refused asks for nothing with this value.
pub(super) fn asks_for_nothing(flag: &str, value: &str) -> bool {
    match flag {
        "provenance" | "sbom" => matches!(value, "false" | "0"),
        "attest" => value.split(',').any(|part| matches!(part, "disabled=true" | "disabled=1")),
        "call" => value == "build",
        _ => false,
    }
}

const ATTEST: &str = "attestations are not made: use cosign attest on the digest";
const TRUST: &str = "docker's has none either for a registry without notary";
const TLS: &str = "use --tls-verify=false";
const CHECK: &str = "use --dry-run, which refuses what a build would";

/// By command.
pub(crate) const HABITS: &[(&str, &[Flag])] = &[
    (
        "build",
        &[
            ignored("allow", List, "concerns RUN"),
            refused("attest", List, ATTEST),
            ignored("builder", Value, "there are no builders to choose from"),
            refused("call", Value, CHECK),
            refused("check", Bool, CHECK),
            refused(
                "load",
                Bool,
                "nothing is put into docker's store: write -o docker-archive:FILE and use docker load -i FILE. \
                 Without --push and -o the image is remembered here, for push",
            ),
            ignored("no-cache-filter", List, CACHE),
            refused("provenance", Value, ATTEST),
        ],
    ),
    (
        "push",
        &[
            refused("all-tags", Bool, "push them by name").short('a'),
            ignored("disable-content-trust", Bool, TRUST),
            refused(
                "platform",
                Value,
                "of a list the image for this machine is sent, and all of them with --all",
            ),
        ],
    ),
    ("pull", &[ignored("disable-content-trust", Bool, TRUST)]),
    (
        "images",
        &[
            refused("sort", Value, "the latest is the first: use --format and sort(1)"),
            refused("tree", Bool, "use manifest inspect for the images of a list"),
        ],
    ),
    ("inspect", &[ignored("size", Bool, "images shows sizes").short('s')]),
    (
        "rmi",
        &[
            refused("ignore", Bool, "say what happens where there is no such image: || true").short('i'),
            ignored("no-prune", Bool, "an image has none below it"),
        ],
    ),
    (
        "prune",
        &[refused("filter", List, "use rmi for single images"), ignored("volumes", Bool, "there are none")],
    ),
    ("manifest create", &[refused("insecure", Bool, TLS)]),
    (
        "manifest inspect",
        &[refused("insecure", Bool, TLS), ignored("verbose", Bool, "all is shown").short('v')],
    ),
    ("manifest push", &[refused("insecure", Bool, TLS), refused("purge", Bool, "use --rm").short('p')]),
    ("version", &[refused("format", Value, "use --json").short('f')]),
];
