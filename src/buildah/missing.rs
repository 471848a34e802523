//! Commands of buildah, podman and docker that are not carried out, and what to do here instead.

/// A command that is not carried out.
#[derive(Debug)]
pub(crate) struct Missing {
    pub(crate) name: &'static str,
    pub(crate) aliases: &'static [&'static str],
    pub(crate) instead: &'static str,
}

/// The command of these words, or the group that its first word is.
pub(crate) fn missing(words: &str) -> Option<&'static Missing> {
    let named = |name: &str| {
        let all = || MISSING.iter().chain(HABITS);
        all().find(|command| command.name == name || command.aliases.contains(&name))
    };
    named(words).or_else(|| named(words.split(' ').next().unwrap_or_default()))
}

const fn to(name: &'static str, instead: &'static str) -> Missing {
    Missing { name, aliases: &[], instead }
}

impl Missing {
    const fn or(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
}

const CONTAINERS: &str = "there are no containers here, only images";
const FILES: &str = "push to oci:DIR and unpack that with umoci";

/// Those of buildah: all that need containers, or a store.
pub(crate) const MISSING: &[Missing] = &[
    to("add", "write COPY in a Containerfile and use build"),
    to("commit", "write a Containerfile and use build"),
    to("config", "write ENV, CMD, LABEL and so on in a Containerfile and use build"),
    to("containers", "images lists the images that are remembered").or(&["list", "ls", "ps"]),
    to("copy", "write COPY in a Containerfile and use build"),
    to("from", "write FROM in a Containerfile and use build"),
    to("mkcw", "use buildah itself"),
    to("mount", FILES),
    to("rename", "tag gives an image another name"),
    to("rm", "rmi removes images; builds leave no containers behind").or(&["delete"]),
    to("run", "do this step in an earlier task of the pipeline, or with buildah itself"),
    to("source", "use buildah itself"),
    to("umount", "nothing is ever mounted").or(&["unmount"]),
    to("unshare", "nothing here needs a user namespace: leave it out"),
];

/// Those that podman and docker have beside.
pub(crate) const HABITS: &[Missing] = &[
    to("attach", CONTAINERS).or(&[
        "container",
        "create",
        "diff",
        "events",
        "exec",
        "kill",
        "logs",
        "pause",
        "port",
        "restart",
        "start",
        "stats",
        "stop",
        "top",
        "unpause",
        "update",
        "wait",
    ]),
    to("buildx", "buildx build is build; there are no builders to create or to choose: leave it out"),
    to("buildx bake", "use build for each target").or(&["bake", "compose"]),
    to("buildx du", "info shows how much disk is used").or(&["du", "system df"]),
    to("buildx imagetools", "manifest inspect shows a list of images, manifest create and push make one"),
    to("buildx prune", "prune --memos forgets what builds remembered").or(&["builder", "builder prune"]),
    to(
        "cp",
        "write COPY in a Containerfile; for files out of an image, push to oci:DIR and unpack that with umoci",
    ),
    to("export", FILES).or(&["unpack"]),
    to("history", "inspect --format '{{json .OCIv1.History}}' IMAGE shows it").or(&["image history"]),
    to(
        "image",
        "image ls is images; build, history, inspect, prune, pull, push, rm and tag go by these words alone",
    ),
    to("import", "write FROM scratch and ADD FILE.tar / in a Containerfile and use build")
        .or(&["image import"]),
    to(
        "load",
        "make a layout of the archive with `skopeo copy docker-archive:FILE oci:DIR`, then pull oci:DIR",
    )
    .or(&["image load"]),
    to("network", "nothing is run, so that there are no networks and no volumes").or(&["volume"]),
    to("save", "push NAME oci-archive:FILE or docker-archive:FILE writes an archive").or(&["image save"]),
    to("search", "look on the registry's own pages; `skopeo list-tags docker://HOST/REPOSITORY` lists tags"),
    to("sign", "use cosign on the digest").or(&["trust", "image sign", "image trust"]),
    to("system", "system prune is prune, and system info is info"),
    to("untag", "rmi NAME takes a name away, and the image with its last one").or(&["image untag"]),
];
