//! The disk that buildah takes for the same image, with the vfs driver that pipelines use it with, and `--layers=false`.
//! docs/dry-run.md explains the formula.

use crossdock_builder::ForeseenLayer;

/// Bytes, at least: of base layers only what they have compressed is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct BuildahDisk {
    /// That are occupied at a time.
    pub(super) peak: u64,
    /// That `bud` and `push` write.
    pub(super) written: u64,
}

impl BuildahDisk {
    /// For these images, built one after the other into one store.
    pub(super) fn of(images: &[Vec<ForeseenLayer>]) -> Self {
        let mut disk = Self::default();
        let mut stored = 0;
        for layers in images {
            let new: u64 =
                layers.iter().filter(|layer| !layer.from_base).filter_map(|layer| layer.archive).sum();
            // Each layer of the base is in the store with all that is below it.
            let (mut base, mut chain) = (0, 0);
            for layer in layers.iter().filter(|layer| layer.from_base) {
                base += layer.archive.unwrap_or(layer.bytes);
                chain += base;
            }
            // Beside the base: the container that is built in, the archive of what is new, its copy as a blob, and
            // the image's layer.
            let build = (base + new) + new + new + (base + new);
            disk.peak = disk.peak.max(stored + chain + build);
            disk.written += chain + build;
            stored += chain + base + new;
        }
        // The push writes each new layer to a temporary file before it sends it.
        let pushed: u64 = images.iter().flatten().filter(|l| !l.from_base).filter_map(|l| l.archive).sum();
        disk.written += pushed;
        disk
    }
}

#[cfg(test)]
mod tests {
    use crossdock_storage::{MediaType, Outcome};

    use super::*;

    fn layer(from_base: bool, bytes: u64) -> ForeseenLayer {
        ForeseenLayer {
            title: String::new(),
            from_base,
            media_type: MediaType::ImageLayer,
            digest: None,
            bytes,
            archive: (!from_base).then_some(bytes),
            outcome: Outcome::Sent,
            shared: false,
            read: 0,
            received: 0,
            files: None,
        }
    }

    #[test]
    fn the_formula_gives_what_the_benchmark_measured() {
        // docs/bench/results.md: 4 GiB FROM scratch, 16.0 GiB at the peak, 20.0 GiB written.
        let disk = BuildahDisk::of(&[vec![layer(false, 3 << 30), layer(false, 1 << 30)]]);
        assert_eq!(disk, BuildahDisk { peak: 16 << 30, written: 20 << 30 });
    }

    #[test]
    fn a_base_is_there_once_a_layer_and_twice_beside() {
        let disk = BuildahDisk::of(&[vec![layer(true, 10), layer(true, 5), layer(false, 100)]]);
        assert_eq!(disk.peak, (10 + 15) + 2 * 15 + 4 * 100);
    }
}
