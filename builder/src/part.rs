//! One image sent by several builds: its layers are split into parts, the same ones on every machine, and each build puts
//! those of one part. The build that comes last finds all of them and makes the image.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crossdock_storage::{Hasher, ImageSink, Layer, Result, layer_identity};

use crate::assemble::{Assembly, Job, cleanly, prepare};
use crate::lanes::{AssembleOptions, AssembledLayer, AssemblyLayer, LayerContent, distinct, put_distinct};

/// More parts than this are a slip of the pen: no image has so many layers.
const MAX_PARTS: u32 = 1000;

/// Part I of N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Part {
    number: u32,
    of: u32,
}

impl Part {
    /// Which one, from 1.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.number
    }

    /// How many there are.
    #[must_use]
    pub const fn of(self) -> u32 {
        self.of
    }
}

impl FromStr for Part {
    type Err = String;

    /// Reads `I/N`.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        // A sign is no part of a number here.
        let number =
            |text: &str| text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        let (Some(part), Some(of)) =
            text.split_once('/').map_or((None, None), |(part, of)| (number(part), number(of)))
        else {
            return Err("write I/N, as 2/4 for the second of four parts".to_owned());
        };
        match (part, of) {
            (_, 0) => Err("there are no parts to choose from: N is at least 1".to_owned()),
            (_, of) if of > MAX_PARTS => Err(format!("an image is split into {MAX_PARTS} parts at most")),
            (part, of) if part == 0 || part > of => Err(format!("parts are counted from 1 to {of}")),
            (number, of) => Ok(Self { number, of }),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// A layer as parts know it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LayerName {
    /// Of one made of files, its [`layer_identity`].
    Files(String),
    /// Of a base's, its digest.
    Blob(String),
}

impl LayerName {
    /// The name of a layer.
    #[must_use]
    pub fn of(layer: &AssemblyLayer) -> Self {
        match &layer.content {
            LayerContent::Blob { layer, .. } => Self::Blob(layer.descriptor.digest().to_string()),
            LayerContent::Files { layer, compression, .. } => {
                Self::Files(layer_identity(layer, *compression))
            }
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Files(name) | Self::Blob(name) => name,
        }
    }
}

/// The layers of some images and which part each belongs to.
#[derive(Debug, Clone)]
pub struct Shares {
    of: u32,
    layers: Vec<Share>,
    /// For each image the places of its layers among those.
    places: Vec<Vec<usize>>,
}

#[derive(Debug, Clone)]
struct Share {
    name: LayerName,
    bytes: u64,
    /// `None` for a layer that nobody sends.
    part: Option<u32>,
}

impl Shares {
    /// Splits the layers of all images into `of` parts: the layers' lengths and order decide, and nothing that differs
    /// from machine to machine.
    #[must_use]
    pub fn new(images: &[&Assembly], of: u32) -> Self {
        let images: Vec<_> = images.iter().map(|image| image.layers.as_slice()).collect();
        let (layers, places) = distinct(&images);
        let weighed: Vec<_> = layers
            .iter()
            .map(|layer| {
                let is_foreign =
                    matches!(&layer.content, LayerContent::Blob { layer, .. } if layer.is_foreign());
                let is_base = layer.from_base || matches!(layer.content, LayerContent::Blob { .. });
                (LayerName::of(layer), layer.content.stored(), is_base, is_foreign)
            })
            .collect();
        // A layer that an image has twice is sent once.
        let mut first = HashMap::new();
        let twins: Vec<_> = weighed
            .iter()
            .enumerate()
            .map(|(place, (name, ..))| *first.entry(name.clone()).or_insert(place))
            .collect();
        let sent = |place: &usize| twins[*place] == *place && !weighed[*place].3;
        let (base, new): (Vec<_>, Vec<_>) = (0..weighed.len())
            .filter(sent)
            .map(|place| (place, weighed[place].1))
            .partition(|(place, _)| weighed[*place].2);
        // What comes with the base is most often there already: what is new is balanced by itself, and then all of it.
        let split = split(&[&new, &base], of);
        let layers = weighed
            .into_iter()
            .zip(twins)
            .map(|((name, bytes, ..), twin)| Share { name, bytes, part: split.get(&twin).copied() })
            .collect();
        Self { of, layers, places }
    }

