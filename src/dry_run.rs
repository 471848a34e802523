//! `crossdock build --dry-run`: what a build would do, found out without reading a file of the context or writing
//! anything. Registries are asked for bases and for the blobs whose digests are known, and for nothing else.

mod disk;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use crossdock_builder::{Ahead, ForeseenLayer, Part, PlannedStage, Shares, foresee};
use crossdock_registry::Registry;
use crossdock_storage::{Counters, Entry, EntryKind, IndexStore, MemoStore, Platform, Warnings, escape_line};
use indicatif::HumanBytes;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::args::ProgressStyle;
use crate::bases::Bases;
use crate::build::{plan_images, settle_warnings};
use crate::destination::Destination;
use crate::local::LocalImages;
use crate::model::Models;
use crate::options::BuildOptions;
use crate::progress::display_of_bases;
use crate::report::{outcome_name, short};
use crate::session::{print, print_json};
use crate::{part, signals};
use disk::BuildahDisk;

/// Paths of a layer that are shown to people.
const PATHS: usize = 10;

/// What a build would do.
#[derive(Debug)]
struct DryRun {
    listed: bool,
    /// The part that would be sent, and by image the part of each layer.
    part: Option<(Part, Shares)>,
    destinations: Vec<ForeseenDestination>,
    images: Vec<ForeseenImage>,
    models: Models,
    buildah: BuildahDisk,
    /// Bytes of base layers that were fetched to see what they hold.
    received: u64,
}

#[derive(Debug)]
struct ForeseenDestination {
    name: String,
    /// By image.
    layers: Vec<Vec<ForeseenLayer>>,
}

#[derive(Debug)]
struct ForeseenImage {
    platform: Platform,
    stages: Vec<PlannedStage>,
}

/// Runs the build without doing it.
///
/// # Errors
/// Those of a build before it reads a file.
pub(crate) async fn run(
    options: &Arc<BuildOptions>,
    registry: &Registry,
    root: Option<&Path>,
    counters: &Arc<Counters>,
) -> Result<()> {
    let bases = Bases {
        registry: registry.clone(),
        indexes: root.map(|root| IndexStore::new(root).read_only()),
        local: LocalImages::new(root).ok(),
        pull: options.pull,
        ahead: Ahead {
            sink: None,
            jobs: options.jobs,
            // The document on standard output is the only one.
            progress: display_of_bases(
                options.progress,
                options.quiet || options.progress == ProgressStyle::Json,
            ),
            cancel: signals::cancel(),
            warnings: Warnings::default(),
        },
    };
    // Not the destinations: whether they may be written to shows by beginning an upload.
    let (planned, models) = plan_images(options, &bases, &[]).await?;
    let sinks =
        options.destinations.iter().map(|destination| destination.sink(registry, options.preflight, &[]));
    let sinks: Vec<_> = sinks.collect::<Result<_>>()?;
    let sinks: Vec<_> = sinks.iter().map(AsRef::as_ref).collect();
    settle_warnings(options, &planned, &sinks, &bases.ahead.warnings).await?;
    let platforms: Vec<_> = planned.iter().map(|planned| &planned.platform).collect();
    let trust = options.reuse.trust(registry, &platforms).await?;
    let assemblies: Vec<_> = planned.iter().map(|planned| &planned.assembly).collect();
    let part = options.part.map(|part| (part, Shares::new(&assemblies, part.of())));
    let mut memos = options.memos(root).map(MemoStore::read_only);
    if part.is_none()
        && let Some(mut parts) =
            part::find(options, assemblies.iter().copied(), root, &bases.ahead.warnings).await?
    {
        memos = memos.map(|memos| memos.bringing(parts.memos()));
    }
    let mut destinations = Vec::new();
    for destination in &options.destinations {
        let sink = destination.sink(registry, false, &[])?;
        let name = match destination {
            Destination::Record if options.names.is_empty() && options.manifest.is_none() => {
                "remembered without a name".to_owned()
            }
            Destination::Record => {
                let names: Vec<_> =
                    options.manifest.iter().chain(&options.names).map(String::as_str).collect();
                format!("remembered as {}", names.join(", "))
            }
            other => other.names().join(", "),
        };
        let layers = foresee(&assemblies, sink.as_ref(), memos.as_ref(), trust.as_deref()).await?;
        destinations.push(ForeseenDestination { name, layers });
    }
    let first = destinations.first().map(|destination| destination.layers.as_slice()).unwrap_or_default();
    let dry_run = DryRun {
        listed: options.listed,
        part,
        buildah: BuildahDisk::of(first),
        destinations,
        images: planned
            .into_iter()
            .map(|planned| ForeseenImage { platform: planned.platform, stages: planned.stages })
            .collect(),
        models,
        received: counters.received(),
    };
    if options.progress == ProgressStyle::Json { print_json(&dry_run.json()) } else { print(&dry_run.text()) }
}

