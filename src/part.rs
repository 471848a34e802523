//! `build --part I/N`: one part of an image's layers is sent; and what the build after the parts makes of what they left.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow};
use crossdock_builder::{
    Assembled, AssembledLayer, AssembledPart, Assembly, AssemblyLayer, LayerContent, LayerName, Part, Shares,
    assemble_part, layers_of,
};
use crossdock_registry::Registry;
use crossdock_storage::{
    Counters, Error as StorageError, Hasher, MemoStore, Memos, Outcome, PartFile, PartFiles, PartStore,
    Warnings, blocking, change_times, escape_controls, is_settled,
};
use indicatif::HumanBytes;
use serde_json::{Value, json};

use crate::args::ProgressStyle;
use crate::build::{Prepared, is_fleeting, prepare, settings, show};
use crate::destination::Destination;
use crate::exit::{Strict, UsageError};
use crate::local::LocalImages;
use crate::options::BuildOptions;
use crate::report::{Effort, layer_lines, layers_json};
use crate::{message, signals};

/// How long a part waits at most until the files that it is to read are old enough to be remembered: two seconds, and
/// something for the clock of a network file system.
const SETTLING: Duration = Duration::from_millis(2_500);

/// A part that is where it belongs.
#[derive(Debug)]
pub(crate) struct Sent {
    part: Part,
    names: Vec<String>,
    plan: String,
    /// Layers and bytes of the part, and of the whole.
    share: (u64, u64),
    whole: (u64, u64),
    layers: Vec<AssembledLayer>,
    /// Where it is written what was sent.
    kept: PathBuf,
}

/// Sends the layers of one part.
///
/// # Errors
/// Those of a build before it makes the image, and where what is sent could not be found again.
pub(crate) async fn send(
    part: Part,
    options: &Arc<BuildOptions>,
    registry: &Registry,
    root: Option<&Path>,
    local: &Result<LocalImages>,
    counters: &Arc<Counters>,
) -> Result<Sent> {
    if options.reuse.trusts() {
        return Err(UsageError(anyhow!(
            "--part {part}: --trust-layers-of is for the build after the parts, for nothing is remembered of what is trusted"
        ))
        .into());
    }
    let store = place(options, root).ok_or_else(|| {
        UsageError(anyhow!("--part {part}: what is sent could not be found again: give --root or --part-file a directory that all parts share, or set HOME"))
    })?;
    let Prepared { sinks, mut images, trust, warnings, models: _ } =
        prepare(options, registry, root, local).await?;
    if images.iter().any(|(_, image)| is_fleeting(image)) {
        return Err(StorageError::Unusable(format!(
            "--part {part}: the context came through a pipe, and no other build could tell that its files are the same: give all parts a directory that they share, or the archive as a file"
        ))
        .into());
    }
    let assemblies = images.iter().map(|(_, image)| image.clone()).collect();
    let shares = shares(assemblies, part.of()).await;
    let share = shares.size(part.number());
    let repositories = repositories(options);
    let file = PartFile::begun(shares.plan(), repositories, (part.number(), part.of()), share);
    let plan = file.plan.clone();
    let (begun, noting) = (file.clone(), store.clone());
    let noted = blocking(move || noting.begin(&begun)).await;
    noted.with_context(|| format!("what part {part} sends could not be found again"))?;
    // Warnings about what the parts left are for the build after them.
    let memos = options.memos(root).map(MemoStore::collecting);
    let settings = settings(options, memos, trust, counters, warnings);
    let mut blobs = BTreeSet::new();
    let mut sent: Option<AssembledPart> = None;
    if share.0 > 0 {
        settle(&images_of(&images), &shares, part).await?;
        for sink in &sinks {
            let done = assemble_part(&images_of(&images), &shares, part, sink, &settings).await?;
            done.teach(&shares, images.iter_mut().map(|(_, image)| image));
            sent.get_or_insert(done);
        }
    }
    let layers = sent.map(|sent| sent.layers).unwrap_or_default();
    let memos = settings.memos.as_ref().map(MemoStore::collected).unwrap_or_default();
    let planned = images_of(&images);
    let planned = layers_of(&planned, &shares, part);
    for (name, _) in &planned {
        if let LayerName::Blob(digest) = name {
            blobs.insert(digest.clone());
        }
    }
    warn_of_forgotten(part, &planned, &memos);
    let kept = store.clone();
    let done = file.finished(blobs.into_iter().collect(), memos);
    blocking(move || kept.write(&done))
        .await
        .with_context(|| format!("part {part} is sent, but the build after the parts would not know it"))?;
    Ok(Sent {
        part,
        names: options.destinations.iter().flat_map(Destination::names).collect(),
        plan,
        share,
        whole: shares.whole(),
        layers,
        kept: store.directory().to_owned(),
    })
}