    /// How many parts there are.
    #[must_use]
    pub const fn of(&self) -> u32 {
        self.of
    }

    /// The number of layers of a part, and their bytes before compression.
    #[must_use]
    pub fn size(&self, part: u32) -> (u64, u64) {
        self.sum(|share| share.part == Some(part))
    }

    /// The same for all parts.
    #[must_use]
    pub fn whole(&self) -> (u64, u64) {
        self.sum(|share| share.part.is_some())
    }

    fn sum(&self, wanted: impl Fn(&Share) -> bool) -> (u64, u64) {
        let mut seen = HashSet::new();
        let of_part = self.layers.iter().filter(|share| wanted(share) && seen.insert(&share.name));
        of_part.fold((0, 0), |(layers, bytes), share| (layers + 1, bytes + share.bytes))
    }

    /// For each image the part of each of its layers.
    #[must_use]
    pub fn by_image(&self) -> Vec<Vec<Option<u32>>> {
        self.places
            .iter()
            .map(|places| places.iter().map(|place| self.layers[*place].part).collect())
            .collect()
    }

    /// The part of a layer.
    #[must_use]
    pub fn part_of(&self, name: &LayerName) -> Option<u32> {
        self.layers.iter().find(|share| share.name == *name)?.part
    }

    /// Whether the images have such a layer.
    #[must_use]
    pub fn has(&self, name: &LayerName) -> bool {
        self.layers.iter().any(|share| share.name == *name)
    }

    /// A digest over what all layers are made of, in 64 hexadecimal digits: two builds that have the same plan the same
    /// layers, whatever the number of parts.
    #[must_use]
    pub fn plan(&self) -> String {
        let mut hasher = Hasher::new();
        for share in &self.layers {
            hasher.update(share.name.text().as_bytes());
            hasher.update(b"\n");
        }
        hasher.finish().digest().to_owned()
    }
}

/// Gives each layer, by its place, to the part that has the fewest bytes so far: the layers of each group largest first,
/// and of equal ones the earlier. So no part has more than another by more than the largest layer.
fn split(groups: &[&[(usize, u64)]], of: u32) -> HashMap<usize, u32> {
    let mut loads: Vec<u64> = vec![0; usize::try_from(of).unwrap_or(1)];
    let mut parts = HashMap::new();
    for group in groups {
        let mut group = group.to_vec();
        group.sort_by_key(|(place, bytes)| (std::cmp::Reverse(*bytes), *place));
        for (place, bytes) in group {
            let Some((part, load)) = loads.iter_mut().enumerate().min_by_key(|(part, load)| (**load, *part))
            else {
                break;
            };
            *load = load.saturating_add(bytes);
            parts.insert(place, u32::try_from(part).unwrap_or(u32::MAX).saturating_add(1));
        }
    }
    parts
}

/// The layers of a part that are where they belong.
#[derive(Debug, Clone)]
pub struct AssembledPart {
    /// In the order that the images have them.
    pub layers: Vec<AssembledLayer>,
    /// What came out, by the layer's place among those of all images.
    digested: HashMap<usize, Layer>,
}

impl AssembledPart {
    /// Tells the images what came out, so that the next sink need not read what it has.
    pub fn teach<'a>(&self, shares: &Shares, images: impl Iterator<Item = &'a mut Assembly>) {
        for (image, places) in images.zip(&shares.places) {
            for (layer, place) in image.layers.iter_mut().zip(places) {
                if let LayerContent::Files { compression, known, .. } = &mut layer.content
                    && let Some(digested) = self.digested.get(place)
                    && digested.is_stored_as(*compression)
                {
                    *known = Some(digested.clone());
                }
            }
        }
    }
}

/// The layers of one part with their names, in the order in which [`assemble_part`] puts them.
#[must_use]
pub fn layers_of<'a>(
    images: &[&'a Assembly],
    shares: &'a Shares,
    part: Part,
) -> Vec<(&'a LayerName, &'a AssemblyLayer)> {
    places_of(images, shares, part).into_iter().map(|(_, name, layer)| (name, layer)).collect()
}