/// Bytes, over all images.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    read: u64,
    sent: u64,
    mounted: u64,
    present: u64,
    received: u64,
    written: u64,
}

impl ForeseenDestination {
    /// Of the layers that are `sent`, by image.
    fn sums(&self, sent: impl Fn(usize, usize) -> bool) -> Sums {
        use crossdock_storage::Outcome;
        let mut sums = Sums::default();
        let layers = self.layers.iter().enumerate();
        let layers = layers
            .flat_map(|(image, layers)| layers.iter().enumerate().map(move |(at, layer)| (image, at, layer)));
        for (_, _, layer) in layers.filter(|(image, at, layer)| !layer.shared && sent(*image, *at)) {
            sums.read += layer.read;
            sums.received += layer.received;
            match layer.outcome {
                Outcome::Sent => sums.sent += layer.bytes,
                Outcome::Mounted { .. } => sums.mounted += layer.bytes,
                Outcome::Present => sums.present += layer.bytes,
                Outcome::Written => sums.written += layer.bytes,
                _ => {}
            }
        }
        sums
    }
}

impl DryRun {
    fn sums(&self, destination: &ForeseenDestination) -> Sums {
        let Some((part, shares)) = &self.part else { return destination.sums(|_, _| true) };
        let parts = shares.by_image();
        destination.sums(|image, at| parts[image][at] == Some(part.number()))
    }

    /// For people.
    fn text(&self) -> String {
        let mut text = String::new();
        let parts = self.part.as_ref().map(|(_, shares)| shares.by_image());
        for (at, image) in self.images.iter().enumerate() {
            let kind = if self.listed { "image of the list for" } else { "image    for" };
            // Writing to a String does not fail.
            let _ = writeln!(text, "{kind} {}", image.platform);
            for stage in &image.stages {
                let _ = writeln!(text, "stage    {}", escape_line(&stage_line(stage)));
            }
            let Some(layers) = self.destinations.first().map(|destination| &destination.layers[at]) else {
                continue;
            };
            for (place, layer) in layers.iter().enumerate() {
                let _ = writeln!(text, "layer    {}", escape_line(layer.title.trim()));
                let part = parts.as_ref().and_then(|parts| parts[at][place]);
                let part = part.map_or_else(String::new, |part| format!(" (part {part})"));
                let _ = writeln!(text, "  {}{part}", layer_line(layer));
                let entries = entries(layer);
                for entry in entries.iter().take(PATHS) {
                    let _ = writeln!(text, "  {}", escape_line(&entry_line(entry)));
                }
                if entries.len() > PATHS {
                    let _ = writeln!(text, "  and {} more", entries.len() - PATHS);
                }
            }
        }
        if let Some((part, shares)) = &self.part {
            let ((layers, bytes), whole) = (shares.size(part.number()), shares.whole());
            let _ = writeln!(
                text,
                "part     {} of {}: {layers} of {} layers, {} of {}",
                part.number(),
                part.of(),
                whole.0,
                HumanBytes(bytes),
                HumanBytes(whole.1)
            );
        }
        for destination in &self.destinations {
            let sums = self.sums(destination);
            let _ = writeln!(text, "to       {}", escape_line(&destination.name));
            let _ = writeln!(text, "  read   {} of the context's files", HumanBytes(sums.read));
            for (verb, bytes) in [
                ("send  ", sums.sent),
                ("mount ", sums.mounted),
                ("there ", sums.present),
                ("fetch ", sums.received),
                ("write ", sums.written),
            ] {
                if bytes > 0 {
                    let _ = writeln!(text, "  {verb} {}", HumanBytes(bytes));
                }
            }
        }
        let _ = writeln!(
            text,
            "buildah  would take at least {} of disk at its peak, and write {} (vfs; docs/dry-run.md)",
            HumanBytes(self.buildah.peak),
            HumanBytes(self.buildah.written)
        );
        if self.received > 0 {
            let _ =
                writeln!(text, "received {} of the base, to see what it holds", HumanBytes(self.received));
        }
        for line in self.models.lines() {
            let _ = writeln!(text, "{line}");
        }
        text += match self.models.bytes_read() {
            0 => "nothing was read of the files, and nothing was written\n",
            _ => "nothing else was read of the files, and nothing was written\n",
        };
        text
    }

