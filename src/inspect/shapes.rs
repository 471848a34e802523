//! The Go structs that buildah's `inspect` shows: OCI's image (image-spec, specs-go/v1) and Docker's (buildah's
//! docker/types.go), field by field.

use crate::template::{Empty, Member, Shape};

const fn member(name: &'static str, key: &'static str, shape: Shape) -> Member {
    Member { name, key, empty: Empty::Null, shape }
}

/// A list that is there with nothing in it.
const fn made(name: &'static str, key: &'static str, shape: Shape) -> Member {
    Member { name, key, empty: Empty::Made, shape }
}

/// With `omitempty`.
const fn optional(name: &'static str, key: &'static str, shape: Shape) -> Member {
    Member { name, key, empty: Empty::Omitted, shape }
}

const TEXTS: Shape = Shape::List(&Shape::Text);
/// `map[string]struct{}`
const SET: Shape = Shape::Map(&Shape::Struct(&[]));

const ROOT_FS: Shape =
    Shape::Struct(&[member("Type", "type", Shape::Text), member("DiffIDs", "diff_ids", TEXTS)]);

/// A list of lines.
pub(super) const HISTORY: Shape = Shape::List(&Shape::Struct(&[
    optional("Created", "created", Shape::Time),
    optional("CreatedBy", "created_by", Shape::Text),
    optional("Author", "author", Shape::Text),
    optional("Comment", "comment", Shape::Text),
    optional("EmptyLayer", "empty_layer", Shape::Bool),
]));

/// `.OCIv1`
pub(super) const OCI: Shape = Shape::Struct(&[
    optional("Created", "created", Shape::Time),
    optional("Author", "author", Shape::Text),
    member("Architecture", "architecture", Shape::Text),
    optional("Variant", "variant", Shape::Text),
    member("OS", "os", Shape::Text),
    optional("OSVersion", "os.version", Shape::Text),
    optional("OSFeatures", "os.features", TEXTS),
    optional(
        "Config",
        "config",
        Shape::Struct(&[
            optional("User", "User", Shape::Text),
            optional("ExposedPorts", "ExposedPorts", SET),
            optional("Env", "Env", TEXTS),
            optional("Entrypoint", "Entrypoint", TEXTS),
            optional("Cmd", "Cmd", TEXTS),
            optional("Volumes", "Volumes", SET),
            optional("WorkingDir", "WorkingDir", Shape::Text),
            optional("Labels", "Labels", Shape::Map(&Shape::Text)),
            optional("StopSignal", "StopSignal", Shape::Text),
            optional("ArgsEscaped", "ArgsEscaped", Shape::Bool),
        ]),
    ),
    member("RootFS", "rootfs", ROOT_FS),
    optional("History", "history", HISTORY),
]);

const DOCKER_CONFIG: Shape = Shape::Struct(&[
    member("Hostname", "Hostname", Shape::Text),
    member("Domainname", "Domainname", Shape::Text),
    member("User", "User", Shape::Text),
    member("AttachStdin", "AttachStdin", Shape::Bool),
    member("AttachStdout", "AttachStdout", Shape::Bool),
    member("AttachStderr", "AttachStderr", Shape::Bool),
    optional("ExposedPorts", "ExposedPorts", SET),
    member("Tty", "Tty", Shape::Bool),
    member("OpenStdin", "OpenStdin", Shape::Bool),
    member("StdinOnce", "StdinOnce", Shape::Bool),
    member("Env", "Env", TEXTS),
    member("Cmd", "Cmd", TEXTS),
    optional(
        "Healthcheck",
        "Healthcheck",
        Shape::Pointer(&Shape::Struct(&[
            optional("Test", "Test", TEXTS),
            optional("Interval", "Interval", Shape::Int),
            optional("Timeout", "Timeout", Shape::Int),
            optional("StartPeriod", "StartPeriod", Shape::Int),
            optional("StartInterval", "StartInterval", Shape::Int),
            optional("Retries", "Retries", Shape::Int),
        ])),
    ),
    optional("ArgsEscaped", "ArgsEscaped", Shape::Bool),
    member("Image", "Image", Shape::Text),
    member("Volumes", "Volumes", SET),
    member("WorkingDir", "WorkingDir", Shape::Text),
    member("Entrypoint", "Entrypoint", TEXTS),
    optional("NetworkDisabled", "NetworkDisabled", Shape::Bool),
    optional("MacAddress", "MacAddress", Shape::Text),
    member("OnBuild", "OnBuild", TEXTS),
    member("Labels", "Labels", Shape::Map(&Shape::Text)),
    optional("StopSignal", "StopSignal", Shape::Text),
    optional("StopTimeout", "StopTimeout", Shape::Pointer(&Shape::Int)),
    optional("Shell", "Shell", TEXTS),
]);

/// `.Docker`
pub(super) const DOCKER: Shape = Shape::Struct(&[
    optional("ID", "id", Shape::Text),
    optional("Parent", "parent", Shape::Text),
    optional("Comment", "comment", Shape::Text),
    member("Created", "created", Shape::Time),
    optional("Container", "container", Shape::Text),
    optional("ContainerConfig", "container_config", DOCKER_CONFIG),
    optional("DockerVersion", "docker_version", Shape::Text),
    optional("Author", "author", Shape::Text),
    optional("Config", "config", Shape::Pointer(&DOCKER_CONFIG)),
    optional("Architecture", "architecture", Shape::Text),
    optional("Variant", "variant", Shape::Text),
    optional("OS", "os", Shape::Text),
    optional("Size", "size", Shape::Int),
    optional("RootFS", "rootfs", ROOT_FS),
    optional("History", "history", HISTORY),
    optional("OSVersion", "os.version", Shape::Text),
    optional("OSFeatures", "os.features", TEXTS),
]);

/// What is no image's, but a container's; empty for an image.
pub(super) const ID_MAPPING: Shape = Shape::Struct(&[
    member("HostUIDMapping", "HostUIDMapping", Shape::Bool),
    member("HostGIDMapping", "HostGIDMapping", Shape::Bool),
    made("UIDMap", "UIDMap", TEXTS),
    made("GIDMap", "GIDMap", TEXTS),
    member("AutoUserNs", "AutoUserNs", Shape::Bool),
]);
