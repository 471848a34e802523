//! `crossdock inspect`: an image as buildah's `inspect --type image` shows it.

use std::io::IsTerminal as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, ValueEnum};
use crossdock_storage::{ImageRecord, Platform};
use serde_json::{Value as Json, json};

use crate::exit::UsageError;
use crate::images::in_json;
use crate::local::LocalImages;
use crate::manifest;
use crate::session::{print_data, print_laid_out, root_directory};
use crate::template::{Empty, Field, Shape, Template, Value};

mod shapes;

const EXAMPLES: &str = "\
Examples:
  crossdock inspect quay.io/models/llama:1
  crossdock inspect --format '{{.FromImageDigest}}' llama
  crossdock inspect --format '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' llama
  crossdock inspect --format '{{json .Docker.Config.Labels}}' llama

Templates are Go's: fields, if, with, range, variables, and the functions and eq ge gt index join json le len lower lt \
ne not or print printf println slice split upper.";

/// What `inspect` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InspectArgs {
    /// Print what a Go template makes of the image, without a newline of its own
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// What IMAGE is: an image, or a manifest to print as it is
    #[arg(short = 't', long = "type", value_enum, value_name = "TYPE", default_value_t = Kind::Image)]
    kind: Kind,

    /// Name, ID or digest of an image that was built or pulled here
    #[arg(value_name = "IMAGE")]
    image: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Image,
    Manifest,
    #[value(hide = true)]
    Container,
}

/// Runs the command.
///
/// # Errors
/// Where there is no such image, or the template is not understood.
pub(crate) fn run(args: &InspectArgs, root: Option<&Path>) -> Result<()> {
    if args.kind == Kind::Container {
        let reason = anyhow!("--type container: there are no containers; an image is what can be looked at");
        return Err(UsageError(reason).into());
    }
    let usage = |error| UsageError(anyhow!("--format: {error}"));
    let template = args.format.as_deref().map(Template::parse).transpose().map_err(usage)?;
    let local = LocalImages::new(root_directory(root).as_deref())?;
    let image = match local.find_list(&args.image)? {
        Some(list) if args.kind == Kind::Manifest && template.is_none() => {
            return manifest::show(list.entries.iter().map(|entry| &entry.manifest));
        }
        // As buildah does: the one that runs here.
        Some(list) => {
            let chosen = list.select(&Platform::host(), &args.image);
            local
                .member(chosen.context(
                    "no image of the list is for this machine: see `crossdock manifest inspect`",
                )?)?
        }
        None => local.find(&args.image)?,
    };
    let shown = match args.kind {
        Kind::Manifest => Value::from(&parse(&image.manifest_bytes, "manifest")?),
        _ => {
            let digest = image.manifest.digest();
            // By its ID, the first name that it has.
            let name = match local.name_of(&args.image, digest)? {
                Some(name) => name,
                None => local.store().list()?.names_of(digest).next().unwrap_or_default().to_owned(),
            };
            shown(&image, &name)?
        }
    };
    match (template, args.kind) {
        (Some(template), _) => {
            let mut text = template.render(&shown).map_err(usage)?;
            if std::io::stdout().is_terminal() {
                text.push('\n');
            }
            print_data(&text)
        }
        // As it is: an empty list of it is one, and not null.
        (None, Kind::Manifest) => print_laid_out(&in_json(&parse(&image.manifest_bytes, "manifest")?)),
        (None, _) => print_laid_out(&in_json(&shown)),
    }
}

fn parse(bytes: &[u8], what: &str) -> Result<Json> {
    serde_json::from_slice(bytes).with_context(|| format!("the {what} cannot be read"))
}

/// buildah's BuilderInfo of an image: what is a container's is empty.
fn shown(image: &ImageRecord, name: &str) -> Result<Value> {
    let config = parse(&image.config_bytes, "config")?;
    let manifest = parse(&image.manifest_bytes, "manifest")?;
    // Docker's own `container_config` is that of the container the image was made from: buildah gives the image's.
    let mut docker = config.clone();
    if let (Some(fields), Some(runtime)) = (docker.as_object_mut(), config.get("config")) {
        fields.insert("container_config".to_owned(), runtime.clone());
    }
    let text = |bytes: &[u8]| Value::Text(String::from_utf8_lossy(bytes).into_owned());
    let empty = || Value::from("");
    let mapping = json!({"HostUIDMapping": true, "HostGIDMapping": true});
    let fields = [
        ("Type", Value::from("buildah 0.0.1")),
        ("FromImage", Value::from(name)),
        ("FromImageID", Value::from(image.id().digest())),
        ("FromImageDigest", Value::Text(image.manifest.digest().to_string())),
        ("Config", text(&image.config_bytes)),
        ("Manifest", text(&image.manifest_bytes)),
        ("Container", empty()),
        ("ContainerID", empty()),
        ("MountPoint", empty()),
        ("ProcessLabel", empty()),
        ("MountLabel", empty()),
        ("ImageAnnotations", Value::shaped(manifest.get("annotations"), Shape::Map(&Shape::Text))),
        ("ImageCreatedBy", empty()),
        ("OCIv1", Value::shaped(Some(&config), shapes::OCI)),
        ("Docker", Value::shaped(Some(&docker), shapes::DOCKER)),
        ("DefaultMountsFilePath", empty()),
        ("Isolation", Value::from("oci")),
        ("NamespaceOptions", Value::List(Vec::new())),
        ("Capabilities", Value::List(Vec::new())),
        ("ConfigureNetwork", Value::from("NetworkDefault")),
        ("CNIPluginPath", empty()),
        ("CNIConfigDir", empty()),
        ("IDMappingOptions", Value::shaped(Some(&mapping), shapes::ID_MAPPING)),
        ("History", Value::shaped(config.get("history"), shapes::HISTORY)),
        ("Devices", Value::List(Vec::new())),
    ];
    let fields = fields.into_iter().map(|(name, value)| {
        let empty = if name == "ImageAnnotations" { Empty::Made } else { Empty::Null };
        Field { name, key: name, empty, value }
    });
    Ok(Value::Struct(fields.collect()))
}
