//! The plan of a build, for each of its platforms.

use std::sync::Arc;

use anyhow::Result;
use crossdock_builder::containerfile::Containerfile;
use crossdock_builder::{
    Assembly, LayerKeys, LayerOptions, PlanOptions, PlannedStage, base_references, plan, to_assembly,
};
use crossdock_storage::{Compression, Error as StorageError, ImageSink, Platform, blocking};
use jiff::Timestamp;
use serde_json::json;

use crate::args::ProgressStyle;
use crate::bases::Bases;
use crate::model::{ModelCheck, Models};
use crate::options::BuildOptions;
use crate::session::print_json;
use crate::{context, signals};

/// The plan for one platform.
pub(crate) struct PlannedPlatform {
    pub(crate) platform: Platform,
    pub(crate) stages: Vec<PlannedStage>,
    pub(crate) assembly: Assembly,
}

/// Plans the image for each platform, looks at its models, and adds what there is to warn of to the warnings of `bases`; the
/// first question to the destinations is whether they may be written to.
pub(crate) async fn plan_images(
    options: &Arc<BuildOptions>,
    bases: &Bases,
    sinks: &[Arc<dyn ImageSink>],
) -> Result<(Vec<PlannedPlatform>, Models)> {
    let cancel = signals::cancel();
    let (asked, stop) = (Arc::clone(options), cancel.clone());
    let (file, archive) = cancel.or(blocking(move || context::containerfile(&asked, &stop))).await?;
    let file = Arc::new(file);
    // What is refused is refused before the context is looked at.
    let mut wanted = options.platforms.clone();
    if options.all_platforms {
        let options = plan_options(options, &Platform::host());
        wanted = cancel.or(all_platforms(&file, &options, bases)).await?;
    }
    let plans: Vec<_> = wanted.iter().map(|platform| plan_options(options, platform)).collect();
    for plan in &plans {
        crossdock_builder::check(&file, plan)?;
    }
    let (asked, stop) = (Arc::clone(options), cancel.clone());
    let context = Arc::new(cancel.or(blocking(move || context::open(&asked, archive, &stop))).await?);
    // A credential that is missing shows before the context and the base's layers are looked through.
    for sink in sinks {
        cancel.or(sink.admit()).await?;
    }
    let layer_options = LayerOptions {
        layer_file_size: (!options.squash).then_some(options.layer_file_size),
        mtime: options.time_of_files(),
        keep_mtime: options.keep_mtime,
        latest_mtime: options.source_date_epoch.filter(|_| options.rewrite_timestamp),
        compression: options.compression,
        format: options.format,
        layer_keys: match options.reuse.layer_keys {
            false => LayerKeys::None,
            // Whoever sets the time wants the same manifest of the same files, wherever these came from.
            true if options.timestamp.or(options.source_date_epoch).is_some() => LayerKeys::Key,
            true => LayerKeys::KeyAndContent,
        },
        annotations: options.annotations.clone(),
        omit_history: options.omit_history,
        modelcar: options.modelcar.clone(),
    };
    if matches!(options.compression, Compression::Zstd { .. }) {
        let text = "layers stored as zstd: KServe's oci+fetch:// refuses them; --compression-format gzip is read everywhere";
        match options.modelcar {
            Some(_) => bases.ahead.warnings.add(text),
            None => tracing::info!("{text}"),
        }
    }
    context.warning().into_iter().for_each(|warning| bases.ahead.warnings.add(warning));
    let mut models = Models::new(options.model_check);
    let mut planned = Vec::with_capacity(plans.len());
    for (platform, plan_options) in wanted.into_iter().zip(&plans) {
        let mut image = plan(&file, &context, plan_options, bases).await?;
        let of_file = file.warnings.iter().map(ToString::to_string);
        let of_model = models.add(std::mem::take(&mut image.model));
        let of_image = image.warnings.iter().map(ToString::to_string);
        of_file.chain(of_image).chain(of_model).for_each(|warning| bases.ahead.warnings.add(warning));
        let stages = std::mem::take(&mut image.stages);
        let own_options = layer_options.clone();
        let mut assembly = blocking(move || to_assembly(image, &own_options)).await?;
        cancel.check()?;
        models.add_layers(&assembly, layer_options.layer_file_size);
        planned.iter().for_each(|earlier: &PlannedPlatform| assembly.share(&earlier.assembly));
        planned.push(PlannedPlatform { platform, stages, assembly });
    }
    if let Some(broken) = models.broken() {
        if options.progress == ProgressStyle::Json {
            print_json(&json!({ "event": "model", "model": models.json() }))?;
        }
        return Err(broken.into());
    }
    Ok((planned, models))
}

/// The platforms that all bases are there for.
async fn all_platforms(file: &Containerfile, options: &PlanOptions, bases: &Bases) -> Result<Vec<Platform>> {
    let mut common: Option<Vec<Platform>> = None;
    for reference in base_references(file, options)? {
        let Some(offered) = bases.platforms(&reference).await? else {
            return Err(StorageError::Unusable(format!(
                "--all-platforms: {reference} is one image and not a list of them; name platforms with --platform"
            ))
            .into());
        };
        common = Some(match common {
            None => offered,
            Some(common) => common.into_iter().filter(|platform| offered.contains(platform)).collect(),
        });
    }
    match common {
        Some(platforms) if !platforms.is_empty() => Ok(platforms),
        Some(_) => {
            let text = "--all-platforms: the base images have no platform in common".to_owned();
            Err(StorageError::Unusable(text).into())
        }
        None => {
            let text =
                "--all-platforms: no base image says which there are; name them with --platform".to_owned();
            Err(StorageError::Unusable(text).into())
        }
    }
}

fn plan_options(options: &BuildOptions, platform: &Platform) -> PlanOptions {
    let now = match options.timestamp.or(options.source_date_epoch) {
        Some(seconds) => i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok()),
        None => Some(Timestamp::now()),
    };
    let mut plan = PlanOptions::new(platform.clone());
    plan.build_args.clone_from(&options.build_args);
    plan.build_contexts.clone_from(&options.build_contexts);
    plan.labels.clone_from(&options.labels);
    plan.env.clone_from(&options.env);
    plan.unset_env.clone_from(&options.unset_env);
    plan.unset_labels.clone_from(&options.unset_labels);
    plan.inherit_labels = options.inherit_labels;
    plan.from.clone_from(&options.from);
    plan.build_platform = Platform::host();
    plan.target.clone_from(&options.target);
    plan.created = now.map(|time| time.to_string());
    plan.squash = options.squash;
    plan.check_models = options.model_check != ModelCheck::Off;
    plan.downloads = options.downloads;
    plan.cancel = signals::cancel();
    plan
}