    /// For machines: one object, documented in docs/progress.md. What it says of each file is made as it is written.
    fn json(&self) -> PlanJson<'_> {
        let parts = self.part.as_ref().map(|(_, shares)| shares.by_image());
        let images = self.images.iter().map(|image| {
            json!({
                "platform": image.platform.to_string(),
                "stages": image.stages.iter().map(stage_json).collect::<Vec<_>>(),
            })
        });
        let destinations = self.destinations.iter().map(|destination| {
            let sums = self.sums(destination);
            let layer = |image: usize, (at, layer)| {
                let LayerJson { layer: mut told, entries } = layer_json(layer);
                if let Some(parts) = &parts {
                    told["part"] = json!(parts[image][at]);
                }
                LayerJson { layer: told, entries }
            };
            DestinationJson {
                name: &destination.name,
                layers: destination
                    .layers
                    .iter()
                    .enumerate()
                    .map(|(image, layers)| layers.iter().enumerate().map(|at| layer(image, at)).collect())
                    .collect(),
                bytes_read: sums.read,
                bytes_sent: sums.sent,
                bytes_mounted: sums.mounted,
                bytes_present: sums.present,
                bytes_received: sums.received,
                bytes_written: sums.written,
            }
        });
        PlanJson {
            event: "plan",
            list: self.listed,
            part: self.part.as_ref().map(|(part, _)| part.number()),
            of: self.part.as_ref().map(|(part, _)| part.of()),
            images: images.collect(),
            destinations: destinations.collect(),
            buildah_disk_bytes: self.buildah.peak,
            buildah_written_bytes: self.buildah.written,
            bytes_received: self.received,
            model: self.models.json(),
        }
    }
}

#[derive(Serialize)]
struct PlanJson<'a> {
    event: &'static str,
    list: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<u32>,
    images: Vec<Value>,
    destinations: Vec<DestinationJson<'a>>,
    buildah_disk_bytes: u64,
    buildah_written_bytes: u64,
    bytes_received: u64,
    model: Value,
}

#[derive(Serialize)]
struct DestinationJson<'a> {
    name: &'a str,
    layers: Vec<Vec<LayerJson<'a>>>,
    bytes_read: u64,
    bytes_sent: u64,
    bytes_mounted: u64,
    bytes_present: u64,
    bytes_received: u64,
    bytes_written: u64,
}

#[derive(Serialize)]
struct LayerJson<'a> {
    #[serde(flatten)]
    layer: Value,
    #[serde(serialize_with = "entries_json")]
    entries: &'a [Entry],
}

fn entries_json<S: Serializer>(entries: &[Entry], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(entries.iter().map(entry_json))
}

