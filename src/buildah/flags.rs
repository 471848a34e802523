//! buildah's flags: those of 1.28 (Debian 12) and of its current manual pages, command by command, and what becomes of each here. This table is
//! what the command line is read with; docs/drop-in.md is written from it, and tests hold it against the real buildah
//! and against our own definitions.

use Kind::{Bool, List, Optional, Value};

/// What a flag takes, as Go's pflag has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `--flag` or `--flag=BOOL`; the last one counts.
    Bool,
    /// `--flag=VALUE` or `--flag VALUE`; the last one counts.
    Value,
    /// As a value, and each one counts.
    List,
    /// `--flag=VALUE`, or `--flag` for this value.
    Optional(&'static str),
}

/// What becomes of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Our own command has it under the same name.
    Honoured,
    /// Taken and without effect: the image is the same without it.
    Ignored,
    /// Refused by name: without it the result would be another one. Given as `false` or empty it asks for nothing.
    Refused,
}

/// A flag of buildah's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) kind: Kind,
    pub(crate) treatment: Treatment,
    /// Why it has no effect, what to do instead, or what is different.
    pub(crate) note: &'static str,
}

/// A command of buildah's that is carried out here.
#[derive(Debug)]
pub(crate) struct Command {
    /// As our own command line has it; words are parted by a space.
    pub(crate) name: &'static str,
    /// What buildah calls it too.
    pub(crate) aliases: &'static [&'static str],
    pub(crate) flags: &'static [Flag],
}

impl Flag {
    pub(super) const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }
}

const fn honoured(name: &'static str, kind: Kind) -> Flag {
    Flag { name, short: None, kind, treatment: Treatment::Honoured, note: "" }
}

pub(super) const fn ignored(name: &'static str, kind: Kind, note: &'static str) -> Flag {
    Flag { name, short: None, kind, treatment: Treatment::Ignored, note }
}

pub(super) const fn refused(name: &'static str, kind: Kind, note: &'static str) -> Flag {
    Flag { name, short: None, kind, treatment: Treatment::Refused, note }
}

/// The command called `words`.
pub(crate) fn command(words: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == words || command.aliases.contains(&words))
}

const RUN: &str = "concerns RUN";
const STORE: &str = "concerns buildah's store";
const CONTAINERS: &str = "there are no containers";
pub(super) const CACHE: &str = "what is not changed is remembered by its files";
const SIGN: &str = "images are not signed: use cosign on the digest";
const SIGNATURES: &str = "there are no signatures to copy";
const ENCRYPT: &str = "layers are not encrypted";
const DECRYPT: &str = "layers are not decrypted";
const POLICY: &str = "signatures are not checked";
const SBOM: &str = "images are not scanned: run the scanner on the digest";
const ARTIFACT: &str = "artifacts are not made";
const COMPAT: &str = "use --authfile, whose file docker reads too";
const ALREADY: &str = "always so";
const LOCAL: &str = "but honoured, before or after it, for a command that speaks to a registry";

/// Flags of `buildah` itself, before or after the command.
pub(crate) const GLOBAL: &[Flag] = &[
    ignored("cert-dir", Value, LOCAL),
    ignored("cgroup-manager", Value, RUN),
    ignored("cpu-profile", Value, "profiles are not written"),
    ignored("debug", Bool, "use --log-level debug"),
    ignored("default-mounts-file", Value, RUN),
    ignored("imagestore", Value, STORE),
    honoured("log-level", Value),
    ignored("memory-profile", Value, "profiles are not written"),
    honoured("registries-conf", Value),
    honoured("registries-conf-dir", Value),
    honoured("root", Value)
        .note("what is remembered is in its directory crossdock, beside a store of buildah's or not"),
    ignored("runroot", Value, STORE),
    honoured("short-name-alias-conf", Value),
    ignored("storage-driver", Value, STORE),
    ignored("storage-opt", List, STORE),
    refused("tls-details", Value, "TLS is 1.2 or 1.3, always"),
    ignored("tls-verify", Bool, LOCAL),
    ignored("transient-store", Bool, STORE),
    ignored("userns-gid-map", List, RUN),
    ignored("userns-uid-map", List, RUN),
    honoured("version", Bool).short('v'),
];