/// Writes what came of a part.
pub(crate) fn tell(options: &BuildOptions, sent: &Sent, effort: &Effort) -> Result<()> {
    if options.quiet {
        // There is no digest that a script could go on with.
        return Ok(());
    }
    match options.progress {
        ProgressStyle::Json => {
            show(options, &format!("{}\n", message::json_safe(&sent.json(effort).to_string())), true)
        }
        _ => show(options, &escape_controls(&sent.text(effort)), false),
    }
}

impl Sent {
    fn found(&self) -> u64 {
        let found =
            |layer: &&AssembledLayer| matches!(layer.outcome, Outcome::Present | Outcome::Mounted { .. });
        self.layers.iter().filter(found).map(|layer| layer.layer.descriptor.size()).sum()
    }

    fn text(&self, effort: &Effort) -> String {
        let (layers, bytes) = self.share;
        let mut lines: Vec<_> = self.names.iter().map(|name| format!("image    {name}")).collect();
        if layers == 0 {
            lines.push(format!(
                "part     {} of {} has no layers: the image has {} in all, so there is nothing to send",
                self.part.number(),
                self.part.of(),
                self.whole.0
            ));
        } else {
            lines.push(format!(
                "part     {} of {}: {layers} of {} layers, {} of {}",
                self.part.number(),
                self.part.of(),
                self.whole.0,
                HumanBytes(bytes),
                HumanBytes(self.whole.1)
            ));
            lines.push("layers".to_owned());
            lines.extend(layer_lines(&self.layers, "  "));
        }
        lines.extend(effort.lines(self.layers.iter()));
        if self.found() > 0 {
            lines.push(format!("found    {} at the registry already", HumanBytes(self.found())));
        }
        lines.push(format!("noted    in {}", self.kept.display()));
        lines.push(format!(
            "no manifest was sent and no tag moved: when all {} parts are sent, run the same command without --part {}",
            self.part.of(),
            self.part
        ));
        lines.join("\n") + "\n"
    }

    fn json(&self, effort: &Effort) -> Value {
        let mut report = json!({
            "event": "part",
            "part": self.part.number(),
            "of": self.part.of(),
            "names": self.names,
            "plan": self.plan,
            "bytes": self.share.1,
            "image_layers": self.whole.0,
            "image_bytes": self.whole.1,
            "bytes_found": self.found(),
            "layers": layers_json(&self.layers),
            "next": format!("the same command without --part {}", self.part),
        });
        report.as_object_mut().into_iter().for_each(|report| effort.add_to(report));
        report
    }
}

