#![forbid(unsafe_code)]
//! The OCI distribution protocol: images come from registries and go to them.
//!
//! [`Registry`] is the way to all registries. [`Registry::source`] makes a [`RegistrySource`], which is a
//! [`crossdock_storage::ImageSource`]; [`Registry::sink`] makes a [`RegistrySink`], which is a
//! [`crossdock_storage::ImageSink`]. The bytes of layers go from their source files to the connection without a copy,
//! hashed on the way; a request that fails is made again with a body made anew; a tag moves last.
//!
//! Nothing here reads the environment, prints, or keeps a secret where it could be seen: what is needed comes in
//! [`RegistryOptions`].

mod access;
mod auth;
mod body;
mod body_limit;
mod chunks;
mod client;
mod cluster;
mod conf;
mod credentials;
mod endpoint;
mod error;
mod expiry;
mod foreign;
mod host;
mod image_config;
mod journal;
mod known;
mod logins;
mod manifest;
mod mirrors;
mod no_proxy;
mod preflight;
mod profile;
mod proxy;
mod pull;
mod push;
mod reference;
mod resume;
mod retry;
mod secret;
mod tls;
mod token;
mod upload;
mod veil;
mod verify;

pub use access::{AccessReport, Permission};
pub use client::{ProxyOptions, Registry, RegistryOptions, Timeouts};
pub use conf::{ConfGiven, ConfPaths, Place, RegistriesConf};
pub use credentials::{
    CredentialEnv, CredentialOptions, CredentialSource, ServiceAccountOptions, SourceOutcome,
};
pub use error::{Error, Result};
pub use logins::{Login, Logins};
pub use mirrors::MirroredSource;
pub use profile::UploadStyle;
pub use pull::RegistrySource;
pub use push::RegistrySink;
pub use reference::Reference;
pub use retry::RetryPolicy;
pub use secret::Secret;
pub use tls::TrustOptions;
pub use verify::{
    Depth, Mismatch, Sampling, Verified, VerifiedBlob, VerifiedFiles, VerifiedManifest, VerifyOptions,
};