/// All commands that are carried out.
pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "build",
        aliases: &["bud", "build-using-dockerfile", "builder build", "buildx build", "image build"],
        flags: BUILD,
    },
    Command { name: "push", aliases: &["image push"], flags: PUSH },
    Command { name: "pull", aliases: &["image pull"], flags: PULL },
    Command { name: "images", aliases: &["image list", "image ls"], flags: IMAGES },
    Command { name: "inspect", aliases: &["image inspect"], flags: INSPECT },
    Command { name: "tag", aliases: &["image tag"], flags: &[] },
    Command { name: "rmi", aliases: &["image rm"], flags: RMI },
    Command { name: "prune", aliases: &["image prune", "system prune"], flags: PRUNE },
    Command { name: "manifest create", aliases: &[], flags: MANIFEST_CREATE },
    Command { name: "manifest add", aliases: &[], flags: MANIFEST_ADD },
    Command { name: "manifest annotate", aliases: &[], flags: MANIFEST_ANNOTATE },
    Command { name: "manifest exists", aliases: &[], flags: &[] },
    Command { name: "manifest inspect", aliases: &[], flags: MANIFEST_INSPECT },
    Command { name: "manifest push", aliases: &[], flags: MANIFEST_PUSH },
    Command { name: "manifest remove", aliases: &[], flags: &[] },
    Command { name: "manifest rm", aliases: &[], flags: &[] },
    Command { name: "login", aliases: &[], flags: LOGIN },
    Command { name: "logout", aliases: &[], flags: LOGOUT },
    Command { name: "info", aliases: &["system info"], flags: INFO },
    Command { name: "version", aliases: &[], flags: VERSION },
];

