//! The report of a list of images.

use crossdock_builder::{Assembled, AssembledLayer};
use crossdock_storage::{Digest, Platform, escape_line};
use serde_json::{Value, json};

use crate::model::Models;
use crate::reuse::{add_trusted, trusted_line};

use super::{Effort, Told, layer_lines, layers_json};

/// A list of images that is where it belongs.
#[derive(Debug)]
pub(crate) struct ListReport {
    /// The list's names at its destinations, or here.
    pub(crate) names: Vec<String>,
    /// The ID under which it is remembered, where it is sent nowhere.
    pub(crate) recorded: Option<Digest>,
    /// The index's digest.
    pub(crate) digest: Digest,
    /// In the index's order.
    pub(crate) images: Vec<ListedReport>,
    /// What was seen of their models, where they were built.
    pub(crate) models: Option<Models>,
    pub(crate) effort: Effort,
}

/// An image of the list.
#[derive(Debug)]
pub(crate) struct ListedReport {
    platform: Option<String>,
    digest: Digest,
    image_id: Digest,
    layers: Vec<AssembledLayer>,
}

impl ListedReport {
    pub(crate) fn new(platform: Option<&Platform>, image: Assembled) -> Self {
        Self {
            platform: platform.map(ToString::to_string),
            digest: image.manifest.digest().clone(),
            image_id: image.config.digest().clone(),
            layers: image.layers,
        }
    }
}

impl Told for ListReport {
    fn digest(&self) -> &Digest {
        &self.digest
    }

    fn text(&self) -> String {
        let mut lines: Vec<_> =
            self.names.iter().map(|name| format!("list     {}", escape_line(name))).collect();
        lines.push(match &self.recorded {
            Some(id) => format!("id       {id}"),
            None => format!("digest   {}", self.digest),
        });
        for image in &self.images {
            let platform = image.platform.as_deref().unwrap_or("no platform");
            lines.push(format!("image    {platform}"));
            lines.push(format!("  digest {}", image.digest));
            lines.push(format!("  id     {}", image.image_id));
            lines.extend(layer_lines(&image.layers, "  "));
        }
        lines.extend(self.models.iter().flat_map(Models::lines));
        lines.extend(trusted_line(self.images.iter().flat_map(|image| &image.layers)));
        lines.extend(self.effort.lines(self.images.iter().flat_map(|image| &image.layers)));
        if let Some(id) = &self.recorded {
            // As for an image: what a script goes on with.
            lines.push(id.digest().to_owned());
        }
        lines.join("\n") + "\n"
    }

    fn json(&self) -> Value {
        let image = |image: &ListedReport| {
            json!({
                "platform": image.platform,
                "digest": image.digest.to_string(),
                "image_id": image.image_id.to_string(),
                "layers": layers_json(&image.layers),
            })
        };
        let mut report = json!({
            "event": "list",
            "names": self.names,
            "recorded": self.recorded.is_some(),
            "list_id": self.recorded.as_ref().map(ToString::to_string),
            "digest": self.digest.to_string(),
            "images": self.images.iter().map(image).collect::<Vec<_>>(),
        });
        if let Some(models) = &self.models {
            report["model"] = models.json();
        }
        report.as_object_mut().into_iter().for_each(|report| {
            self.effort.add_to(report);
            add_trusted(report, self.images.iter().flat_map(|image| &image.layers));
        });
        report
    }
}
