//! A platform: `os/architecture[/variant]`, as images and indexes name it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Operating system and processor that an image is for, in Go's words (`GOOS`, `GOARCH`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`, ...
    pub os: String,
    /// `amd64`, `arm64`, ...
    pub architecture: String,
    /// `v7`, `v8`, ...
    pub variant: Option<String>,
}

/// A platform that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid platform {0:?}: write os/architecture or os/architecture/variant, as linux/arm64 or linux/arm/v7"
)]
pub struct PlatformError(String);

impl Platform {
    /// The platform this program runs on.
    #[must_use]
    pub fn host() -> Self {
        Self {
            os: std::env::consts::OS.to_owned(),
            architecture: go_architecture(std::env::consts::ARCH),
            variant: None,
        }
        .normalised()
    }

    /// The platform this program runs on, but for what is given and not empty. The variant of this processor is none of another's.
    ///
    /// # Errors
    /// Where that is no platform.
    pub fn host_but(
        os: Option<&str>,
        architecture: Option<&str>,
        variant: Option<&str>,
    ) -> Result<Self, PlatformError> {
        let host = Self::host();
        let [os, architecture, variant] =
            [os, architecture, variant].map(|part| part.filter(|part| !part.is_empty()));
        let own_variant = host.variant.as_deref().filter(|_| architecture.is_none());
        let (os, architecture) = (os.unwrap_or(&host.os), architecture.unwrap_or(&host.architecture));
        let variant = variant.or(own_variant).map_or(String::new(), |variant| format!("/{variant}"));
        format!("{os}/{architecture}{variant}").parse()
    }

    /// Whether an image for `offered` is one for this platform: the same system and processor, and a variant that runs
    /// where this platform's does. See [`rank`](Self::rank).
    #[must_use]
    pub fn accepts(&self, offered: &Self) -> bool {
        self.rank(offered).is_some() && self.same_processor(offered)
    }

    /// Whether both are for one processor, whatever the variants.
    pub(crate) fn same_processor(&self, other: &Self) -> bool {
        self.clone().normalised().architecture == other.clone().normalised().architecture
    }

    /// How well an image for `offered` serves this platform, 0 being best; `None` where it does not run there. These are
    /// the rules of `Only` in containerd's platforms package: `amd64/v3` takes v3, v2, plain amd64 and then 386, `amd64`
    /// plain amd64 and 386, `arm/v7` v7, v6 and v5; `arm64` v8 and then 32-bit arm.
    #[must_use]
    pub fn rank(&self, offered: &Self) -> Option<usize> {
        let offered = offered.clone().normalised();
        self.clone().normalised().compatible().iter().position(|platform| *platform == offered)
    }

    /// What runs here, the best first. To be called on a normalised platform.
    fn compatible(&self) -> Vec<Self> {
        let of = |architecture: &str, variant: Option<String>| {
            let (os, architecture) = (self.os.clone(), architecture.to_owned());
            Self { os, architecture, variant }.normalised()
        };
        let version = |text: &str| text.strip_prefix('v').and_then(|version| version.parse::<u8>().ok());
        let downwards = |first: u8, last: u8| (last..=first).rev().map(|version| Some(format!("v{version}")));
        let mut all = vec![self.clone()];
        match self.architecture.as_str() {
            "amd64" => {
                if let Some(variant @ 2..) = self.variant.as_deref().and_then(version) {
                    all.extend(downwards(variant - 1, 1).map(|variant| of("amd64", variant)));
                }
                all.push(of("386", None));
            }
            "arm" => {
                if let Some(variant @ 6..) = self.variant.as_deref().and_then(version) {
                    all.extend(downwards(variant - 1, 5).map(|variant| of("arm", variant)));
                }
            }
            "arm64" => {
                let variant = self.variant.as_deref().unwrap_or("v8");
                let (major, minor) = variant.split_once('.').unwrap_or((variant, "0"));
                let lower = |major: u8, minor: u8| {
                    (0..=minor).rev().map(move |minor| of("arm64", Some(format!("v{major}.{minor}"))))
                };
                // Armv9.N has all that Armv8.(N+5) has; 8.9 is the last of them.
                match (version(major), minor.parse::<u8>()) {
                    (Some(8), Ok(minor)) => all.extend(lower(8, minor)),
                    (Some(9), Ok(minor)) => {
                        all.extend(lower(9, minor).chain(lower(8, minor.saturating_add(5).min(9))));
                    }
                    _ => {}
                }
                all.extend(downwards(8, 5).map(|variant| of("arm", variant)));
            }
            _ => {}
        }
        all
    }

