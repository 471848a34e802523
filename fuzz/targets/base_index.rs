#![no_main]

use std::sync::LazyLock;

use crossdock_fuzz::{Layers, write_archive_seeds};
use libfuzzer_sys::fuzz_target;

static BODY: LazyLock<Layers> = LazyLock::new(Layers::new);

fuzz_target!(init: write_archive_seeds(), |data: &[u8]| BODY.run(data));
