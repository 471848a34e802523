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

    /// Whether an image for `offered` runs here: the same system and processor, and the same variant where this
    /// platform asks for one.
    #[must_use]
    pub fn accepts(&self, offered: &Self) -> bool {
        let (wanted, offered) = (self.clone().normalised(), offered.clone().normalised());
        wanted.os == offered.os
            && wanted.architecture == offered.architecture
            && (wanted.variant.is_none() || wanted.variant == offered.variant)
    }

    /// One spelling for each platform: `x86_64` is `amd64`, `aarch64` and `arm64/v8` are `arm64`
    /// (containerd's platforms package, which docker and buildah share).
    #[must_use]
    pub fn normalised(mut self) -> Self {
        self.os = self.os.to_ascii_lowercase();
        self.architecture = go_architecture(&self.architecture.to_ascii_lowercase());
        self.variant = self.variant.filter(|v| !v.is_empty());
        match (self.architecture.as_str(), self.variant.as_deref()) {
            ("arm64", Some("v8" | "8")) | ("amd64", Some("v1")) => self.variant = None,
            ("arm", None) => self.variant = Some("v7".to_owned()),
            ("arm", Some("5" | "6" | "7" | "8")) => self.variant = self.variant.map(|v| format!("v{v}")),
            _ => {}
        }
        self
    }
}

fn go_architecture(name: &str) -> String {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "x86" | "i386" => "386",
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
}
