//! `Selection`: which image of an index is for a platform, wherever the index is from.

use std::collections::VecDeque;

use crate::error::{Error, Result};
use crate::manifest_entry::{EntryPlatform, ManifestEntry};
use crate::platform::Platform;

/// So many configs of one index are read to find out what its images are for.
const MAX_LOOKED_AT: usize = 64;

/// The choice of the image that [serves a platform best](Platform::rank): of equals one that asks for no features of the
/// system, and then the first.
///
/// Images of which the index says what they are for come first. Where none of them serves, the configs of the others say it,
/// as with containerd: whoever can read configs asks for [`next_unknown`](Self::next_unknown) and [learns](Self::learn) until
/// there is none. An image that does not say anywhere what it is for is taken last.
#[derive(Debug)]
pub struct Selection<'a> {
    wanted: Platform,
    best: Option<(Rank, &'a ManifestEntry)>,
    /// Those whose configs are not read yet.
    unknown: VecDeque<&'a ManifestEntry>,
    looked_at: usize,
    /// The first that nobody says anything of.
    unsaid: Option<&'a ManifestEntry>,
    offered: Vec<String>,
}

/// How well the platform is served, and whether features of the system are asked for.
type Rank = (usize, bool);

impl<'a> Selection<'a> {
    /// The choice between the entries of an index, as far as the index alone tells.
    pub fn new(entries: impl IntoIterator<Item = &'a ManifestEntry>, wanted: &Platform) -> Self {
        let (best, unknown, offered) = (None, VecDeque::new(), Vec::new());
        let mut selection =
            Self { wanted: wanted.clone(), best, unknown, looked_at: 0, unsaid: None, offered };
        for entry in entries {
            match entry.said_platform() {
                Some(platform) => selection.offer(entry, platform),
                None if entry.is_image() => selection.unknown.push_back(entry),
                None => {}
            }
        }
        if selection.best.is_some() {
            selection.unknown.clear();
        }
        selection
    }