/// What a layer holds, where that is at hand.
fn entries(layer: &ForeseenLayer) -> &[Entry] {
    layer.files.as_ref().and_then(|files| files.entries()).unwrap_or_default()
}

fn stage_line(stage: &PlannedStage) -> String {
    let mut line = format!("{} FROM {}", stage.index, stage.from);
    if let Some(name) = &stage.name {
        line += &format!(" AS {name}");
    }
    line += &match stage.instructions {
        1 => ", 1 instruction".to_owned(),
        n => format!(", {n} instructions"),
    };
    if let Some((digest, platform)) = &stage.base {
        line += &format!(" ({platform}, {digest})");
    }
    line
}

fn stage_json(stage: &PlannedStage) -> Value {
    json!({
        "stage": stage.index,
        "name": stage.name,
        "from": stage.from,
        "base_digest": stage.base.as_ref().map(|(digest, _)| digest.to_string()),
        "instructions": stage.instructions,
    })
}

fn layer_line(layer: &ForeseenLayer) -> String {
    let known = layer.digest.as_ref().map_or_else(|| "digest not known yet".to_owned(), short);
    let size = match (&layer.digest, layer.archive) {
        // What it will be when it is compressed, nobody knows.
        (None, Some(_)) if !layer.media_type.to_string().ends_with("tar") => "at most ",
        _ => "",
    };
    let size = format!("{size}{}", HumanBytes(layer.bytes));
    format!("{known}, {size}, {}: {}", layer.media_type, would_be(layer))
}

fn would_be(layer: &ForeseenLayer) -> String {
    use crossdock_storage::Outcome;
    match &layer.outcome {
        _ if layer.shared => "shared with an earlier image".to_owned(),
        Outcome::Sent if layer.archive.is_none() => "to be sent, streamed from where the base is".to_owned(),
        Outcome::Sent => "to be read and sent".to_owned(),
        Outcome::Mounted { from } => format!("to be mounted from {from}"),
        Outcome::Present => "there already".to_owned(),
        Outcome::Written => "to be written".to_owned(),
        Outcome::Foreign => "to be left at its URLs".to_owned(),
        _ if layer.read > 0 => "to be read for its digest".to_owned(),
        _ => "known, nothing to do".to_owned(),
    }
}

fn layer_json(layer: &ForeseenLayer) -> LayerJson<'_> {
    let told = json!({
        "title": layer.title.trim(),
        "from_base": layer.from_base,
        "media_type": layer.media_type.to_string(),
        "digest": layer.digest.as_ref().map(ToString::to_string),
        "bytes": layer.bytes,
        "outcome": outcome_name(&layer.outcome),
        "shared": layer.shared,
        "bytes_read": layer.read,
        "bytes_received": layer.received,
    });
    LayerJson { layer: told, entries: entries(layer) }
}

fn entry_line(entry: &Entry) -> String {
    match &entry.kind {
        EntryKind::File(content) => {
            format!("{:>11}  {}", HumanBytes(content.len()).to_string(), entry.path)
        }
        EntryKind::Directory => format!("{:>11}  {}/", "", entry.path),
        EntryKind::Symlink { target } => {
            format!("{:>11}  {} -> {}", "", entry.path, String::from_utf8_lossy(target))
        }
        EntryKind::HardLink { target } => format!("{:>11}  {} = {target}", "", entry.path),
        EntryKind::Special(_) => format!("{:>11}  {}", "", entry.path),
    }
}

fn entry_json(entry: &Entry) -> Value {
    let (kind, bytes) = match &entry.kind {
        EntryKind::File(content) => ("file", Some(content.len())),
        EntryKind::Directory => ("directory", None),
        EntryKind::Symlink { .. } => ("symlink", None),
        EntryKind::HardLink { .. } => ("hardlink", None),
        EntryKind::Special(_) => ("special", None),
    };
    json!({"path": entry.path.to_string(), "kind": kind, "bytes": bytes, "mode": format!("{:04o}", entry.mode)})
}
