//! How an image or list that is remembered here is sent on: what `push` and `manifest push` have in common.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use crossdock_builder::{AssembleOptions, Conversion};
use crossdock_registry::{RegistriesConf, Registry};
use crossdock_storage::{Counters, IoMode, MemoStore, ReadOptions, Warnings};

use crate::args::{ProgressStyle, RegistryArgs, WorkArgs, number};
use crate::destination::{Destination, pushable, takes_stdout, transport_of};
use crate::exit::UsageError;
use crate::options::{compression, writable};
use crate::report::Told;
use crate::session::{print, print_aside, print_json, print_json_aside, write_digest};
use crate::{progress, registries, session, signals};

/// How something is sent.
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// Write the digest of the manifest, or of the list, to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,

    /// Media types of manifests and lists: oci or docker (v2s2) [default: those they have]
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,

    /// How layers made of files are stored: none, zstd or gzip [default: as they were built]
    #[arg(long, value_name = "FORMAT")]
    compression_format: Option<String>,

    /// Level of the compression: 1 to 22 for zstd (default 3), 0 to 9 for gzip (default 6)
    #[arg(long, value_name = "LEVEL", value_parser = number::<u8>(0..=22), requires = "compression_format")]
    compression_level: Option<u8>,

    /// Do not find out first whether the destination takes a push and layers so large
    #[arg(long)]
    no_preflight: bool,

    #[command(flatten)]
    work: WorkArgs,

    /// Print nothing
    #[arg(short, long, conflicts_with = "progress")]
    quiet: bool,

    /// Whether standard output is left alone, as buildah does.
    #[arg(skip)]
    pub(crate) report_on_stderr: bool,

    #[command(flatten)]
    registry: RegistryArgs,
}

/// The same, understood.
#[derive(Debug)]
pub(crate) struct SendOptions {
    pub(crate) destination: Destination,
    pub(crate) conversion: Conversion,
    pub(crate) preflight: bool,
    digestfile: Option<PathBuf>,
    io: IoMode,
}

impl SendArgs {
    /// What was asked for of the image or list `name`; `compressed` says how where no option does.
    ///
    /// # Errors
    /// What cannot be carried out, by option.
    pub(crate) fn options(
        &self,
        name: &str,
        destination: Option<&str>,
        compressed: Option<&str>,
    ) -> Result<SendOptions> {
        let format = self.format.as_deref().map(str::parse).transpose();
        let format = format.map_err(|e: String| anyhow!("--format: {e}"))?;
        let compressed = self.compression_format.as_deref().or(compressed);
        let destination = destination_of(name, destination)?;
        if takes_stdout(std::slice::from_ref(&destination))? {
            session::leave_stdout_alone();
        }
        Ok(SendOptions {
            conversion: Conversion {
                format: destination.format(format)?,
                compression: compressed
                    .map(|format| compression(format, self.compression_level))
                    .transpose()?,
            },
            destination,
            preflight: !self.no_preflight,
            digestfile: writable(self.digestfile.as_deref(), "--digestfile")?,
            io: self.work.io.parse().map_err(|e: String| anyhow!("--io: {e}"))?,
        })
    }

    /// The registries, as the options have them.
    ///
    /// # Errors
    /// Options that cannot be carried out.
    pub(crate) fn registry(
        &self,
        options: &SendOptions,
        conf: RegistriesConf,
        counters: &Arc<Counters>,
        root: Option<&Path>,
    ) -> Result<Registry> {
        let destination = options.destination.registry();
        Ok(registries::registry(&self.registry, conf, destination, Arc::clone(counters), root)
            .map_err(UsageError)?)
    }

    /// How the layers are read.
    pub(crate) fn assembling(
        &self,
        options: &SendOptions,
        counters: &Arc<Counters>,
        root: Option<&Path>,
    ) -> AssembleOptions {
        AssembleOptions {
            read: ReadOptions {
                io: options.io,
                counters: Arc::clone(counters),
                cancel: signals::cancel(),
                digest_content: false,
            },
            jobs: self.work.jobs(),
            memos: root.map(MemoStore::new),
            trust: None,
            progress: progress::display(self.work.progress, self.quiet),
            cancel: signals::cancel(),
            warnings: Warnings::default(),
        }
    }

    /// Writes the file that was asked for, then the report.
    ///
    /// # Errors
    /// Where either cannot be written.
    pub(crate) fn tell(&self, options: &SendOptions, report: &impl Told) -> Result<()> {
        write_digest(options.digestfile.as_deref(), report.digest())?;
        if self.quiet {
            return Ok(());
        }
        match (self.work.progress == ProgressStyle::Json, self.report_on_stderr) {
            (true, true) => print_json_aside(&report.json()),
            (true, false) => print_json(&report.json()),
            (false, true) => print_aside(&report.text()),
            (false, false) => print(&report.text()),
        }
    }
}

/// Where it goes; by its own name where nothing is said.
fn destination_of(name: &str, destination: Option<&str>) -> Result<Destination> {
    let text = destination.unwrap_or(name);
    if let Some((transport, rest)) = transport_of(text) {
        if transport != "docker" {
            return Destination::on_disk(text, &[]);
        }
        if !rest.starts_with("//") {
            bail!("{text}: write docker://{rest}");
        }
    }
    Ok(Destination::Registry(vec![pushable(text).with_context(|| text.to_owned())?]))
}
