#![no_main]

use std::sync::LazyLock;

use crossdock_fuzz::{Archives, write_archive_seeds};
use libfuzzer_sys::fuzz_target;

static BODY: LazyLock<Archives> = LazyLock::new(Archives::new);

fuzz_target!(init: write_archive_seeds(), |data: &[u8]| BODY.run(data));