/// Waits until the files of a part are old enough for their digests to be remembered: else the build after the parts
/// would send them once more.
async fn settle(images: &[&Assembly], shares: &Shares, part: Part) -> Result<()> {
    let since = SystemTime::now();
    let files: Vec<_> = layers_of(images, shares, part)
        .into_iter()
        .filter_map(|(_, layer)| match &layer.content {
            LayerContent::Files { layer, known: None, .. } => Some(layer.clone()),
            _ => None,
        })
        .collect();
    let cancel = signals::cancel();
    while let Some(now) = Some(SystemTime::now())
        && files.iter().any(|layer| !is_settled(layer, now) || change_times(layer, now).is_none())
        && since.elapsed().is_ok_and(|waited| waited < SETTLING)
    {
        cancel.check()?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Says which layers the build after the parts will not know.
fn warn_of_forgotten(part: Part, layers: &[(&LayerName, &AssemblyLayer)], memos: &Memos) {
    let forgotten: Vec<_> = layers
        .iter()
        // The files of a base that is an image of this machine are known by its record.
        .filter(|(_, layer)| !layer.from_base)
        .filter(|(name, _)| matches!(name, LayerName::Files(name) if !memos.contains_key(name)))
        .map(|(_, layer)| layer)
        .collect();
    if let Some(first) = forgotten.first() {
        let bytes = forgotten.iter().map(|layer| layer.content.stored()).sum();
        tracing::warn!(
            "{} of part {part}, {}, cannot be remembered and will be read and sent again by the build after the parts: files have modification times in the future, or were written to just now ({}{})",
            counted(forgotten.len() as u64),
            HumanBytes(bytes),
            first.title.trim(),
            if forgotten.len() > 1 { ", ..." } else { "" }
        );
    }
}

fn counted(layers: u64) -> String {
    if layers == 1 { "1 layer".to_owned() } else { format!("{layers} layers") }
}

fn images_of<T>(images: &[(T, Assembly)]) -> Vec<&Assembly> {
    images.iter().map(|(_, image)| image).collect()
}

/// Splits the layers, on a thread that may take its time: the headers of all files are hashed for their names.
async fn shares(images: Vec<Assembly>, of: u32) -> Shares {
    blocking(move || Shares::new(&images.iter().collect::<Vec<_>>(), of)).await
}

/// Where parts of this build leave what they sent.
fn place(options: &BuildOptions, root: Option<&Path>) -> Option<PartStore> {
    if let Some(directory) = &options.part_file {
        return Some(PartStore::in_directory(directory));
    }
    let mut names: Vec<_> = options.destinations.iter().flat_map(Destination::names).collect();
    names.sort();
    let key = Hasher::digest(names.join("\n").as_bytes()).digest()[..16].to_owned();
    Some(PartStore::below(root?, &key))
}

/// The repositories that are pushed to.
fn repositories(options: &BuildOptions) -> Vec<String> {
    let names = options.destinations.iter().filter_map(|destination| match destination {
        Destination::Registry(references) => references.first(),
        _ => None,
    });
    let names: BTreeSet<_> = names.map(|name| format!("{}/{}", name.registry(), name.repository())).collect();
    names.into_iter().collect()
}

/// What the parts of an image left, for the build that makes it.
#[derive(Debug)]
pub(crate) struct Parts {
    store: PartStore,
    /// Whether the notes are ours to remove.
    in_root: bool,
    memos: Memos,
    /// The parts that say that they sent a layer.
    senders: HashMap<LayerName, Part>,
}

/// Looks at what parts of this image left, and warns of those that are missing. `None` where the build has nothing to do
/// with parts.
///
/// # Errors
/// With `--strict`, where there is a warning.
pub(crate) async fn find(
    options: &Arc<BuildOptions>,
    images: impl Iterator<Item = &Assembly>,
    root: Option<&Path>,
    warnings: &Warnings,
) -> Result<Option<Parts>> {
    let repositories = repositories(options);
    if repositories.is_empty() || !options.memo {
        return Ok(None);
    }
    let Some(store) = place(options, root) else { return Ok(None) };
    let in_root = options.part_file.is_none();
    let reading = store.clone();
    let mut found = blocking(move || reading.read()).await?;
    if in_root && found.files.is_empty() && found.faults.is_empty() {
        return Ok(None);
    }
    let memos = found.memos();
    let (asked, images) = (Arc::clone(options), images.cloned().collect::<Vec<_>>());
    let (found, senders) = blocking(move || {
        let images: Vec<_> = images.iter().collect();
        Look { options: &asked, repositories, images: &images, in_root }.at(&found)
    })
    .await;
    found.into_iter().for_each(|warning| warnings.add(warning));
    let all = warnings.all();
    if options.strict && !all.is_empty() {
        return Err(Strict::new(all).into());
    }
    Ok(Some(Parts { store, in_root, memos, senders }))
}

struct Look<'a> {
    options: &'a BuildOptions,
    repositories: Vec<String>,
    images: &'a [&'a Assembly],
    in_root: bool,
}