    /// The next image of which only its config says what it is for; `None` where that would change nothing.
    #[must_use]
    pub fn next_unknown(&self) -> Option<&'a ManifestEntry> {
        let settled =
            self.best.is_some_and(|(rank, _)| rank == (0, false)) || self.looked_at >= MAX_LOOKED_AT;
        self.unknown.front().copied().filter(|_| !settled)
    }

    /// Takes note of what the config of the [next unknown](Self::next_unknown) image says.
    pub fn learn(&mut self, platform: Option<&EntryPlatform>) {
        let Some(entry) = self.unknown.pop_front() else { return };
        self.looked_at += 1;
        match platform.filter(|platform| !platform.architecture.is_empty()) {
            Some(platform) => self.offer(entry, platform),
            None => self.unsaid = self.unsaid.or(Some(entry)),
        }
    }

    /// The image.
    ///
    /// # Errors
    /// [`Error::Platform`], which lists what there is; `image` names the index.
    pub fn chosen(self, image: &str) -> Result<&'a ManifestEntry> {
        let unknown = self.unknown.front().copied().filter(|_| self.looked_at == 0);
        if let Some(chosen) = self.best.map(|(_, entry)| entry).or(self.unsaid).or(unknown) {
            return Ok(chosen);
        }
        let mut offered = self.offered.join(", ");
        if offered.is_empty() {
            "no platform at all".clone_into(&mut offered);
        }
        if !self.unknown.is_empty() {
            offered = format!(
                "{offered}, and {} more images of which the index does not say what they are for; name one by its digest",
                self.unknown.len()
            );
        }
        Err(Error::Platform { image: image.to_owned(), wanted: Box::new(self.wanted), offered })
    }

    fn offer(&mut self, entry: &'a ManifestEntry, platform: &EntryPlatform) {
        let plain = platform.plain();
        if let Some(rank) = self.wanted.rank(&plain) {
            let rank = (rank, !platform.os_features.is_empty());
            if self.best.is_none_or(|(known, _)| rank < known) {
                self.best = Some((rank, entry));
            }
        }
        // Attestations stand beside the images under a platform that is none.
        let text = plain.to_string();
        if plain.os != "unknown" && !self.offered.contains(&text) {
            self.offered.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::image::{Descriptor, MediaType};

    use super::*;
    use crate::manifest_entry::EntryDetails;

    fn index(platforms: &[&str]) -> Vec<ManifestEntry> {
        let entry = |(at, platform): (usize, &&str)| {
            let digest = crate::Hasher::digest(&at.to_le_bytes());
            let manifest = Descriptor::new(MediaType::ImageManifest, at as u64, digest);
            let platform = (!platform.is_empty()).then(|| {
                let (platform, feature) = platform.split_once('+').unwrap_or((platform, ""));
                let mut entry = EntryPlatform::from(&platform.parse::<Platform>().unwrap());
                entry.os_features.extend(Some(feature.to_owned()).filter(|feature| !feature.is_empty()));
                entry
            });
            ManifestEntry::new(&manifest, EntryDetails { platform, ..EntryDetails::default() })
        };
        platforms.iter().enumerate().map(entry).collect()
    }

    #[test]
    fn the_image_that_serves_a_platform_best_is_chosen() {
        let all = [
            "unknown/unknown",
            "linux/amd64/v3",
            "linux/amd64",
            "linux/arm/v6",
            "linux/arm/v7",
            "linux/arm64/v8",
        ];
        for (platforms, wanted, at) in [
            (&all[..], "linux/amd64", 2),
            (&all, "linux/amd64/v2", 2),
            (&all, "linux/amd64/v3", 1),
            (&all, "linux/amd64/v4", 1),
            (&all, "linux/arm", 4),
            (&all, "linux/arm/v6", 3),
            (&all, "linux/arm/v8", 4),
            (&all, "linux/arm64", 5),
            (&["linux/386", "linux/arm/v7"], "linux/amd64", 0),
            (&["linux/amd64", "linux/arm/v5", "linux/arm/v7"], "linux/arm64", 2),
            (&["linux/amd64+x", "linux/amd64", "linux/amd64"], "linux/amd64", 1),
            (&["linux/amd64+x", "linux/386"], "linux/amd64", 0),
            (&["", "linux/amd64", ""], "linux/amd64", 1),
            (&["linux/arm64", "", ""], "linux/amd64", 1),
        ] {
            let index = index(platforms);
            let chosen = Selection::new(&index, &wanted.parse().unwrap()).chosen("x").unwrap().size;
            assert_eq!(chosen, at, "{wanted} of {platforms:?}");
        }
    }

    #[test]
    fn a_missing_platform_is_an_error_that_lists_the_others() {
        for (platforms, wanted, offered) in [
            (
                &["linux/amd64", "linux/arm64", "linux/amd64", "unknown/unknown"][..],
                "linux/s390x",
                "linux/amd64, linux/arm64",
            ),
            // What needs a newer processor does not run.
            (&["linux/amd64/v3"], "linux/amd64", "linux/amd64/v3"),
            (&[], "linux/amd64", "no platform at all"),
        ] {
            let index = index(platforms);
            let error =
                Selection::new(&index, &wanted.parse().unwrap()).chosen("a/b:c").unwrap_err().to_string();
            assert_eq!(error, format!("image a/b:c is not offered for {wanted}; there is: {offered}"));
        }
    }

    /// What the configs say, by the position of the image; a `-` is one that says nothing.
    fn looked_at(index: &[ManifestEntry], wanted: &str, configs: &[&str]) -> (Result<u64>, usize) {
        let mut selection = Selection::new(index, &wanted.parse().unwrap());
        let mut asked = 0;
        while let Some(entry) = selection.next_unknown() {
            asked += 1;
            let said = configs[usize::try_from(entry.size).unwrap()];
            let said = (said != "-").then(|| EntryPlatform::from(&said.parse::<Platform>().unwrap()));
            selection.learn(said.as_ref());
        }
        (selection.chosen("x").map(|entry| entry.size), asked)
    }

    #[test]
    fn configs_say_what_an_index_does_not() {
        let (amd64, arm64, v6) = ("linux/amd64", "linux/arm64", "linux/arm/v6");
        for (platforms, configs, wanted, at, asked) in [
            // None is read where the index tells.
            (&["", amd64, ""][..], &["-"; 3][..], amd64, 1, 0),
            (&["", ""], &[arm64, amd64], amd64, 1, 2),
            (&["", ""], &[amd64, arm64], amd64, 0, 1),
            (&["linux/s390x", "", "", ""], &["-", "linux/arm/v5", v6, "linux/arm/v7"], v6, 2, 2),
            (&["", "", ""], &["linux/386", "-", "linux/amd64/v3"], amd64, 0, 3),
            (&["", ""], &["-", arm64], amd64, 0, 2),
        ] {
            let (chosen, looked) = looked_at(&index(platforms), wanted, configs);
            assert_eq!((chosen.unwrap(), looked), (at, asked), "{wanted} of {platforms:?}, {configs:?}");
        }
        let (refused, _) = looked_at(&index(&["", "", "linux/s390x"]), amd64, &[arm64, v6, "-"]);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "image x is not offered for linux/amd64; there is: linux/s390x, linux/arm64, linux/arm/v6"
        );
    }

    #[test]
    fn an_index_of_very_many_unsaid_images_is_not_read_to_its_end() {
        let many = vec![""; MAX_LOOKED_AT + 3];
        let (refused, asked) = looked_at(&index(&many), "linux/amd64", &vec!["linux/arm64"; many.len()]);
        assert_eq!(asked, MAX_LOOKED_AT);
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("linux/arm64, and 3 more images") && text.contains("by its digest"), "{text}");
    }
}