    /// One spelling for each platform: `x86_64` is `amd64`, `aarch64` and `arm64/v8` are `arm64`, `armhf` is `arm/v7`
    /// (containerd's platforms package, which docker and buildah share).
    #[must_use]
    pub fn normalised(mut self) -> Self {
        self.os = self.os.to_ascii_lowercase();
        if self.os == "macos" {
            "darwin".clone_into(&mut self.os);
        }
        let named = self.architecture.to_ascii_lowercase();
        self.architecture = go_architecture(&named);
        let variant = self.variant.map(|variant| variant.to_ascii_lowercase());
        let variant = variant.filter(|variant| !variant.is_empty());
        self.variant = match (self.architecture.as_str(), variant.as_deref()) {
            ("386", _) | ("amd64", Some("v1")) | ("arm64", Some("8" | "v8" | "v8.0")) => None,
            ("arm64", Some("9" | "9.0" | "v9.0")) => Some("v9".to_owned()),
            ("arm", _) if named == "armhf" => Some("v7".to_owned()),
            ("arm", _) if named == "armel" => Some("v6".to_owned()),
            ("arm", None) => Some("v7".to_owned()),
            ("arm", Some(version @ ("5" | "6" | "7" | "8"))) => Some(format!("v{version}")),
            _ => variant,
        };
        self
    }
}

fn go_architecture(name: &str) -> String {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "x86" | "i386" => "386",
        "armhf" | "armel" => "arm",
        "powerpc64" => "ppc64le",
        other => other,
    }
    .to_owned()
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<_> = text.split('/').collect();
        let plain = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        };
        if !parts.iter().all(plain) {
            return Err(PlatformError(text.to_owned()));
        }
        let (os, architecture, variant) = match parts.as_slice() {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some((*variant).to_owned())),
            _ => return Err(PlatformError(text.to_owned())),
        };
        Ok(Self { os: (*os).to_owned(), architecture: (*architecture).to_owned(), variant }.normalised())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_platform_are_equal() {
        for (text, plain) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/ARM64/V8.0", "linux/arm64"),
            ("linux/arm64/9", "linux/arm64/v9"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel/v9", "linux/arm/v6"),
            ("linux/i386/v1", "linux/386"),
            ("macos/amd64/v1", "darwin/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), plain);
        }
    }

    #[test]
    fn a_platform_needs_two_or_three_parts() {
        for text in ["", "linux", "linux/", "a/b/c/d", "linux/amd 64"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    /// The order in which containerd's `platforms.Only` sorts.
    #[test]
    fn what_runs_on_a_platform_is_ranked_as_containerd_does() {
        for (wanted, ranked) in [
            ("linux/amd64", &["amd64", "386"][..]),
            ("linux/amd64/v3", &["amd64/v3", "amd64/v2", "amd64", "386"]),
            ("linux/arm", &["arm/v7", "arm/v6", "arm/v5"]),
            ("linux/arm/v6", &["arm/v6", "arm/v5"]),
            ("linux/arm64", &["arm64", "arm/v8", "arm/v7", "arm/v6", "arm/v5"]),
            (
                "linux/arm64/v8.2",
                &["arm64/v8.2", "arm64/v8.1", "arm64", "arm/v8", "arm/v7", "arm/v6", "arm/v5"],
            ),
            (
                "linux/arm64/v9",
                &[
                    "arm64/v9",
                    "arm64/v8.5",
                    "arm64/v8.4",
                    "arm64/v8.3",
                    "arm64/v8.2",
                    "arm64/v8.1",
                    "arm64",
                    "arm/v8",
                    "arm/v7",
                    "arm/v6",
                    "arm/v5",
                ],
            ),
            ("linux/s390x", &["s390x"]),
        ] {
            let wanted: Platform = wanted.parse().unwrap();
            let mut all: Vec<String> = wanted.compatible().iter().map(ToString::to_string).collect();
            // Its own name stands twice where its variant has one.
            all.dedup();
            let expected: Vec<_> = ranked.iter().map(|platform| format!("linux/{platform}")).collect();
            assert_eq!(all, expected, "{wanted}");
        }
        let amd64: Platform = "linux/amd64".parse().unwrap();
        for (offered, rank, accepted) in [
            ("linux/amd64", Some(0), true),
            ("linux/amd64/v1", Some(0), true),
            ("linux/386", Some(1), false),
            ("linux/amd64/v3", None, false),
            ("windows/amd64", None, false),
        ] {
            let offered: Platform = offered.parse().unwrap();
            assert_eq!((amd64.rank(&offered), amd64.accepts(&offered)), (rank, accepted), "{offered}");
        }
    }
}