fn places_of<'a>(
    images: &[&'a Assembly],
    shares: &'a Shares,
    part: Part,
) -> Vec<(usize, &'a LayerName, &'a AssemblyLayer)> {
    let images: Vec<_> = images.iter().map(|image| image.layers.as_slice()).collect();
    let (layers, _) = distinct(&images);
    let mut seen = HashSet::new();
    layers
        .into_iter()
        .zip(&shares.layers)
        .enumerate()
        .filter(|(_, (_, share))| share.part == Some(part.number) && seen.insert(&share.name))
        .map(|(place, (layer, share))| (place, &share.name, layer))
        .collect()
}

/// Puts the layers of one part into `sink`, and neither a config nor a manifest. The sink is told of the whole, so that an
/// image that the destination does not take is refused by every part.
///
/// # Errors
/// As [`assemble`](crate::assemble).
pub async fn assemble_part(
    images: &[&Assembly],
    shares: &Shares,
    part: Part,
    sink: &Arc<dyn ImageSink>,
    options: &AssembleOptions,
) -> Result<AssembledPart> {
    let jobs: Vec<_> = images.iter().map(|image| Job::of_assembly(image)).collect();
    jobs.iter().try_for_each(Job::check)?;
    cleanly(sink, &options.cancel, async {
        prepare(&jobs, sink, options).await?;
        let of_part = places_of(images, shares, part);
        let planned: Vec<_> = of_part.iter().map(|(.., layer)| *layer).collect();
        let layers = put_distinct(&planned, sink, options).await?;
        let digested = of_part.iter().zip(&layers).map(|((place, ..), done)| (*place, done.layer.clone()));
        Ok(AssembledPart { digested: digested.collect(), layers })
    })
    .await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_part_is_one_of_those_there_are() {
        for text in ["1/1", "2/4", "4/4", "1/1000"] {
            assert_eq!(text.parse::<Part>().unwrap().to_string(), text);
        }
        for text in [
            "0/4",
            "5/4",
            "4",
            "a/b",
            "1/0",
            "0/0",
            "",
            "/",
            "1/",
            "/4",
            "-1/4",
            "+1/4",
            "1/4/4",
            " 1/4",
            "1/1001",
            "1/4294967296",
        ] {
            assert!(text.parse::<Part>().is_err(), "{text}");
        }
    }

    fn numbered(bytes: &[u64]) -> Vec<(usize, u64)> {
        bytes.iter().copied().enumerate().collect()
    }

    fn loads(layers: &[(usize, u64)], parts: &HashMap<usize, u32>, of: u32) -> Vec<u64> {
        (1..=of)
            .map(|part| layers.iter().filter(|(place, _)| parts[place] == part).map(|(_, bytes)| bytes).sum())
            .collect()
    }

    proptest! {
        #[test]
        fn every_layer_is_in_one_part_and_no_part_has_much_more_than_another(
            new in prop::collection::vec(0u64..1 << 40, 0..200),
            base in prop::collection::vec(0u64..1 << 40, 0..20),
            of in 1u32..50,
        ) {
            let (new, all) = (numbered(&new), numbered(&[&new[..], &base[..]].concat()));
            let base = &all[new.len()..];
            let parts = split(&[&new, base], of);
            prop_assert_eq!(parts.len(), all.len());
            prop_assert!(parts.values().all(|part| (1..=of).contains(part)));
            for layers in [&new[..], &all[..]] {
                let (loads, largest) = (loads(layers, &parts, of), layers.iter().map(|(_, bytes)| *bytes).max());
                let spread = loads.iter().max().unwrap() - loads.iter().min().unwrap();
                prop_assert!(spread <= largest.unwrap_or(0), "{:?}", loads);
            }
        }

        #[test]
        fn the_order_in_which_layers_are_found_does_not_matter(
            layers in prop::collection::vec(0u64..1 << 40, 0..100).prop_map(|bytes| numbered(&bytes)).prop_flat_map(|layers| (Just(layers.clone()), Just(layers).prop_shuffle())),
            of in 1u32..20,
        ) {
            prop_assert_eq!(split(&[&layers.0], of), split(&[&layers.1], of));
        }
    }

    #[test]
    fn parts_beyond_the_layers_have_none() {
        let parts = split(&[&numbered(&[5, 7])], 4);
        assert_eq!(loads(&numbered(&[5, 7]), &parts, 4), [7, 5, 0, 0]);
    }
}
