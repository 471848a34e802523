//! The same weights in two forms: what a hub offers to all programs, of which an image needs one. Told by names, as the bytes
//! are not looked at; what is not told apart by its name (quantisations of GGUF) is not told of.

use std::collections::{BTreeMap, BTreeSet};

use crossdock_storage::LayerPath;

use super::files::{File, Files, PICKLES};
use super::numbered::Numbered;

/// The same weights in other files of a model.
#[derive(Debug)]
pub(super) struct Twice<'f> {
    /// What stays.
    pub(super) kept: Vec<&'f File>,
    /// What may go; all in one directory.
    pub(super) spare: Vec<&'f File>,
}

/// Words that a name has behind a dot where the numbers of the weights have that precision.
const VARIANTS: [&str; 3] = [".fp16", ".bf16", ".fp32"];

/// How the names of what is for other programs begin and end, beside `model.safetensors`.
const OTHERS: [(&str, &str); 6] = [
    ("consolidated", ".safetensors"),
    ("consolidated", ".pth"),
    ("pytorch_model", ".bin"),
    ("tf_model", ".h5"),
    ("flax_model", ".msgpack"),
    ("rust_model", ".ot"),
];

/// The directory in which hubs keep the weights as their makers have published them, and how the files there end.
const ORIGINAL: (&str, [&str; 2]) = ("original", [".pth", ".safetensors"]);

/// Two forms of the same weights have sizes that differ by less: of 16 and of 32 bits, with some room.
const RATIO: u64 = 5;

/// What the names of the files of one model have in common: before the numbers and behind.
type Family = (String, String);

/// The files of a family: the one without numbers, and those of each count.
#[derive(Default)]
struct Members<'f> {
    whole: Vec<&'f File>,
    sets: BTreeMap<String, Vec<&'f File>>,
}

/// What is there twice, directory by directory; each file may go once.
pub(super) fn find(files: &Files) -> Vec<Twice<'_>> {
    let mut found = Vec::new();
    for (directory, here) in files {
        let mut candidates = Vec::new();
        let model: Vec<&File> = here.iter().filter(|file| is_model(file)).collect();
        if !model.is_empty() {
            for (before, behind) in OTHERS {
                let is = |file: &&File| file.name().starts_with(before) && file.name().ends_with(behind);
                candidates.push(Twice { kept: model.clone(), spare: here.iter().filter(is).collect() });
            }
            let (name, endings) = ORIGINAL;
            if let Some(original) = directory.join(name).ok().and_then(|original| files.get(&original)) {
                for ending in endings {
                    let spare = original.iter().filter(|file| file.name().ends_with(ending)).collect();
                    candidates.push(Twice { kept: model.clone(), spare });
                }
            }
        }
        candidates.extend(of_families(here));
        candidates.extend(other_endings(here));
        let mut gone: BTreeSet<&LayerPath> = BTreeSet::new();
        for Twice { mut kept, mut spare } in candidates {
            spare.retain(|file| !gone.contains(&file.path));
            kept.retain(|file| !gone.contains(&file.path));
            // Other names of what stays take no room.
            let ids: BTreeSet<_> = kept.iter().map(|file| file.id).collect();
            spare.retain(|file| !ids.contains(&file.id));
            if !kept.is_empty() && !spare.is_empty() {
                gone.extend(spare.iter().map(|file| &file.path));
                found.push(Twice { kept, spare });
            }
        }
    }
    found
}

/// A model as transformers has it.
fn is_model(file: &File) -> bool {
    let name = file.name();
    let (before, behind) = family(&name);
    before == "model" && behind == ".safetensors"
}

fn family(name: &str) -> (&str, &str) {
    match Numbered::parse(name) {
        Some(numbered) => (numbered.before, numbered.behind),
        None => name.rfind('.').map_or((name, ""), |dot| name.split_at(dot)),
    }
}

/// Of one family: `model.fp16.safetensors` beside `model.safetensors`, which is what programs load without being told
/// otherwise; that beside `model-00001-of-00002.safetensors`, where the former is loaded; and shards of two counts.
fn of_families(here: &[File]) -> Vec<Twice<'_>> {
    let mut plain: BTreeMap<Family, Members<'_>> = BTreeMap::new();
    let mut variants: BTreeMap<Family, Vec<&File>> = BTreeMap::new();
    for file in here.iter().filter(|file| file.is_weights() && !file.ends(".gguf")) {
        let name = file.name();
        let without = VARIANTS.iter().find_map(|word| without(&name, word));
        let (before, behind) = family(without.as_deref().unwrap_or(&name));
        let family = (before.to_owned(), behind.to_owned());
        if without.is_some() {
            variants.entry(family).or_default().push(file);
            continue;
        }
        let members = plain.entry(family).or_default();
        match Numbered::parse(&name) {
            Some(numbered) => members.sets.entry(numbered.of.to_owned()).or_default().push(file),
            None => members.whole.push(file),
        }
    }
    let mut found = Vec::new();
    for (family, members) in plain {
        let Members { whole, sets } = members;
        let mut forms = [whole].into_iter().chain(sets.into_values()).filter(|form| !form.is_empty());
        let Some(kept) = forms.next() else { continue };
        for spare in forms.filter(|spare| is_alike(&kept, spare)) {
            found.push(Twice { kept: kept.clone(), spare });
        }
        if let Some(spare) = variants.remove(&family) {
            found.push(Twice { kept, spare });
        }
    }
    found
}

/// The name without a word between dots, or between a dot and the numbers.
fn without(name: &str, word: &str) -> Option<String> {
    let at = name.find(word)?;
    let rest = &name[at + word.len()..];
    rest.starts_with(['.', '-']).then(|| format!("{}{rest}", &name[..at]))
}

/// `adapter_model.bin` beside `adapter_model.safetensors`.
fn other_endings(here: &[File]) -> Vec<Twice<'_>> {
    let by_name: BTreeMap<_, _> = here.iter().map(|file| (file.name(), file)).collect();
    let mut found = Vec::new();
    for (name, kept) in &by_name {
        let Some(stem) = name.strip_suffix(".safetensors") else { continue };
        for ending in PICKLES {
            let Some(spare) = by_name.get(format!("{stem}{ending}").as_str()) else { continue };
            if is_alike(&[kept], &[spare]) {
                found.push(Twice { kept: vec![kept], spare: vec![spare] });
            }
        }
    }
    found
}

fn is_alike(some: &[&File], others: &[&File]) -> bool {
    let size = |files: &[&File]| files.iter().map(|file| file.len).sum::<u64>();
    let (a, b) = (size(some), size(others));
    a > 0 && b > 0 && a.max(b) / a.min(b) < RATIO
}
