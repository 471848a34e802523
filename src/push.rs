//! `crossdock push`: an image that is remembered here goes where it belongs, from the files it is made of.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use crossdock_builder::send;
use crossdock_registry::RegistriesConf;
use crossdock_storage::{Counters, ImageRecord, Platform, blocking};

use crate::args::{ConfArgs, PushArgs};
use crate::exit::UsageError;
use crate::local::LocalImages;
use crate::manifest::{ListPush, push_list};
use crate::registries;
use crate::report::{Effort, Report};
use crate::send::SendOptions;
use crate::session::root_directory;
use crate::signals::{self, block_on_to_end};

/// Runs the command.
///
/// # Errors
/// All that can go wrong; `exit::code` sorts it.
pub(crate) fn run(args: &PushArgs, root: Option<&Path>, conf: &ConfArgs) -> Result<()> {
    let conf = registries::conf(conf).map_err(UsageError)?;
    signals::moves_tags();
    let root = root_directory(root);
    let local = LocalImages::new(root.as_deref())?;
    let options = || {
        let compressed = args.disable_compression.then_some("none");
        args.send.options(&args.image, args.destination.as_deref(), compressed).map_err(UsageError)
    };
    let image = match local.find_list(&args.image)? {
        Some(list) if args.all => {
            let options = options()?;
            let push = ListPush { send: &args.send, options: &options, all: true };
            let report = block_on_to_end(push_list(&push, &local, &list, root.as_deref(), conf))?;
            return args.send.tell(&options, &report);
        }
        // As buildah does: the one that runs here.
        Some(list) => {
            let chosen = list.select(&Platform::host(), &args.image);
            local.member(
                chosen.context("no image of the list is for this machine: use --all to push all of it")?,
            )?
        }
        None => local.find(&args.image)?,
    };
    let options = options()?;
    let report = block_on_to_end(push(args, &options, &local, &image, root.as_deref(), conf))?;
    args.send.tell(&options, &report)
}

async fn push(
    args: &PushArgs,
    options: &SendOptions,
    local: &LocalImages,
    image: &ImageRecord,
    root: Option<&Path>,
    conf: RegistriesConf,
) -> Result<Report> {
    let began = Instant::now();
    let counters = Arc::<Counters>::default();
    let registry = args.send.registry(options, conf, &counters, root)?;
    let (local, image, from) = (local.clone(), image.clone(), registry.clone());
    let sealed = blocking(move || local.sealed(&image, &from)).await?;
    let sink = options.destination.sink(&registry, options.preflight, &[])?;
    let settings = args.send.assembling(options, &counters, root);
    let sent = send(&sealed, options.conversion, &sink, &settings).await?;
    signals::published(options.destination.names());
    Ok(Report {
        names: options.destination.names(),
        recorded: false,
        digest: sent.manifest.digest().clone(),
        image_id: sent.config.digest().clone(),
        layers: sent.layers,
        models: None,
        effort: Effort::since(began, &counters),
    })
}
