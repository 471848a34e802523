//! The bodies of the fuzz targets, each a type that is made once and `run` with many inputs. `run` panics where something
//! does not hold. The targets run them; so does a test of crossdock-builder, with the seeds.

mod archive;
mod base_index;
mod containerfile;
mod model;
mod packing;
mod seeds;

pub use self::archive::Archives;
pub use self::base_index::Layers;
pub use self::containerfile::Containerfiles;
pub use self::model::{model, seeds as model_seeds};
pub use self::seeds::{archives as archive_seeds, write_archive_seeds, write_model_seeds};
