//! `crossdock images`: what is remembered here, in buildah's table and words.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use crossdock_storage::{Descriptor, Digest, ImageList, ImageRecord, Records};
use jiff::Timestamp;
use serde_json::{Value as Json, json};

use crate::exit::UsageError;
use crate::local::LocalImages;
use crate::session::{print_data, print_laid_out, root_directory};
use crate::template::{Empty, Field, Template, Value};
use crate::{manifest, table};

mod filters;

use filters::Filters;

/// What stands for a name that an image has not.
const NONE: &str = "<none>";

const EXAMPLES: &str = "\
Examples:
  crossdock images
  crossdock images --format '{{.Name}}:{{.Tag}} {{.Digest}}'
  crossdock images -q --filter dangling=true

What is listed is remembered, and not stored: SIZE is what the image's layers have where they are.
A template may use .ID .Name (or .Repository) .Tag .Digest .CreatedAt .CreatedAtRaw .Created .Size .ReadOnly and \
.History; it begins with `table` where headings are wanted.";

/// What `images` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ImagesArgs {
    /// List all images; there are no intermediate ones that would be left out
    #[arg(short, long)]
    all: bool,

    /// Show the digests of the manifests
    #[arg(long)]
    digests: bool,

    /// List only what this is true for: id=ID, digest=DIGEST, dangling=BOOL, label=KEY[=VALUE], since=IMAGE,
    /// before=IMAGE, manifest=BOOL or reference=PATTERN; all of them where there are several, but one of several
    /// patterns. FILTER!=VALUE is the opposite
    #[arg(short, long = "filter", value_name = "FILTER", value_delimiter = ',')]
    filters: Vec<String>,

    /// Print each image by a Go template
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "quiet")]
    format: Option<String>,

    /// Show the names that the image has beside
    #[arg(long)]
    history: bool,

    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,

    /// Show IDs whole
    #[arg(long)]
    no_trunc: bool,

    /// Print no headings
    #[arg(short, long)]
    noheading: bool,

    /// Print IDs only
    #[arg(short, long)]
    quiet: bool,

    /// Name or ID of the one image to list
    #[arg(value_name = "IMAGE", conflicts_with = "all")]
    image: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// Where the root directory cannot be read, there is no such image, or a filter or the template is not understood.
pub(crate) fn run(args: &ImagesArgs, root: Option<&Path>) -> Result<()> {
    let template = args.format.as_deref().map(Layout::parse).transpose().map_err(UsageError)?;
    let local = LocalImages::new(root_directory(root).as_deref())?;
    let records = local.store().list()?;
    for (_, reason) in &records.damaged {
        tracing::warn!("{reason}");
    }
    let mut images: Vec<_> = records.lists.iter().map(|list| Listed::of_list(list, &records)).collect();
    for image in &records.images {
        match Listed::new(image, &records) {
            Ok(listed) => images.push(listed),
            Err(error) => tracing::warn!("the image {} is not listed: {error:#}", image.manifest.digest()),
        }
    }
    images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.names.cmp(&b.names)));
    if let Some(name) = &args.image {
        let wanted = match local.find_list(name)? {
            Some(list) => list.id,
            None => local.find(name)?.manifest.digest().clone(),
        };
        images.retain(|image| image.key == wanted);
    }
    let filters = Filters::parse(&args.filters, &local)?;
    images.retain(|image| filters.accepts(image));
    let now = Timestamp::now();
    let shown = |image: &Listed| image.shown_id(args.no_trunc);
    if args.json {
        // As buildah has them: in the order in which they were made.
        let images: Vec<_> = images.iter().rev().map(|image| image.json(&shown(image), now)).collect();
        print_laid_out(&in_json(&images))
    } else if args.quiet {
        print_data(&images.iter().map(|image| shown(image) + "\n").collect::<String>())
    } else {
        let layout = template.map_or_else(|| Layout::standard(args), Ok)?;
        print_data(&layout.print(args, &images, now)?)
    }
}

/// An image, or a list of images, as it is shown.
struct Listed {
    /// What its names stand for.
    key: Digest,
    id: Digest,
    digest: Digest,
    names: Vec<String>,
    created: Timestamp,
    size: u64,
    labels: BTreeMap<String, String>,
    is_list: bool,
}

impl Listed {
    fn new(record: &ImageRecord, records: &Records) -> Result<Self> {
        let config = record.config()?;
        let digest = record.manifest.digest().clone();
        Ok(Self {
            id: record.id(),
            names: records.names_of(&digest).map(str::to_owned).collect(),
            created: config
                .created
                .as_deref()
                .and_then(|time| time.parse().ok())
                .unwrap_or_else(|| recorded(record.recorded)),
            size: record.manifest()?.layers().iter().map(Descriptor::size).sum(),
            labels: config.config.labels.into_iter().collect(),
            key: digest.clone(),
            digest,
            is_list: false,
        })
    }

    fn of_list(list: &ImageList, records: &Records) -> Self {
        let index = manifest::descriptor(list);
        Self {
            key: list.id.clone(),
            id: list.id.clone(),
            digest: index.digest().clone(),
            names: records.names_of(&list.id).map(str::to_owned).collect(),
            created: recorded(list.recorded),
            size: index.size(),
            labels: BTreeMap::new(),
            is_list: true,
        }
    }

    fn shown_id(&self, whole: bool) -> String {
        let id = &self.id;
        if whole { id.to_string() } else { id.digest().chars().take(12).collect() }
    }