const BUILD: &[Flag] = &[
    ignored("add-history", Bool, "each instruction has its line; in buildah a flag of add, config, copy and run"),
    ignored("add-host", List, RUN),
    honoured("all-platforms", Bool),
    honoured("annotation", List).note("--format docker has no place for one: dropped, with a warning"),
    honoured("arch", Value),
    honoured("authfile", Value),
    ignored("blob-cache", Value, STORE),
    honoured("build-arg", List),
    honoured("build-arg-file", List),
    honoured("build-context", List).note("a directory, for COPY; docker://, docker-image:// and oci: images; URLs are refused"),
    ignored("cache-from", List, CACHE),
    ignored("cache-to", List, CACHE),
    ignored("cache-ttl", Value, CACHE),
    ignored("cap-add", List, RUN),
    ignored("cap-drop", List, RUN),
    ignored("cdi-config-dir", Value, RUN),
    honoured("cert-dir", Value),
    ignored("cgroup-parent", Value, RUN),
    ignored("cgroupns", Value, RUN),
    ignored("cni-config-dir", Value, RUN),
    ignored("cni-plugin-path", Value, RUN),
    ignored("compat-volumes", Bool, RUN),
    ignored("compress", Bool, "buildah's has none either"),
    honoured("compression-format", Value).note("none, gzip or zstd"),
    honoured("compression-level", Value),
    refused("cpp-flag", List, "Containerfiles are not preprocessed: run cpp -E before"),
    ignored("cpu-period", Value, RUN),
    ignored("cpu-quota", Value, RUN),
    ignored("cpu-shares", Value, RUN).short('c'),
    ignored("cpuset-cpus", Value, RUN),
    ignored("cpuset-mems", Value, RUN),
    refused("created-annotation", Bool, "give it with --annotation org.opencontainers.image.created=TIME"),
    honoured("creds", Value).note("for the bases' registries too, where the build does not push"),
    refused("cw", Value, "confidential workloads are not made"),
    refused("decryption-key", List, DECRYPT),
    ignored("device", List, RUN),
    ignored("disable-compression", Bool, "new layers are not compressed, but with --compression-format").short('D'),
    ignored("disable-content-trust", Bool, "buildah's has none either"),
    ignored("dns", List, RUN),
    ignored("dns-option", List, RUN),
    ignored("dns-search", List, RUN),
    honoured("env", List).note("counts more than ENV, as with 1.28"),
    honoured("file", List).short('f').note("one; several, URLs and `.in` files for cpp are refused"),
    ignored("force-compression", Bool, ALREADY),
    ignored("force-rm", Bool, CONTAINERS),
    honoured("format", Value).note("default from BUILDAH_FORMAT, else oci"),
    honoured("from", Value),
    ignored("group-add", List, RUN),
    ignored("hooks-dir", List, RUN),
    ignored("http-proxy", Bool, RUN),
    ignored("identity-label", Bool, "no image says that buildah made it"),
    honoured("ignorefile", Value),
    honoured("iidfile", Value),
    honoured("iidfile-raw", Value),
    refused("inherit-annotations", Bool, "annotations of the base are not taken over: give them with --annotation"),
    honoured("inherit-labels", Bool),
    ignored("ipc", Value, RUN),
    ignored("isolation", Value, RUN),
    honoured("jobs", Value).note("layers at the same time, not stages; 0 for the default"),
    honoured("label", List),
    ignored("layer-label", List, "there are no intermediate images"),
    ignored("layers", Bool, "there are no intermediate images; large files have layers of their own in any case"),
    ignored("log-rusage", Bool, "the report says what it took"),
    honoured("logfile", Value),
    ignored("loglevel", Value, "buildah's has none either"),
    ignored("logsplit", Bool, "one platform a build"),
    honoured("manifest", Value).note("an image of the same platform that was in the list goes out"),
    ignored("memory", Value, RUN).short('m'),
    ignored("memory-swap", Value, RUN),
    refused("metadata-file", Value, "use --iidfile, --digestfile or --progress json"),
    ignored("mount", List, RUN),
    ignored("net", Value, RUN),
    ignored("network", Value, RUN),
    ignored("no-cache", Bool, "no step is cached; --no-memo hashes every file again"),
    ignored("no-hostname", Bool, RUN),
    ignored("no-hosts", Bool, RUN),
    ignored("no-pivot", Bool, RUN),
    honoured("omit-history", Bool),
    honoured("os", Value),
    refused("os-feature", List, "the config's os.features are the base's"),
    refused("os-version", Value, "the config's os.version is the base's"),
    honoured("output", List).short('o').note("oci:, oci-archive:, docker-archive: and dir:, and Docker's `type=oci`, `docker`, `image` and `registry`; `type=local`, `type=tar` and `-`, which unpack the image, are refused"),
    ignored("pid", Value, RUN),
    honoured("platform", List),
    honoured("pull", Optional("true")),
    honoured("pull-always", Bool),
    honoured("pull-never", Bool),
    honoured("quiet", Bool).short('q'),
    honoured("raw-iidfile", Value).note("as --iidfile-raw"),
    honoured("retry", Value),
    honoured("retry-delay", Value),
    honoured("rewrite-timestamp", Bool).note("files have the time of --source-date-epoch, also those that are older"),
    ignored("rm", Bool, CONTAINERS),
    ignored("runtime", Value, RUN),
    ignored("runtime-flag", List, RUN),
    ignored("rusage-logfile", Value, "the report says what it took"),
    refused("save-stages", Bool, "of a stage: build it with --target"),
    refused("sbom", Value, SBOM),
    refused("sbom-image-output", Value, SBOM),
    refused("sbom-image-purl-output", Value, SBOM),
    refused("sbom-merge-strategy", Value, SBOM),
    refused("sbom-output", Value, SBOM),
    refused("sbom-purl-output", Value, SBOM),
    refused("sbom-scanner-command", List, SBOM),
    refused("sbom-scanner-image", Value, SBOM),
    ignored("secret", List, RUN),
    ignored("security-opt", List, RUN),
    ignored("shm-size", Value, RUN),
    refused("sign-by", Value, SIGN),
    refused("signature-policy", Value, POLICY),
    ignored("skip-unused-stages", Bool, ALREADY),
    honoured("source-date-epoch", Value).note("the time of files in layers is 0, and not their own"),
    refused("source-policy-file", Value, "write the digests into FROM"),
    honoured("squash", Bool).note("one layer for all that is new; those of the base stay, which buildah puts into it too"),
    ignored("ssh", List, RUN),
    refused("stage-labels", Bool, "there are no intermediate images"),
    refused("stdin", Bool, "there is no RUN to read it"),
    honoured("tag", List).short('t').note("with a transport, as oci:DIR, refused: that is --output"),
    honoured("target", Value),
    honoured("timestamp", Value),
    honoured("tls-verify", Bool),
    ignored("ulimit", List, RUN),
    ignored("unsetannotation", List, "annotations of the base are not taken over"),
    honoured("unsetenv", List),
    honoured("unsetlabel", List),
    ignored("userns", Value, RUN),
    ignored("userns-gid-map", List, RUN),
    ignored("userns-gid-map-group", Value, RUN),
    ignored("userns-uid-map", List, RUN),
    ignored("userns-uid-map-user", Value, RUN),
    ignored("uts", Value, RUN),
    honoured("variant", Value),
    ignored("volume", List, RUN).short('v'),
];

