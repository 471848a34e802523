//! From the plan to layers: each instruction's entries are split, encoded as tar, and given their lines of history.

use crossdock_storage::{
    Compression, Entry, EntryKind, Error, FileContent, HistoryEntry, LayerPath, MAX_LAYERS, ManifestFormat,
    Result, encode_entries, shard,
};

use crate::annotations::AnnotationOptions;
use crate::assemble::{Assembly, LayerKeys};
use crate::base::base_title;
use crate::lanes::{AssemblyLayer, LayerContent};
use crate::modelcar::{self, Modelcar, ModelcarOptions};
use crate::plan::{PlannedBase, PlannedImage, PlannedLayer, PlannedStep};

/// How a model card is stored: as olot has it, which every reader of cards knows.
const CARD_COMPRESSION: Compression = Compression::Gzip { level: 6 };

/// How a plan becomes layers.
#[derive(Debug, Clone)]
pub struct LayerOptions {
    /// Files of this many bytes or more get a layer of their own; `None` for one layer an instruction.
    pub layer_file_size: Option<u64>,
    /// Modification time of every entry, or with `keep_mtime` of those that have none of their own, in seconds since the
    /// epoch.
    pub mtime: u64,
    /// Whether files, directories and links keep their own.
    pub keep_mtime: bool,
    /// No entry has a later one.
    pub latest_mtime: Option<u64>,
    /// How the layers are stored.
    pub compression: Compression,
    /// The family of media types.
    pub format: ManifestFormat,
    /// What the manifest says of the new layers.
    pub layer_keys: LayerKeys,
    /// What is said of the manifest's annotations.
    pub annotations: AnnotationOptions,
    /// Whether the config has no history, not even the base's.
    pub omit_history: bool,
    /// `--modelcar`: layers say what they hold of a model.
    pub modelcar: Option<ModelcarOptions>,
}

/// Splits and encodes the layers of a plan; no file is read.
///
/// # Errors
/// [`Error::Unusable`] where base and instructions alone make more than [`MAX_LAYERS`] layers, [`Error::Entry`] where
/// an entry cannot stand in a tar archive.
pub fn to_assembly(mut plan: PlannedImage, options: &LayerOptions) -> Result<Assembly> {
    let card = options.modelcar.as_ref().and_then(|modelcar| modelcar.card.as_deref());
    if options.modelcar.is_some() {
        modelcar::check(&plan)?;
    }
    if let Some(card) = card {
        modelcar::add_card(&mut plan, card)?;
    }
    let from_base = plan.base.as_ref().map_or(0, |base| base.image.config.rootfs.diff_ids.len());
    let room = MAX_LAYERS.checked_sub(from_base + plan.layers.len()).ok_or_else(|| {
        Error::Unusable(format!(
            "the image would have {} layers, and runtimes take no more than {MAX_LAYERS} safely: use --squash, or a \
             base with fewer layers",
            from_base + plan.layers.len()
        ))
    })?;
    let mut config = plan.config;
    fit_history(&mut config.history, from_base);
    let mut layers = match &plan.base {
        Some(base) => base_layers(base)?,
        None => Vec::new(),
    };
    // Each instruction has one layer for sure; what is beyond goes to those that come first.
    let mut spare = room;
    let new_layers = plan.layers.len();
    let mut shards_of = Vec::with_capacity(new_layers);
    let mtime = options.mtime.min(options.latest_mtime.unwrap_or(u64::MAX));
    for PlannedLayer { title, mut entries, .. } in plan.layers {
        entries.iter_mut().for_each(|entry| entry.mtime = options.own_mtime(entry));
        let shards = match options.layer_file_size {
            Some(size) => shard(entries, size, spare + 1),
            None => vec![entries],
        };
        spare -= shards.len().saturating_sub(1);
        shards_of.push(shards.len());
        for entries in shards {
            let title = title_of(&title, &entries, options.layer_file_size);
            let layer = encode_entries(entries, mtime)?;
            let is_card = card.is_some() && shards_of.len() == new_layers;
            let compression = if is_card { CARD_COMPRESSION } else { options.compression };
            let content = LayerContent::Files { layer, compression, known: None };
            layers.push(AssemblyLayer { title, from_base: false, content });
        }
    }
    if options.omit_history {
        config.history.clear();
    }
    for step in plan.steps.iter().filter(|_| !options.omit_history) {
        config.history.extend(history(step, &shards_of));
    }
    let annotations =
        options.annotations.annotations(plan.base.as_ref(), config.created.as_deref(), options.format);
    let card = card.and_then(|_| layers.len().checked_sub(1));
    let modelcar = options.modelcar.as_ref().map(|_| Modelcar { card });
    let (format, layer_keys) = (options.format, options.layer_keys);
    Ok(Assembly { layers, config, annotations, format, layer_keys, modelcar })
}

impl LayerOptions {
    /// The time that an entry has of its own; 0 for none.
    fn own_mtime(&self, entry: &Entry) -> u32 {
        let latest = self.latest_mtime.map_or(u32::MAX, |latest| u32::try_from(latest).unwrap_or(u32::MAX));
        if self.keep_mtime { entry.mtime.min(latest) } else { 0 }
    }
}

/// Makes a base's history fit its layers: a config has one line for each layer and marks the others as without one
/// (OCI image-spec, config.md), and programs that find it otherwise refuse the image. Missing lines are added behind those
/// that are there, and of too many the last are marked; both say so.
fn fit_history(history: &mut Vec<HistoryEntry>, layers: usize) {
    let mut lines = 0;
    for line in history.iter_mut().filter(|line| !line.empty_layer) {
        lines += 1;
        if lines > layers {
            line.empty_layer = true;
            let said = line.comment.take().map_or_else(String::new, |comment| format!("{comment}; "));
            line.comment = Some(format!("{said}the base has no layer for this line"));
        }
    }
    for layer in lines + 1..=layers {
        history.push(HistoryEntry {
            created_by: Some(format!("layer {layer} of the base, which does not say how it was made")),
            comment: Some("added by crossdock".to_owned()),
            ..HistoryEntry::default()
        });
    }
}