    fn json(&self, id: &str, now: Timestamp) -> Json {
        json!({
            "id": id,
            "names": (!self.names.is_empty()).then_some(&self.names),
            "digest": self.digest.to_string(),
            "createdat": table::ago(self.created, now),
            "size": table::size(self.size),
            "created": self.created.as_second(),
            "createdatraw": self.created.to_string(),
            "readonly": false,
            "history": null,
        })
    }

    /// One for each name.
    fn rows(&self, whole: bool, now: Timestamp) -> Vec<Value> {
        let names: Vec<_> = self.names.iter().map(|name| split_name(name)).collect();
        let names = if names.is_empty() { vec![(NONE.to_owned(), NONE.to_owned())] } else { names };
        let text =
            |name, text: String| Field { name, key: name, empty: Empty::Null, value: Value::Text(text) };
        let row = |(name, tag): (String, String)| {
            let others: Vec<_> = self
                .names
                .iter()
                .filter(|other| split_name(other) != (name.clone(), tag.clone()))
                .cloned()
                .collect();
            let of = |name, value| Field { value, ..text(name, String::new()) };
            Value::Struct(vec![
                text("Tag", tag),
                text("ID", self.shown_id(whole)),
                Field { empty: Empty::Alias, ..text("Repository", name.clone()) },
                text("Name", name),
                text("Digest", self.digest.to_string()),
                of("Created", Value::Int(self.created.as_second())),
                text("CreatedAt", table::ago(self.created, now)),
                text("Size", table::size(self.size)),
                of("CreatedAtRaw", Value::Time(self.created.to_string())),
                of("ReadOnly", Value::Bool(false)),
                text("History", if others.is_empty() { NONE.to_owned() } else { others.join(", ") }),
            ])
        };
        names.into_iter().map(row).collect()
    }
}

fn recorded(seconds: u64) -> Timestamp {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Repository and tag; a name by digest has no tag.
fn split_name(name: &str) -> (String, String) {
    if let Some((repository, _)) = name.split_once('@') {
        return (repository.to_owned(), NONE.to_owned());
    }
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository.to_owned(), tag.to_owned()),
        _ => (name.to_owned(), NONE.to_owned()),
    }
}

/// What stands in which column.
struct Layout {
    template: Template,
    headings: bool,
}

impl Layout {
    /// As buildah has it, spaces part columns as tabs do.
    fn parse(text: &str) -> Result<Self> {
        let (text, headings) = match text.strip_prefix("table ") {
            Some(rest) => (rest.trim_start(), true),
            None => (text, false),
        };
        if !text.contains("{{") {
            bail!("--format {text}: write a template, as '{{{{.ID}}}} {{{{.Name}}}}'; for JSON, use --json");
        }
        let template = Template::parse(text).context("--format")?;
        Ok(Self {
            template: template.map_text(&|text| text.replace("\\t", "\t").replace(' ', "\t")),
            headings,
        })
    }

    fn standard(args: &ImagesArgs) -> Result<Self> {
        let digest = if args.digests { "{{.Digest}}\\t" } else { "" };
        let history = if args.history { "\\t{{.History}}" } else { "" };
        let columns = format!(
            "{{{{.Name}}}}\\t{{{{.Tag}}}}\\t{digest}{{{{.ID}}}}\\t{{{{.CreatedAt}}}}\\t{{{{.Size}}}}{history}"
        );
        Ok(Self { headings: true, ..Self::parse(&columns)? })
    }

    fn print(&self, args: &ImagesArgs, images: &[Listed], now: Timestamp) -> Result<String> {
        let mut lines = Vec::new();
        if self.headings && !args.noheading {
            lines.push(self.line(&headings())?);
        }
        for row in images.iter().flat_map(|image| image.rows(args.no_trunc, now)) {
            lines.push(self.line(&row)?);
        }
        Ok(table::aligned(&lines))
    }

    fn line(&self, row: &Value) -> Result<String> {
        Ok(self.template.render(row).map_err(|error| UsageError(anyhow!("--format: {error}")))?)
    }
}

/// The row above all others.
fn headings() -> Value {
    let headings = [
        ("ID", "IMAGE ID"),
        ("Name", "REPOSITORY"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("CreatedAt", "CREATED"),
        ("CreatedAtRaw", "CREATED"),
        ("Created", "CREATED"),
        ("Size", "SIZE"),
        ("ReadOnly", "R/O"),
        ("History", "HISTORY"),
    ];
    let field = |(name, heading): (&'static str, &str)| Field {
        name,
        key: name,
        empty: Empty::Null,
        value: Value::from(heading),
    };
    Value::Struct(headings.into_iter().map(field).collect())
}

/// JSON as Go's encoder indents it.
pub(crate) fn in_json(value: &impl serde::Serialize) -> String {
    let mut bytes = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, indent);
    // Into memory, and with keys that are texts: this does not fail.
    let _ = value.serialize(&mut serializer);
    bytes.push(b'\n');
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_at_their_tag() {
        for (name, repository, tag) in [
            ("localhost/x:1", "localhost/x", "1"),
            ("host:5000/x:latest", "host:5000/x", "latest"),
            ("quay.io/x@sha256:00", "quay.io/x", NONE),
        ] {
            assert_eq!(split_name(name), (repository.to_owned(), tag.to_owned()));
        }
    }
}