const PUSH: &[Flag] = &[
    refused("add-compression", List, "push again under another name, with --compression-format"),
    honoured("all", Bool).note("of a list of images"),
    honoured("authfile", Value),
    ignored("blob-cache", Value, STORE),
    honoured("cert-dir", Value),
    honoured("compression-format", Value)
        .note("none, gzip or zstd of the layers that are made of files; zstd:chunked is refused"),
    honoured("compression-level", Value),
    honoured("creds", Value),
    honoured("digestfile", Value),
    honoured("disable-compression", Bool)
        .short('D')
        .note("the default, but for images that were built with --compression-format"),
    refused("encrypt-layer", List, ENCRYPT),
    refused("encryption-key", List, ENCRYPT),
    ignored("force-compression", Bool, ALREADY),
    honoured("format", Value).short('f').note("oci, v2s2 and docker; v2s1 is refused"),
    honoured("quiet", Bool).short('q'),
    ignored("remove-signatures", Bool, SIGNATURES),
    honoured("retry", Value),
    honoured("retry-delay", Value),
    ignored("rm", Bool, "concerns manifest lists: use manifest push"),
    refused("sign-by", Value, SIGN),
    refused("sign-by-sigstore", Value, SIGN),
    refused("sign-by-sigstore-private-key", Value, SIGN),
    refused("sign-passphrase-file", Value, SIGN),
    refused("signature-policy", Value, POLICY),
    honoured("tls-verify", Bool),
];

const PULL: &[Flag] = &[
    refused("all-tags", Bool, "pull them by name").short('a'),
    honoured("arch", Value),
    honoured("authfile", Value),
    ignored("blob-cache", Value, STORE),
    honoured("cert-dir", Value),
    honoured("creds", Value),
    refused("decryption-key", List, DECRYPT),
    honoured("os", Value),
    honoured("platform", List),
    honoured("policy", Value),
    honoured("quiet", Bool).short('q'),
    ignored("remove-signatures", Bool, SIGNATURES),
    honoured("retry", Value),
    honoured("retry-delay", Value),
    refused("signature-policy", Value, POLICY),
    honoured("tls-verify", Bool),
    honoured("variant", Value),
];

const IMAGES: &[Flag] = &[
    honoured("all", Bool).short('a'),
    honoured("digests", Bool),
    honoured("filter", List).short('f'),
    honoured("format", Value),
    honoured("history", Bool),
    honoured("json", Bool),
    honoured("no-trunc", Bool),
    honoured("noheading", Bool).short('n'),
    honoured("quiet", Bool).short('q'),
];