fn base_layers(base: &PlannedBase) -> Result<Vec<AssemblyLayer>> {
    let layers = base.image.layers(&base.source.name())?;
    let title = base_title(&base.source);
    let layer = |layer| AssemblyLayer {
        title: title.clone(),
        from_base: true,
        content: LayerContent::of(layer, &base.source),
    };
    Ok(layers.into_iter().map(layer).collect())
}

/// A directory that is left over beside files: who copies all there is takes it along.
pub(crate) struct Leftover {
    pub(crate) name: &'static str,
    /// What it is, for people.
    pub(crate) what: &'static str,
}

/// What a clone and a download leave.
pub(crate) const LEFTOVERS: &[Leftover] = &[
    Leftover { name: ".git", what: "the history of a git clone" },
    Leftover { name: ".hg", what: "the history of a Mercurial clone" },
    Leftover { name: ".svn", what: "the state of a Subversion checkout" },
    Leftover { name: ".cache", what: "the notes of a download" },
];

impl Leftover {
    /// The topmost path of this name that `path` is or lies in, below the directory `into`.
    pub(crate) fn top(&self, path: &LayerPath, into: &LayerPath) -> Option<LayerPath> {
        let bytes = path.as_bytes();
        if !path.starts_with(into) || path == into {
            return None;
        }
        let mut begin = if into.is_root() { 0 } else { into.as_bytes().len() + 1 };
        for part in bytes[begin..].split(|byte| *byte == b'/') {
            let end = begin + part.len();
            if part == self.name.as_bytes() {
                return LayerPath::clean(&bytes[..end]).ok();
            }
            begin = end + 1;
        }
        None
    }
}

/// The name of a file that people know it by: not the one that Git LFS has for it.
fn known_name<'e>(entry: &'e Entry, entries: &'e [Entry]) -> &'e LayerPath {
    let left_over =
        |path: &LayerPath| LEFTOVERS.iter().any(|kind| kind.top(path, &LayerPath::root()).is_some());
    if !left_over(&entry.path) {
        return &entry.path;
    }
    let other = entries.iter().find(|other| {
        matches!(&other.kind, EntryKind::HardLink { target } if *target == entry.path)
            && !left_over(&other.path)
    });
    other.map_or(&entry.path, |other| &other.path)
}

/// The large files of a layer by path, else the instruction.
fn title_of(instruction: &str, entries: &[Entry], layer_file_size: Option<u64>) -> String {
    let large = entries.iter().filter(|entry| {
        let generated = matches!(&entry.kind, EntryKind::File(FileContent::Inline(_)));
        !generated && layer_file_size.is_some_and(|size| entry.is_large(size))
    });
    let large: Vec<&Entry> = large.collect();
    match large.as_slice() {
        [] => instruction.to_owned(),
        [only] => known_name(only, entries).to_string(),
        [first, rest @ ..] => format!("{} and {} more", known_name(first, entries), rest.len()),
    }
}

/// One line for a step without a layer, and one for each of its layers.
fn history(step: &PlannedStep, shards_of: &[usize]) -> Vec<HistoryEntry> {
    let shards = step.layer.and_then(|index| shards_of.get(index).copied()).unwrap_or(0);
    if shards == 0 {
        return vec![HistoryEntry { empty_layer: true, ..step.history.clone() }];
    }
    (1..=shards)
        .map(|shard| HistoryEntry {
            empty_layer: false,
            comment: if shards == 1 {
                step.history.comment.clone()
            } else {
                Some(format!("layer {shard} of {shards}"))
            },
            ..step.history.clone()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, empty_layer: bool) -> HistoryEntry {
        HistoryEntry { created_by: Some(text.to_owned()), empty_layer, ..HistoryEntry::default() }
    }

    #[test]
    fn a_history_has_a_line_for_each_layer() {
        for (history, layers, expected) in [
            (vec![], 0, vec![]),
            (vec![line("a", false), line("b", true)], 1, vec!["a", "b -"]),
            (vec![], 2, vec!["layer 1 of the base,", "layer 2 of the base,"]),
            (vec![line("a", false), line("b", true)], 2, vec!["a", "b -", "layer 2 of the base,"]),
            (vec![line("a", true)], 1, vec!["a -", "layer 1 of the base,"]),
            (vec![line("a", false), line("b", true), line("c", false)], 1, vec!["a", "b -", "c -"]),
            (vec![line("a", false)], 0, vec!["a -"]),
        ] {
            let mut fitted = history;
            fit_history(&mut fitted, layers);
            let shown = fitted.iter().map(|line| {
                let text = line.created_by.as_deref().unwrap_or_default();
                let text = text.split_once(" which").map_or(text, |(begin, _)| begin);
                format!("{text}{}", if line.empty_layer { " -" } else { "" })
            });
            assert_eq!(shown.collect::<Vec<_>>(), expected);
            assert_eq!(fitted.iter().filter(|line| !line.empty_layer).count(), layers);
        }
        let mut history = vec![HistoryEntry { comment: Some("x".to_owned()), ..line("a", false) }];
        fit_history(&mut history, 0);
        assert_eq!(history[0].comment.as_deref(), Some("x; the base has no layer for this line"));
    }
}