impl Look<'_> {
    /// What there is to warn of, and who sent which layer.
    fn at(&self, found: &PartFiles) -> (Vec<String>, HashMap<LayerName, Part>) {
        let mut warnings = found.faults.clone();
        // Notes that are no part of this image.
        let mut of_others = Vec::new();
        let mut senders = HashMap::new();
        let whole = Shares::new(self.images, 1);
        let plan = whole.plan();
        // Of this plan and to this place, by part and number of parts.
        let mut ours: HashMap<Part, bool> = HashMap::new();
        for (path, file) in &found.files {
            let Ok(part) = format!("{}/{}", file.part, file.of).parse::<Part>() else {
                warnings.push(format!("{} is not used: there are no {} parts", path.display(), file.of));
                continue;
            };
            let there = self.repositories.iter().all(|name| file.repositories.contains(name));
            let of_files = file.memos.keys().map(|name| LayerName::Files(name.clone()));
            let of_bases = file.blobs.iter().map(|digest| LayerName::Blob(digest.clone()));
            let names: Vec<_> = of_files.chain(of_bases).filter(|name| whole.has(name)).collect();
            if !there {
                of_others.push(format!(
                    "{} is of a push to {}, and this one is to {}: the registry is asked for the layers, and what it lacks is sent by this build",
                    path.display(),
                    file.repositories.join(", "),
                    self.repositories.join(", ")
                ));
            } else if file.plan != plan {
                of_others.push(format!(
                    "{} is of another plan: files, the Containerfile, the base or options are others since. Of its {}, {} in this image; this build sends what the registry lacks of the others itself",
                    path.display(),
                    counted(file.layers),
                    match names.len() {
                        1 => "1 is".to_owned(),
                        known => format!("{known} are"),
                    }
                ));
            } else {
                ours.insert(part, file.finished);
            }
            if file.finished && there {
                senders.extend(names.into_iter().map(|name| (name, part)));
            }
        }
        if self.in_root && ours.is_empty() {
            // A build may have nothing to do with parts that were sent under its names once.
            of_others.drain(..).for_each(|text| tracing::warn!("{text}"));
        }
        warnings.append(&mut of_others);
        let of = chosen(&ours);
        let is_sent = |of: u32| {
            let shares = Shares::new(self.images, of);
            let all = (1..=of).filter_map(|number| format!("{number}/{of}").parse::<Part>().ok());
            all.filter(|part| shares.size(part.number()).0 > 0).all(|part| ours.get(&part) == Some(&true))
        };
        // Where all is sent, what else is noted is left from before.
        let of_before = self.in_root && of.is_some_and(is_sent);
        for (path, file) in &found.files {
            let is_ours = ours.keys().any(|part| (part.number(), part.of()) == (file.part, file.of));
            if let Some(of) = of.filter(|of| is_ours && !of_before && *of != file.of) {
                warnings.push(format!(
                    "{} is of {} parts, and the others are of {of}: what it sent is used, and the parts of {of} count",
                    path.display(),
                    file.of
                ));
            }
        }
        match of {
            Some(of) => self.warn_of_missing(&ours, &Shares::new(self.images, of), &mut warnings),
            None if !self.in_root && found.files.is_empty() => {
                let (layers, bytes) = whole.whole();
                warnings.push(format!(
                    "there is no part file that can be used in {}: this build sends what the registry lacks of the image's {}, {}, itself; to send them in parts first, run the same command with --part 1/N to --part N/N",
                    self.options.part_file.as_deref().unwrap_or(Path::new("")).display(),
                    counted(layers),
                    HumanBytes(bytes)
                ));
            }
            None => {}
        }
        (warnings, senders)
    }

    fn warn_of_missing(&self, ours: &HashMap<Part, bool>, shares: &Shares, warnings: &mut Vec<String>) {
        let sends = if self.options.strict { "would send" } else { "sends" };
        let all =
            (1..=shares.of()).filter_map(|number| format!("{number}/{}", shares.of()).parse::<Part>().ok());
        for part in all {
            let (layers, bytes) = shares.size(part.number());
            let what = match ours.get(&part) {
                Some(true) => continue,
                _ if layers == 0 => continue,
                Some(false) => "was begun and has not come to its end",
                None if self.in_root => "did not run",
                None => "has left no file",
            };
            warnings.push(format!(
                "part {} of {} {what}: this build {sends} what the registry lacks of its {}, {}, itself; to have it sent first, run the same command with --part {part}",
                part.number(),
                part.of(),
                counted(layers),
                HumanBytes(bytes)
            ));
        }
    }
}

/// How many parts there are, where files are of several numbers: the one of which all are there, else the most.
fn chosen(parts: &HashMap<Part, bool>) -> Option<u32> {
    let numbers: BTreeSet<_> = parts.keys().map(|part| part.of()).collect();
    numbers.into_iter().max_by_key(|of| {
        let finished = parts.iter().filter(|(part, finished)| part.of() == *of && **finished).count();
        let begun = parts.keys().filter(|part| part.of() == *of).count();
        (finished == usize::try_from(*of).unwrap_or(usize::MAX), finished, begun)
    })
}

impl Parts {
    /// The memos that parts left; they are taken out.
    pub(crate) fn memos(&mut self) -> Memos {
        std::mem::take(&mut self.memos)
    }

    /// Says which layers a part had sent that had to be sent again.
    pub(crate) fn tell_lost<'a>(&self, images: impl Iterator<Item = (&'a Assembly, &'a Assembled)>) {
        let mut lost: HashMap<Part, (u64, u64, String)> = HashMap::new();
        for (assembly, assembled) in images {
            for (planned, done) in assembly.layers.iter().zip(&assembled.layers) {
                if done.outcome == Outcome::Sent
                    && let Some(part) = self.senders.get(&LayerName::of(planned))
                {
                    let (layers, bytes, _) =
                        lost.entry(*part).or_insert_with(|| (0, 0, done.title.trim().to_owned()));
                    *layers += 1;
                    *bytes += done.layer.descriptor.size();
                }
            }
        }
        let mut lost: Vec<_> = lost.into_iter().collect();
        lost.sort_by_key(|(part, _)| (part.of(), part.number()));
        for (part, (layers, bytes, first)) in lost {
            tracing::warn!(
                "the registry no longer had {} that part {part} had sent, {} ({first}{}), so it was sent again: registries remove what no manifest names, so let this build follow the parts sooner",
                counted(layers),
                HumanBytes(bytes),
                if layers > 1 { ", ..." } else { "" }
            );
        }
    }

    /// The image is there: notes of its parts are needed no more. Part files are the user's.
    pub(crate) fn done(&self) {
        if self.in_root {
            self.store.clear();
        }
    }
}