const INSPECT: &[Flag] = &[
    honoured("format", Value).short('f'),
    honoured("type", Value).short('t').note("image; there are no containers"),
];

const RMI: &[Flag] = &[
    honoured("all", Bool).short('a'),
    honoured("force", Bool).short('f'),
    honoured("prune", Bool).short('p'),
];

const PRUNE: &[Flag] = &[honoured("all", Bool).short('a'), honoured("force", Bool).short('f')];

const MANIFEST_CREATE: &[Flag] = &[
    honoured("all", Bool),
    honoured("amend", Bool),
    refused("annotation", List, "annotations are of its images: use manifest annotate"),
    honoured("replace", Bool),
    honoured("tls-verify", Bool),
];

const MANIFEST_ADD: &[Flag] = &[
    honoured("all", Bool),
    honoured("annotation", List),
    honoured("arch", Value),
    refused("artifact", Bool, ARTIFACT),
    refused("artifact-annotation", List, ARTIFACT),
    refused("artifact-config", Value, ARTIFACT),
    refused("artifact-config-type", Value, ARTIFACT),
    refused("artifact-exclude-titles", Bool, ARTIFACT),
    refused("artifact-layer-type", Value, ARTIFACT),
    refused("artifact-subject", Value, ARTIFACT),
    refused("artifact-type", Value, ARTIFACT),
    honoured("authfile", Value),
    honoured("cert-dir", Value),
    honoured("creds", Value),
    honoured("features", List),
    honoured("os", Value),
    honoured("os-features", List),
    honoured("os-version", Value),
    honoured("tls-verify", Bool),
    honoured("variant", Value),
];

const MANIFEST_ANNOTATE: &[Flag] = &[
    honoured("annotation", List),
    honoured("arch", Value),
    honoured("features", List),
    refused("index", Bool, "give them to manifest create"),
    honoured("os", Value),
    honoured("os-features", List),
    honoured("os-version", Value),
    refused("subject", Value, ARTIFACT),
    honoured("variant", Value),
];

const MANIFEST_INSPECT: &[Flag] = &[
    honoured("authfile", Value),
    honoured("cert-dir", Value),
    honoured("creds", Value),
    honoured("tls-verify", Bool),
];

const MANIFEST_PUSH: &[Flag] = &[
    refused("add-compression", List, "push again under another name, with --compression-format"),
    honoured("all", Bool),
    honoured("authfile", Value),
    honoured("cert-dir", Value),
    honoured("compression-format", Value),
    honoured("compression-level", Value),
    honoured("creds", Value),
    honoured("digestfile", Value),
    ignored("force-compression", Bool, ALREADY),
    honoured("format", Value).short('f'),
    honoured("quiet", Bool).short('q'),
    ignored("remove-signatures", Bool, SIGNATURES),
    honoured("retry", Value),
    honoured("retry-delay", Value),
    honoured("rm", Bool),
    refused("sign-by", Value, SIGN),
    refused("signature-policy", Value, POLICY),
    honoured("tls-verify", Bool),
];

const LOGIN: &[Flag] = &[
    honoured("authfile", Value),
    honoured("cert-dir", Value),
    refused("compat-auth-file", Value, COMPAT),
    honoured("get-login", Bool),
    honoured("password", Value).short('p'),
    honoured("password-stdin", Bool),
    honoured("tls-verify", Bool),
    honoured("username", Value).short('u'),
    honoured("verbose", Bool).short('v'),
];

const LOGOUT: &[Flag] = &[
    honoured("all", Bool).short('a'),
    honoured("authfile", Value),
    refused("compat-auth-file", Value, COMPAT),
];

const INFO: &[Flag] = &[honoured("debug", Bool).short('d'), honoured("format", Value)];

const VERSION: &[Flag] = &[honoured("json", Bool)];
