//! OCI image layouts on disk (OCI image-spec, image-layout.md): as a source of base images, and as a sink.

mod index;
mod sink;
mod source;

use crate::error::{Error, Result};
use crate::json::from_json;

pub use index::is_index;
pub(crate) use index::{check_children, with_manifest};
pub use sink::LayoutSink;
pub(crate) use sink::readable;
pub use source::LayoutSource;

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], what: impl FnOnce() -> String) -> Result<T> {
    from_json(bytes).map_err(|source| Error::Malformed { what: what(), source })
}
